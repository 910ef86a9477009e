// @ts-check
// The list of videos, newest first, looked at again every few seconds.

import { showSession, signIn } from "/web/session.js";

const REFRESH_MS = 3000;
const NEWEST = 50;

/** @typedef {{video_id: string, video_name: string, status: string, error: string | null, progress: number | null,
 *   live: boolean, media: object | null, video_url: string, frames_analyzed: number, frames_sampled: number | null,
 *   greatest_frame_analyzed: number}} Video */

/** @param {string} text @param {string} href */
function link(text, href) {
  const anchor = document.createElement("a");
  anchor.textContent = text;
  anchor.href = href;
  return anchor;
}

/** Whether it is watched while it comes, or will be. @param {Video} video */
function isLive({ status, live, media, video_url }) {
  return ["Pending", "Processing"].includes(status) && (live || (!media && /^(rtmp|webrtc):/.test(video_url)));
}

/** @param {Video} video */
function row(video) {
  const address = `/analysis/${video.video_id}`;
  const line = document.createElement("tr");
  const texts = [
    video.video_name,
    video.error ? `${video.status}: ${video.error}` : video.status,
    isLive(video) ? "live" : video.progress === null ? "?" : `${Math.round(video.progress * 100)} %`,
    isLive(video) ? `${video.frames_analyzed}` : `${video.frames_analyzed} of ${video.frames_sampled ?? "?"}`,
  ];
  for (const text of texts) line.insertCell().textContent = text;
  const links = line.insertCell();
  if (isLive(video)) links.append(link("watch live", `/live?video=${video.video_id}`), " ");
  links.append(link("details", address), " ", link("results", `${address}/results`), " ");
  if (video.greatest_frame_analyzed > 0) {
    links.append(link("newest frame", `${address}/frame/${video.greatest_frame_analyzed}`));
  }
  return line;
}

async function refresh() {
  const list = /** @type {HTMLElement} */ (document.getElementById("videos"));
  const message = /** @type {HTMLElement} */ (document.getElementById("message"));
  try {
    const answer = await fetch(`/analysis/videos?status=all&limit=${NEWEST}`);
    if (answer.status === 401) {
      signIn();
      return;
    }
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    list.replaceChildren(...body.map(row));
    message.textContent = body.length ? "" : "No videos yet.";
  } catch (error) {
    message.textContent = `The server did not answer: ${error}`;
  }
  setTimeout(refresh, REFRESH_MS);
}

showSession(/** @type {HTMLElement} */ (document.getElementById("session"))).catch(console.warn);
refresh();
