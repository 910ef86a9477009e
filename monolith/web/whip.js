// @ts-check
// Publishes a camera or a screen by WHIP.

import { Signalling } from "/web/signalling.js";

/** @param {"camera" | "screen"} kind @returns {Promise<MediaStream>} throws Error with words for people */
export async function capture(kind) {
  const devices = navigator.mediaDevices;
  if (!devices) throw new Error("Browsers give cameras and screens to HTTPS pages and to localhost only.");
  const size = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  try {
    return kind === "camera" ? await devices.getUserMedia({ video: size }) : await devices.getDisplayMedia({ video: true });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError") throw new Error(`The browser was not allowed to use the ${kind}.`);
    if (name === "NotFoundError") throw new Error(`The browser knows of no ${kind}.`);
    throw new Error(`The ${kind} gives no pictures: ${error}`);
  }
}

/** Events: `end` (once, where the server, the network or the camera ended it; detail: words for people). */
export class Publisher extends EventTarget {
  /** @param {MediaStream} media */
  constructor(media) {
    super();
    this.media = media;
    this.peer = new RTCPeerConnection();
    /** @type {Signalling | null} */
    this.signalling = null;
    this.over = false;
    for (const track of media.getVideoTracks()) {
      this.peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
      track.addEventListener("ended", () => this.ended("There are no more pictures to send."));
    }
    this.peer.addEventListener("connectionstatechange", () => {
      if (["failed", "closed"].includes(this.peer.connectionState)) this.ended("The connection to the server broke.");
    });
  }

  /** @param {string} videoId @param {string} token of the endpoint. Throws Problem. */
  async publish(videoId, token) {
    this.signalling = await Signalling.begin(this.peer, `/whip/${videoId}`, { Authorization: `Bearer ${token}` });
  }

  /** In order: the video is complete then. */
  async stop() {
    this.over = true;
    for (const track of this.media.getTracks()) track.stop();
    await this.signalling?.end();
    this.peer.close();
  }

  /** @param {string} reason */
  ended(reason) {
    if (this.over) return;
    void this.stop();
    this.dispatchEvent(new CustomEvent("end", { detail: reason }));
  }
}
