// @ts-check
// Watching a video for as long as it lasts: asks how it is, connects, connects again, and says in words what goes on.

import { ask, Problem, words } from "/web/api.js";
import { Viewer } from "/web/whep.js";

/** @typedef {{video_id: string, video_name: string, status: string, error: string | null, live: boolean,
 *   connected: boolean, transport: string | null, media: object | null, coverage: number | null,
 *   frames_analyzed: number, frames_dropped: number, connections: number}} Video */

const SHORTEST_MS = 1000;
const LONGEST_MS = 10_000;
const REFRESH_MS = 2000;
const STILL_MS = 3000;

/** @param {number} milliseconds @param {AbortSignal} signal */
const sleep = (milliseconds, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, milliseconds, undefined);
  signal.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
});

/** @param {Video} video @returns {string | null} why nothing of it will ever be live, or null */
export function whyNever(video) {
  if (video.status === "Failed") return `The video is over: its analysis failed (${video.error}).`;
  if (video.status === "Completed") return "The video is over.";
  if (video.media && !video.live) return "This video is no live video.";
  return null;
}

/**
 * Events: `viewer` (detail: a Viewer that was let in), `gone` (the viewer ended), `video` (detail: how the video is),
 * `say` (detail: {text, final}; text is empty while all is well).
 */
export class Watching extends EventTarget {
  /** @param {string} videoId @param {{burned: boolean, byEvents: boolean}} options */
  constructor(videoId, options) {
    super();
    this.videoId = videoId;
    this.options = options;
    this.stopping = new AbortController();
    /** @type {Viewer | null} */
    this.viewer = null;
    void this.run();
    void this.refresh();
  }

  stop() {
    this.stopping.abort();
    void this.viewer?.close();
  }

  async run() {
    const { signal } = this.stopping;
    let wait = SHORTEST_MS;
    while (!signal.aborted) {
      const began = performance.now();
      try {
        const never = whyNever(await this.video());
        if (never) return this.over(never);
        await this.watch();
        this.say("The connection ended. Connecting again…");
        if (performance.now() - began > LONGEST_MS) wait = SHORTEST_MS;
      } catch (error) {
        if (signal.aborted) return;
        if (isFinal(error)) return this.over(words(error));
        this.say(waitingFor(error));
        if (error instanceof Problem && error.retryAfter) wait = error.retryAfter * 1000;
      }
      await sleep(wait, signal);
      wait = Math.min(wait * 1.5, LONGEST_MS);
    }
  }

  /** Until the viewer's end. */
  async watch() {
    const viewer = new Viewer();
    const ended = new Promise((resolve) => {
      viewer.addEventListener("end", resolve, { once: true });
      this.stopping.signal.addEventListener("abort", resolve, { once: true });
    });
    await viewer.watch(this.videoId, this.options);
    if (this.stopping.signal.aborted) return void viewer.close();
    this.viewer = viewer;
    this.say("");
    this.dispatchEvent(new CustomEvent("viewer", { detail: viewer }));
    await ended;
    this.viewer = null;
    this.dispatchEvent(new Event("gone"));
  }

  /** Tells again and again how the video is, while it is watched. */
  async refresh() {
    const { signal } = this.stopping;
    for (; !signal.aborted; await sleep(REFRESH_MS, signal)) {
      if (!this.viewer) continue;
      try {
        const video = await this.video();
        if (!this.viewer) continue;
        const still = performance.now() - this.viewer.picturedAt > STILL_MS;
        this.say(video.connected || !still ? "" : "The publisher is away. Waiting for it to come again…");
      } catch (error) {
        console.warn(error);
      }
    }
  }

  /** @returns {Promise<Video>} */
  async video() {
    const video = await (await ask(`/analysis/${this.videoId}`)).json();
    this.dispatchEvent(new CustomEvent("video", { detail: video }));
    return video;
  }

  /** @param {string} text @param {boolean} [final] */
  say(text, final = false) {
    this.dispatchEvent(new CustomEvent("say", { detail: { text, final } }));
  }

  /** @param {string} text */
  over(text) {
    this.stopping.abort();
    this.say(text, true);
  }
}

/** @param {unknown} error */
function isFinal(error) {
  if (!(error instanceof Problem)) return !(error instanceof TypeError);
  return ["video-not-found", "invalid-request", "scope-missing", "no-common-codec", "unauthorized"].includes(error.kind);
}

/** @param {unknown} error */
function waitingFor(error) {
  if (error instanceof Problem && error.kind === "not-live") return "Nobody publishes this video now. Waiting…";
  if (error instanceof Problem && error.kind === "too-busy") return `${words(error)} Waiting for a place…`;
  return `${words(error)} Trying again…`;
}
