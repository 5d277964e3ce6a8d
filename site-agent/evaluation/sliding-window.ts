// Covers a slice with overlapping patches, as nnU-Net does: half a patch apart at most, evenly spread, each patch
// weighted by a Gaussian about its centre, because a network sees least at its edges.

/** Patches begin at most this share of a patch apart. */
const STEP_SHARE = 0.5;
/** Deviation of the weights as a share of the patch. */
const SIGMA_SHARE = 1 / 8;

/** Where patches begin along one axis. */
export function patchStarts(size: number, patch: number): number[] {
  const room = size - patch;
  if (room <= 0) return [0];
  const count = Math.ceil(room / (patch * STEP_SHARE)) + 1;
  return Array.from({ length: count }, (_, index) => Math.round((index * room) / (count - 1)));
}

/** [height, width], 1 in the middle, nowhere 0: what only one patch corner covers still counts. */
export function gaussianWeights(height: number, width: number): Float32Array {
  const bell = (size: number): Float64Array =>
    Float64Array.from({ length: size }, (_, index) =>
      Math.exp(-((index - (size - 1) / 2) ** 2) / (2 * (size * SIGMA_SHARE) ** 2)),
    );
  const rows = bell(height);
  const columns = bell(width);
  return Float32Array.from(
    { length: height * width },
    (_, pixel) => (rows[Math.floor(pixel / width)] ?? 0) * (columns[pixel % width] ?? 0),
  );
}
