// @ts-check
// Draws what was found over a picture, in the colours that the server uses where it draws.

import { CLOCK_RATE, ticksBetween } from "/web/results.js";

/** @typedef {import("./whep.js").Results} Results */

const OLD_TICKS = CLOCK_RATE / 2;
const FACE = "#ffd60a";
const INK_LUMA = 140;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

/** @param {string} text @returns {number} */
function crc32(text) {
  let value = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** @param {string} label of a class @returns {string} always the same colour */
export function colorOf(label) {
  const hue = (crc32(label) * 0.618033988749895) % 1;
  const channel = (/** @type {number} */ shift) => {
    const place = (hue * 6 + shift) % 6;
    return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(place, 4 - place, 1))));
  };
  return "#" + [5, 3, 1].map((shift) => channel(shift).toString(16).padStart(2, "0")).join("");
}

/** @param {string} color #rrggbb @returns {string} black or white, whichever can be read on it */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > INK_LUMA ? "#000" : "#fff";
}

/** @param {any} entry of `inference_results` */
function described(entry) {
  if ("emotion" in entry) return { color: FACE, text: `${entry.emotion} ${Math.round(entry.emotion_probability)} %` };
  return { color: colorOf(entry.label), text: `${entry.label} ${Math.round(entry.probability)} %` };
}

export class Drawing {
  /** @param {HTMLCanvasElement} canvas over the whole picture */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.em = 12;
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Boxes of a picture of long ago are dashed. @param {Results[]} found @param {number} timestamp RTP time of the picture */
  draw(found, timestamp) {
    this.fit();
    for (const results of found) {
      const isOld = ticksBetween(timestamp, results.rtp_timestamp) > OLD_TICKS;
      this.context.setLineDash(isOld ? [this.em / 2, this.em / 3] : []);
      this.boxes(results);
    }
    const colors = found.flatMap(({ inference_results }) => inference_results).filter(({ color }) => color);
    let top = 0;
    for (const { color, share } of colors) top = this.swatch(color, share, top);
  }

  /** As many pixels as the canvas has on the screen; a change of its size clears it. */
  fit() {
    const { canvas, context } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    else this.clear();
    this.em = Math.max(11 * devicePixelRatio, Math.min(height, width) / 32);
    context.font = `600 ${this.em}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.lineWidth = Math.max(2, this.em / 7);
  }

  /** @param {Results} results */
  boxes({ width, height, inference_results: entries }) {
    const [across, down] = [this.canvas.width / width, this.canvas.height / height];
    const boxes = entries.filter(({ coordinates }) => coordinates);
    for (const entry of boxes.sort((one, other) => one.probability - other.probability)) {
      const [left, top, wide, high] = entry.coordinates;
      const { color, text } = described(entry);
      this.context.strokeStyle = color;
      this.context.strokeRect(left * across, top * down, wide * across, high * down);
      this.label(text, left * across, top * down, color);
    }
  }

  /** A filled label that ends at `bottom`, moved as far as needed to lie in the picture. @returns {number} its bottom
   * @param {string} text @param {number} left @param {number} bottom @param {string} color */
  label(text, left, bottom, color) {
    const { context, canvas, em } = this;
    const [width, height] = [context.measureText(text).width + em * 0.7, em * 1.5];
    const x = Math.max(0, Math.min(left - context.lineWidth / 2, canvas.width - width));
    const y = Math.max(0, Math.min(bottom - height, canvas.height - height));
    context.fillStyle = color;
    context.fillRect(x, y, width, height);
    context.fillStyle = inkOn(color);
    context.fillText(text, x + em * 0.35, y + height / 2);
    return y + height;
  }

  /** One colour of the palette, in the right top corner. @param {string} color @param {number} share @param {number} top */
  swatch(color, share, top) {
    return this.label(`${color} ${Math.round(share * 100)} %`, this.canvas.width, top + this.em * 1.5, color);
  }
}
