// @ts-check
// Where boxes are in a picture between two that were analysed: on their even way from one to the other.

/** @typedef {import("./whep.js").Results} Results */
/** @typedef {[number, number, number, number]} Box left, top, width, height */

const LEAST_OVERLAP = 0.05;

/** @param {Box} one @param {Box} other @returns {number} intersection over union, 0–1 */
export function overlap([left, top, width, height], [x, y, wide, high]) {
  const across = Math.min(left + width, x + wide) - Math.max(left, x);
  const down = Math.min(top + height, y + high) - Math.max(top, y);
  const common = Math.max(0, across) * Math.max(0, down);
  return common / (width * height + wide * high - common || 1);
}

/** @param {any} entry */
const kindOf = (entry) => entry.label ?? "face";

/**
 * The same thing in two pictures: same class, boxes that overlap most, each at most once.
 * @param {any[]} before entries @param {any[]} after @returns {Map<any, any>} from before to after
 */
function pairs(before, after) {
  const all = before.flatMap((one) => after.filter((other) => kindOf(one) === kindOf(other))
    .map((other) => ({ one, other, common: overlap(one.coordinates, other.coordinates) })));
  const found = new Map(), taken = new Set();
  for (const { one, other, common } of all.sort((a, b) => b.common - a.common)) {
    if (common < LEAST_OVERLAP || found.has(one) || taken.has(other)) continue;
    found.set(one, other);
    taken.add(other);
  }
  return found;
}

/** @param {Results} results @param {number} width @param {number} height @returns {any[]} boxes in a picture of that size */
function boxesIn({ width: ownWidth, height: ownHeight, inference_results: entries }, width, height) {
  const scale = [width / ownWidth, height / ownHeight];
  const scaled = (/** @type {Box} */ box) => box.map((value, place) => value * scale[place % 2]);
  return entries.filter(({ coordinates }) => coordinates)
    .map((entry) => ({ ...entry, coordinates: scaled(entry.coordinates) }));
}

/**
 * @param {Results} earlier @param {Results} later of the same model @param {number} part of the way, 0–1
 * @returns {Results & {between: true}} `earlier`, with those boxes moved that are in both
 */
export function between(earlier, later, part) {
  const before = earlier.inference_results.filter(({ coordinates }) => coordinates);
  const paired = pairs(before, boxesIn(later, earlier.width, earlier.height));
  const moved = (/** @type {any} */ entry) => {
    const target = paired.get(entry)?.coordinates;
    if (!target) return entry;
    const move = (/** @type {number} */ value, /** @type {number} */ place) => value + (target[place] - value) * part;
    return { ...entry, coordinates: entry.coordinates.map(move) };
  };
  return { ...earlier, inference_results: earlier.inference_results.map(moved), between: true };
}
