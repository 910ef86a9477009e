// @ts-check
// By how much pictures are held back: as the server advises, as the user chooses, or, where results keep coming late, as
// much as they need.

const LATE_SHARE = 0.3;
const ENOUGH = 8;
const MARGIN_MS = 100;
const MOST_MS = 2000;

export class Delay {
  /** @param {number} advised milliseconds */
  constructor(advised) {
    this.milliseconds = advised;
    this.chosen = false;
    this.results = 0;
    /** @type {number[]} milliseconds by which late ones were too late */
    this.late = [];
  }

  /** @param {number} milliseconds by the user, who is right from then on */
  choose(milliseconds) {
    this.milliseconds = milliseconds;
    this.chosen = true;
  }

  /** Results have come. @param {number} tooLate milliseconds since their picture was shown; below 0: it was not yet */
  came(tooLate) {
    this.results++;
    if (tooLate >= 0) this.late.push(tooLate);
  }

  /** To be asked now and then. @returns {boolean} whether it is longer from now on */
  adapt() {
    if (this.results < ENOUGH) return false;
    const { late, results } = this;
    [this.late, this.results] = [[], 0];
    if (this.chosen || this.milliseconds >= MOST_MS || late.length < results * LATE_SHARE) return false;
    const most = late.sort((one, other) => one - other)[Math.floor((late.length - 1) * 0.9)];
    this.milliseconds = Math.min(MOST_MS, Math.round((this.milliseconds + most + MARGIN_MS) / 50) * 50);
    return true;
  }
}
