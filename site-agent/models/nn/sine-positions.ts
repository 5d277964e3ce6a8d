// Sine position encodings as numbers: of an image (Carion et al. 2020, as normalised in SAM 2) and of moments in time.

const TURN = 2 * Math.PI;
const EPSILON = 1e-6;

export type SineGrid = {
  readonly height: number;
  readonly width: number;
  /** A multiple of four: the first half encodes the row, the second the column. */
  readonly channels: number;
  readonly temperature: number;
};

/** [height, width, channels]; sine and cosine of one frequency lie side by side. */
export function sineImagePositions({ height, width, channels, temperature }: SineGrid): Float32Array {
  const half = channels / 2;
  const rows = encodedAxis(height, half, temperature);
  const columns = encodedAxis(width, half, temperature);
  const values = new Float32Array(height * width * channels);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const start = (row * width + column) * channels;
      values.set(rows.subarray(row * half, (row + 1) * half), start);
      values.set(columns.subarray(column * half, (column + 1) * half), start + half);
    }
  }
  return values;
}

/** [size, channels]: positions 1 to size as shares of one turn. */
function encodedAxis(size: number, channels: number, temperature: number): Float32Array {
  const values = new Float32Array(size * channels);
  for (let place = 0; place < size; place += 1) {
    const position = ((place + 1) / (size + EPSILON)) * TURN;
    for (let channel = 0; channel < channels; channel += 1) {
      const angle = position / temperature ** ((2 * Math.floor(channel / 2)) / channels);
      values[place * channels + channel] = channel % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return values;
}

const TIME_TEMPERATURE = 10_000;

/** [positions, channels]: all sines, then all cosines. */
export function sineTimePositions(positions: readonly number[], channels: number): Float32Array {
  const half = channels / 2;
  const values = new Float32Array(positions.length * channels);
  positions.forEach((position, row) => {
    for (let index = 0; index < half; index += 1) {
      const angle = position / TIME_TEMPERATURE ** ((2 * Math.floor(index / 2)) / half);
      values[row * channels + index] = Math.sin(angle);
      values[row * channels + half + index] = Math.cos(angle);
    }
  });
  return values;
}
