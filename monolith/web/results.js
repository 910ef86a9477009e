// @ts-check
// What was found, by the RTP time of its picture: for each picture that is shown its own results, or what lies between
// those before and after it, or the newest of before.

import { between } from "/web/between.js";

/** @typedef {import("./whep.js").Results} Results */

export const CLOCK_RATE = 90000;
const HOLD_TICKS = 2 * CLOCK_RATE; // results of longer ago say nothing of the picture that is shown
const BRIDGE_TICKS = 0.6 * CLOCK_RATE; // over so long boxes are taken to move evenly
const MOST = 600;

/** @param {number} later @param {number} earlier RTP times @returns {number} ticks between them, across a wrap */
export const ticksBetween = (later, earlier) => (later - earlier) | 0;

export class Found {
  constructor() {
    /** @type {Map<string, Results[]>} by model, in the order of their pictures */
    this.models = new Map();
    /** @type {number | null} RTP time of the picture shown last */
    this.shown = null;
    /** @type {Results | null} */
    this.newest = null;
    this.inTime = 0;
    this.late = 0;
  }

  /** @param {Results} results @returns {number} ticks since their picture was shown; below 0: it was not yet */
  add(results) {
    const since = this.shown === null ? -1 : ticksBetween(this.shown, results.rtp_timestamp);
    since >= 0 ? this.late++ : this.inTime++;
    if (!this.newest || ticksBetween(results.rtp_timestamp, this.newest.rtp_timestamp) > 0) this.newest = results;
    const list = this.models.get(results.inference_model) ?? [];
    let place = list.length;
    while (place && ticksBetween(list[place - 1].rtp_timestamp, results.rtp_timestamp) > 0) place--;
    list.splice(place, 0, results);
    if (list.length > MOST) list.shift();
    this.models.set(results.inference_model, list);
    return since;
  }

  /**
   * The results to draw over the picture at `timestamp`; what is older is forgotten.
   * @param {number} timestamp RTP time @returns {Results[]} at most one for each model
   */
  at(timestamp) {
    this.shown = timestamp;
    const chosen = [];
    for (const list of this.models.values()) {
      while (list.length > 1 && ticksBetween(timestamp, list[1].rtp_timestamp) >= 0) list.shift();
      const age = list.length ? ticksBetween(timestamp, list[0].rtp_timestamp) : -1;
      if (age >= 0 && age <= HOLD_TICKS) chosen.push(bridged(list, age));
    }
    return chosen;
  }
}

/** @param {Results[]} list the first one is `age` ticks old @param {number} age @returns {Results} */
function bridged([earlier, later], age) {
  const gap = later && ticksBetween(later.rtp_timestamp, earlier.rtp_timestamp);
  return age && gap && gap <= BRIDGE_TICKS ? between(earlier, later, age / gap) : earlier;
}
