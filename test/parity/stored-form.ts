// The forms in which a case holds a reference tensor: whole, every so many rows and columns, means of channels, or a few
// statistics and the first elements. The name says which; here the same is made of what was computed.

import { hashValues } from "../golden/hash-values.ts";

export type FoundTensor = {
  /** PyTorch's. */
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
};

export type StoredForm = {
  /** The name of the tensor itself. */
  readonly base: string;
  readonly reduce: (found: FoundTensor) => ArrayLike<number>;
};

const HEAD_LENGTH = 64;
const THINNED = /@s(\d+)$/;
const PARTS: Readonly<Record<string, (found: FoundTensor, rest: string) => ArrayLike<number>>> = {
  chmean: (found) => channelMeans(found, (value) => value),
  chabsmean: (found) => channelMeans(found, Math.abs),
  stat: statistics,
  head: ({ values }) =>
    Array.from({ length: Math.min(HEAD_LENGTH, values.length) }, (_, index) => values[index] ?? 0),
};

/** How the tensor of this name is stored. */
export function storedForm(name: string): StoredForm {
  const parts = name.split("/");
  const place = parts.findIndex((part) => Object.hasOwn(PARTS, part));
  if (place >= 0) {
    const reduce = PARTS[parts[place] ?? ""];
    const rest = parts.slice(place + 1).join("/");
    if (reduce) return { base: parts.toSpliced(place, 1).join("/"), reduce: (found) => reduce(found, rest) };
  }
  const step = Number(THINNED.exec(name)?.[1] ?? 1);
  return {
    base: name.replace(THINNED, ""),
    reduce: (found) => (step === 1 ? found.values : thinned(found, step)),
  };
}

function thinned({ shape, values }: FoundTensor, step: number): Float32Array {
  const [height = 1, width = 1] = shape.slice(-2);
  const kept: number[] = [];
  for (let map = 0; map < values.length; map += height * width)
    for (let row = 0; row < height; row += step)
      for (let column = 0; column < width; column += step) kept.push(values[map + row * width + column] ?? 0);
  return Float32Array.from(kept);
}

function channelMeans({ shape, values }: FoundTensor, of: (value: number) => number): Float32Array {
  const [height = 1, width = 1] = shape.slice(-2);
  const area = height * width;
  return Float32Array.from({ length: values.length / area }, (_, map) => {
    let sum = 0;
    for (let index = map * area; index < (map + 1) * area; index += 1) sum += of(values[index] ?? 0);
    return sum / area;
  });
}

/** Sum, L2 norm and the product with the probe of that name. */
function statistics({ values }: FoundTensor, name: string): number[] {
  const probe = hashValues(`probe:${name}`, values.length);
  let [sum, squares, product] = [0, 0, 0];
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] ?? 0;
    sum += value;
    squares += value * value;
    product += value * (probe[index] ?? 0);
  }
  return [sum, Math.sqrt(squares), product];
}
