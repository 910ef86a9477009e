// @ts-check
// <live-player video="ID">: a live video with what is found in it drawn over the very picture, and how it goes.
// Attributes: `video`; `results`: `events` takes results by server-sent events instead of a data channel.

import { ask } from "/web/api.js";
import { Clocks } from "/web/clocks.js";
import { Delay } from "/web/delay.js";
import { Drawing } from "/web/drawing.js";
import { figuresOf, receivedBy, showFigures } from "/web/figures.js";
import { CLOCK_RATE, Found } from "/web/results.js";
import { Watching } from "/web/watching.js";

/** @typedef {import("./whep.js").Viewer} Viewer */

const FIGURES_MS = 1000;
const PLAYER = `
<div class="stage">
  <video muted autoplay playsinline aria-label="Live video"></video>
  <canvas aria-hidden="true"></canvas>
  <p class="notice" role="status"></p>
</div>
<div class="controls">
  <label><input type="checkbox" class="boxes" checked> Boxes</label>
  <label><input type="checkbox" class="burned"> Drawn by the server</label>
  <label>Delay <input type="range" class="delay" min="0" max="4000" step="50"> <output></output></label>
  <button type="button" class="fullscreen">Full screen</button>
</div>
<dl class="figures"></dl>`;

class LivePlayer extends HTMLElement {
  constructor() {
    super();
    this.found = new Found();
    this.clocks = new Clocks();
    /** @type {Watching | null} */
    this.watching = null;
    /** @type {Viewer | null} */
    this.viewer = null;
    /** @type {import("./watching.js").Video | null} */
    this.info = null;
    /** @type {Delay | null} */
    this.delay = null;
    /** @type {any} the server's word of the viewer */
    this.session = null;
  }

  connectedCallback() {
    this.innerHTML = PLAYER;
    this.video = /** @type {HTMLVideoElement} */ (this.querySelector("video"));
    this.stage = /** @type {HTMLElement} */ (this.querySelector(".stage"));
    this.drawing = new Drawing(/** @type {HTMLCanvasElement} */ (this.querySelector("canvas")));
    this.burned = /** @type {HTMLInputElement} */ (this.querySelector(".burned"));
    this.boxes = /** @type {HTMLInputElement} */ (this.querySelector(".boxes"));
    this.slider = /** @type {HTMLInputElement} */ (this.querySelector(".delay"));
    this.burned.addEventListener("change", () => this.start());
    this.slider.addEventListener("input", () => {
      this.delay?.choose(Number(this.slider?.value));
      this.wait();
    });
    this.querySelector(".fullscreen")?.addEventListener("click", () => this.fullscreen());
    this.video.addEventListener("resize", () => this.fit());
    this.video.requestVideoFrameCallback((now, picture) => this.shown(picture));
    this.ticking = setInterval(() => void this.tick(), FIGURES_MS);
    this.start();
  }

  disconnectedCallback() {
    clearInterval(this.ticking);
    this.watching?.stop();
  }

  /** Watches, from anew. */
  start() {
    this.watching?.stop();
    const burned = this.burned?.checked ?? false;
    const byEvents = this.getAttribute("results") === "events";
    const watching = new Watching(this.getAttribute("video") ?? "", { burned, byEvents });
    this.watching = watching;
    const on = (/** @type {string} */ kind, /** @type {(detail: any) => void} */ handle) =>
      watching.addEventListener(kind, (event) => this.watching === watching && handle(/** @type {any} */ (event).detail));
    on("viewer", (viewer) => this.play(viewer));
    on("gone", () => this.gone());
    on("video", (video) => (this.info = video));
    on("say", ({ text, final }) => this.say(text, final));
    this.say("Connecting…", false);
  }

  /** @param {Viewer} viewer */
  play(viewer) {
    this.viewer = viewer;
    this.found = new Found();
    this.clocks = new Clocks();
    viewer.addEventListener("message", (event) => this.hear(/** @type {CustomEvent} */ (event).detail));
    if (this.video) this.video.srcObject = viewer.media;
    this.video?.play().catch(console.warn);
  }

  gone() {
    this.viewer = null;
    this.session = null;
    if (this.video) this.video.srcObject = null;
    this.drawing?.clear();
  }

  /** @param {any} message a Hello or Results */
  hear(message) {
    if (message.type === "hello") {
      this.delay ??= new Delay(message.player_delay_ms);
      this.wait();
    } else if (message.type === "results") {
      this.delay?.came((this.found.add(message) / CLOCK_RATE) * 1000);
    }
  }

  /** As long as `delay` says; pictures that are drawn by the server have waited there. */
  wait() {
    const { milliseconds } = /** @type {Delay} */ (this.delay);
    if (this.slider) this.slider.value = String(milliseconds);
    const output = this.querySelector("output");
    if (output) output.textContent = `${milliseconds} ms`;
    this.viewer?.delay(this.burned?.checked ? 0 : milliseconds);
  }

  /** @param {VideoFrameCallbackMetadata} picture the one that goes on the screen now */
  shown({ rtpTimestamp, expectedDisplayTime }) {
    if (rtpTimestamp !== undefined && this.viewer) {
      const found = this.found.at(rtpTimestamp);
      this.viewer.picturedAt = performance.now();
      this.clocks.shown(rtpTimestamp, performance.timeOrigin + expectedDisplayTime, this.found.newest);
      const drawn = this.boxes?.checked && !this.burned?.checked ? found : [];
      this.drawing?.draw(drawn, rtpTimestamp);
      this.dispatchEvent(new CustomEvent("drawn", { detail: { rtpTimestamp, found } }));
    }
    this.video?.requestVideoFrameCallback((now, next) => this.shown(next));
  }

  async tick() {
    const { viewer } = this;
    if (this.delay?.adapt()) this.wait();
    if (viewer?.signalling) {
      const asked = Date.now();
      const session = await ask(viewer.signalling.address).then((answer) => answer.json()).catch(() => null);
      if (session && viewer === this.viewer) {
        this.session = session;
        this.clocks.compare(session.wall_time, asked, Date.now());
      }
    }
    const received = viewer && (await receivedBy(viewer.peer));
    const list = /** @type {HTMLElement} */ (this.querySelector(".figures"));
    showFigures(list, figuresOf(this.info, received, this.session, this.found, this.clocks));
  }

  /** @param {string} text @param {boolean} final */
  say(text, final) {
    const notice = /** @type {HTMLElement} */ (this.querySelector(".notice"));
    if (notice.textContent !== text) notice.textContent = text;
    notice.classList.toggle("final", final);
    if (final && this.info) {
      const link = Object.assign(document.createElement("a"), { textContent: "Results" });
      link.href = `/analysis/${this.info.video_id}/results`;
      notice.append(" ", link);
    }
  }

  /** The stage gets the picture's shape, so that the canvas lies on the picture and on nothing else. */
  fit() {
    const { videoWidth: width, videoHeight: height } = /** @type {HTMLVideoElement} */ (this.video);
    this.stage?.style.setProperty("--shape", `${width} / ${height}`);
  }

  fullscreen() {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void this.stage?.requestFullscreen();
  }
}

customElements.define("live-player", LivePlayer);
