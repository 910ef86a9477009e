// @ts-check
// One viewer of a live video: the pictures, and what is found in them by a data channel or by server-sent events.

import { Signalling } from "/web/signalling.js";

/** @typedef {{type: "hello", video_id: string, player_delay_ms: number, clock_rate: number}} Hello */
/** @typedef {{type: "results", frame_number: number, video_timestamp: number, rtp_timestamp: number, wall_time: number,
 *   width: number, height: number, inference_model: string, inference_results: any[]}} Results */

const LOST_MS = 5000;
const LONGEST_DELAY_MS = 4000; // browsers refuse more

/** Events: `message` (detail: Hello or Results), `end` (once, where the server or the network ended it). */
export class Viewer extends EventTarget {
  constructor() {
    super();
    this.peer = new RTCPeerConnection();
    this.receiver = this.peer.addTransceiver("video", { direction: "recvonly" }).receiver;
    this.media = new MediaStream([this.receiver.track]);
    /** @type {Signalling | null} */
    this.signalling = null;
    /** @type {EventSource | null} */
    this.events = null;
    this.over = false;
    /** When a picture was shown last, by performance.now(). */
    this.picturedAt = performance.now();
  }

  /** @param {string} videoId @param {{burned?: boolean, byEvents?: boolean}} [options] throws Problem */
  async watch(videoId, { burned = false, byEvents = false } = {}) {
    this.peer.addEventListener("connectionstatechange", () => this.look());
    this.receiver.track.addEventListener("ended", () => this.ended());
    if (!byEvents) this.listen(this.peer.createDataChannel("results"));
    try {
      this.signalling = await Signalling.begin(this.peer, `/whep/${videoId}${burned ? "?overlay=burned" : ""}`);
    } catch (error) {
      this.peer.close();
      throw error;
    }
    if (byEvents) this.follow(new EventSource(`${this.signalling.address}/results`));
  }

  /** Hold pictures back, so that boxes are there in time. @param {number} milliseconds */
  delay(milliseconds) {
    const wanted = Math.min(Math.max(milliseconds, 0), LONGEST_DELAY_MS);
    const receiver = /** @type {any} */ (this.receiver);
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = wanted;
    else receiver.playoutDelayHint = wanted / 1000;
  }

  async close() {
    this.over = true;
    this.events?.close();
    this.peer.close();
    await this.signalling?.end();
  }

  /** @param {RTCDataChannel} channel */
  listen(channel) {
    channel.addEventListener("message", ({ data }) => this.tell(data));
    channel.addEventListener("close", () => this.ended());
  }

  /** @param {EventSource} events */
  follow(events) {
    this.events = events;
    for (const kind of ["hello", "results"]) events.addEventListener(kind, ({ data }) => this.tell(data));
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) this.ended();
    });
  }

  /** @param {string} text */
  tell(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(text) }));
  }

  look() {
    const state = this.peer.connectionState;
    if (state === "failed" || state === "closed") this.ended();
    if (state === "disconnected") {
      setTimeout(() => this.peer.connectionState === "disconnected" && this.ended(), LOST_MS);
    }
  }

  ended() {
    if (this.over) return;
    void this.close();
    this.dispatchEvent(new Event("end"));
  }
}
