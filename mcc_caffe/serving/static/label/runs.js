/**
 * Masks as run lengths, as mcc_caffe/serving/run_lengths.py has them: how many pixels in turn are
 * not hand and are hand, along the rows; the first run is 0 where the first pixel is hand.
 */

/**
 * Return the run lengths of a mask.
 *
 * @param {Uint8Array} mask - 0 or 1 for each pixel, along the rows.
 * @returns {number[]}
 */
export function encodeRuns(mask) {
  const runs = [];
  let value = 0;
  let start = 0;
  while (start < mask.length) {
    const end = mask.indexOf(1 - value, start);
    const stop = end < 0 ? mask.length : end;
    runs.push(stop - start);
    start = stop;
    value = 1 - value;
  }
  return runs;
}

/**
 * Fill a mask from run lengths.
 *
 * @param {number[]} runs
 * @param {Uint8Array} mask - is filled; the runs have as many pixels.
 */
export function decodeRuns(runs, mask) {
  let start = 0;
  runs.forEach((run, index) => {
    mask.fill(index % 2, start, start + run);
    start += run;
  });
}
