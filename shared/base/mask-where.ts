// A mask from numbers. A loop, because `Uint8Array.from` with a function walks an iterator and takes many times as long,
// and refinement and scoring make masks of every answer.

/** 1 where a number is in, else 0. */
export function maskWhere(
  values: Float32Array | Int32Array | Uint8Array,
  isIn: (value: number) => boolean,
): Uint8Array {
  const mask = new Uint8Array(values.length);
  for (let index = 0; index < values.length; index += 1) if (isIn(values[index] ?? 0)) mask[index] = 1;
  return mask;
}
