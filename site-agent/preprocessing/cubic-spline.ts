// The interpolating cubic B-spline in one dimension: the recursive prefilter that turns samples into coefficients, and
// the four weights of each position (Unser 1999; the boundary follows scipy.ndimage's mode "nearest").

/** Edge values repeated on either side before the prefilter: its memory has decayed to 1e-7 by then. */
export const SPLINE_PADDING = 12;

const POLE = Math.sqrt(3) - 2;
const GAIN = 6; // (1 - POLE) * (1 - 1 / POLE)
/** POLE ** 28 is below 1e-15: longer sums change nothing in float64. */
const HORIZON = 28;

/**
 * Samples to coefficients, in place.
 * @param line samples from index SPLINE_PADDING to length - SPLINE_PADDING; the margins are filled here.
 */
export function prefilterCubic(line: Float64Array): void {
  const last = line.length - 1;
  line.fill(line[SPLINE_PADDING] ?? 0, 0, SPLINE_PADDING);
  line.fill(line[last - SPLINE_PADDING] ?? 0, last - SPLINE_PADDING + 1);
  let causal = 0;
  for (let index = Math.min(HORIZON, last); index >= 0; index -= 1)
    causal = causal * POLE + (line[index] ?? 0);
  line[0] = causal;
  for (let index = 1; index <= last; index += 1) {
    causal = (line[index] ?? 0) + POLE * causal;
    line[index] = causal;
  }
  let coefficient = (POLE / (POLE * POLE - 1)) * (causal + POLE * (line[last - 1] ?? 0));
  line[last] = coefficient * GAIN;
  for (let index = last - 1; index >= 0; index -= 1) {
    coefficient = POLE * (coefficient - (line[index] ?? 0));
    line[index] = coefficient * GAIN;
  }
}

export interface CubicTaps {
  /** First of four coefficients of the padded line, for each position. */
  readonly first: Int32Array;
  /** Four weights for each position. */
  readonly weights: Float64Array;
}

export function cubicTaps(positions: Float64Array): CubicTaps {
  const first = new Int32Array(positions.length);
  const weights = new Float64Array(positions.length * 4);
  positions.forEach((position, index) => {
    const floor = Math.floor(position);
    const t = position - floor;
    const u = 1 - t;
    first[index] = floor - 1 + SPLINE_PADDING;
    weights.set(
      [
        (u * u * u) / 6,
        (4 - 6 * t * t + 3 * t * t * t) / 6,
        (4 - 6 * u * u + 3 * u * u * u) / 6,
        (t * t * t) / 6,
      ],
      index * 4,
    );
  });
  return { first, weights };
}
