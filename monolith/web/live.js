// @ts-check
// The page /live?video=ID. Also: `overlay=burned` begins with boxes that the server draws, `results=events` takes results
// by server-sent events.

import "/web/live-player.js";
import { ask } from "/web/api.js";
import { showSession } from "/web/session.js";

const query = new URLSearchParams(location.search);
const place = /** @type {HTMLElement} */ (document.getElementById("player"));
const videoId = query.get("video")?.trim();

/** @param {string} videoId */
async function showName(videoId) {
  const video = await (await ask(`/analysis/${videoId}`)).json();
  /** @type {HTMLElement} */ (document.getElementById("title")).textContent = video.video_name;
  document.title = `${video.video_name}, live`;
  const links = /** @type {HTMLElement} */ (document.getElementById("links"));
  for (const [text, path] of [["details", ""], ["results", "/results?limit=100"], ["events", "/events"]]) {
    const link = Object.assign(document.createElement("a"), { textContent: text });
    link.href = `/analysis/${videoId}${path}`;
    links.append(" · ", link);
  }
}

if (videoId) {
  const player = document.createElement("live-player");
  player.setAttribute("video", videoId);
  player.setAttribute("results", query.get("results") ?? "channel");
  place.append(player);
  const burned = /** @type {HTMLInputElement} */ (player.querySelector(".burned"));
  if (query.get("overlay") === "burned") burned.click();
  showName(videoId).catch(console.warn);
} else {
  place.textContent = "Which video? Take “watch live” in the list of videos, or add ?video=ID to the address.";
}
showSession(/** @type {HTMLElement} */ (document.getElementById("session"))).catch(console.warn);
