// @ts-check
// How far the pictures on the screen are behind their arrival at the server, by the server's clock.

import { CLOCK_RATE, ticksBetween } from "/web/results.js";

const KEPT = 60;

export class Clocks {
  constructor() {
    /** @type {number[]} milliseconds */
    this.latencies = [];
    /** The server's clock less the browser's, in milliseconds, and half the time that asking for it took. */
    this.offset = { ahead: 0, error: Infinity };
  }

  /** @param {number} wallTime of the server's answer, Unix seconds @param {number} asked @param {number} answered Unix ms */
  compare(wallTime, asked, answered) {
    const error = (answered - asked) / 2;
    if (error <= this.offset.error * 1.5) this.offset = { ahead: wallTime * 1000 - (asked + answered) / 2, error };
  }

  /**
   * A picture is shown.
   * @param {number} timestamp RTP time @param {number} shownAt Unix ms
   * @param {{rtp_timestamp: number, wall_time: number} | null} known some picture near it
   */
  shown(timestamp, shownAt, known) {
    if (!known || this.offset.error === Infinity) return;
    const arrived = known.wall_time * 1000 + (ticksBetween(timestamp, known.rtp_timestamp) * 1000) / CLOCK_RATE;
    this.latencies.push(shownAt + this.offset.ahead - arrived);
    if (this.latencies.length > KEPT) this.latencies.shift();
  }

  /** @returns {number | null} milliseconds, the median of the last pictures */
  get latency() {
    const sorted = [...this.latencies].sort((one, other) => one - other);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  }
}
