// @ts-check
// The page /publish: a camera or screen by WHIP, or an address for RTMP, and beside it what is found.

import "/web/live-player.js";
import { post, words } from "/web/api.js";
import { copyOnClick } from "/web/copying.js";
import { showSession } from "/web/session.js";
import { capture, Publisher } from "/web/whip.js";

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const form = /** @type {HTMLFormElement} */ (element("form"));
const stop = /** @type {HTMLButtonElement} */ (element("stop"));
const preview = /** @type {HTMLVideoElement} */ (element("preview"));
/** @type {Publisher | null} */
let publisher = null;

/** @param {string} text */
const say = (text) => void (element("message").textContent = text);

/** What the endpoints take. */
function wanted() {
  const data = new FormData(form);
  return { videoName: data.get("name"), modelsToRun: data.getAll("models"), frameStep: Number(data.get("step")) };
}

/** @param {string} videoId */
function watch(videoId) {
  const player = document.createElement("live-player");
  player.setAttribute("video", videoId);
  element("player").replaceChildren(player);
  element("watched").hidden = false;
}

async function makeAddress() {
  const made = await post("/analysis/rtmp-endpoint", wanted());
  const end = made.rtmp_endpoint.lastIndexOf("/");
  /** @type {HTMLInputElement} */ (element("server")).value = made.rtmp_endpoint.slice(0, end);
  /** @type {HTMLInputElement} */ (element("key")).value = made.rtmp_endpoint.slice(end + 1);
  element("rtmp").hidden = false;
  say("The address is ready. Begin to publish there; what is found appears below.");
  watch(made.video_id);
}

/** @param {"camera" | "screen"} kind */
async function send(kind) {
  const media = await capture(kind);
  const begun = new Publisher(media);
  try {
    const made = await post("/analysis/webrtc-endpoint", wanted());
    await begun.publish(made.video_id, made.token);
    watch(made.video_id);
  } catch (error) {
    await begun.stop();
    throw error;
  }
  publisher = begun;
  begun.addEventListener("end", (event) => ended(/** @type {CustomEvent} */ (event).detail));
  preview.srcObject = media;
  element("sent").hidden = stop.hidden = false;
  for (const button of form.querySelectorAll("button[name]")) /** @type {HTMLButtonElement} */ (button).disabled = true;
  say(`Your ${kind} is being published.`);
}

/** @param {string} text */
function ended(text) {
  publisher = null;
  preview.srcObject = null;
  element("sent").hidden = stop.hidden = true;
  for (const button of form.querySelectorAll("button[name]")) /** @type {HTMLButtonElement} */ (button).disabled = false;
  say(text);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = /** @type {HTMLButtonElement} */ (event.submitter)?.value ?? "camera";
  say("…");
  try {
    await (kind === "rtmp" ? makeAddress() : send(/** @type {"camera" | "screen"} */ (kind)));
  } catch (error) {
    say(words(error));
  }
});
stop.addEventListener("click", async () => {
  await publisher?.stop();
  ended("Ended. The video is complete once its last pictures are analysed.");
});
copyOnClick(document);
showSession(element("session")).catch(console.warn);
