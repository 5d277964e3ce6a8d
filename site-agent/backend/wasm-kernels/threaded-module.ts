// The training kernels as calls that several threads share: under the same names and with the same arguments, so that no
// kernel knows of it. A call is parted along an axis whose items have nothing to do with each other; every number is
// computed in the same order as by one thread, so that results are the same to the last bit.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Kernel, KernelThreads } from "./kernel-threads.ts";
import { FLOAT_BYTES } from "./products.ts";
import type { TrainingModule } from "./training-module.ts";

/** An axis of a call, by the places of its arguments. */
type Axis = {
  /** Where the number of its items is. */
  readonly count: number;
  /** Parts begin at multiples of this. */
  readonly unit: number;
  /** How far each of these pointers moves from one item to the next. */
  readonly bytes: Readonly<Record<number, number>>;
};

type Rule = {
  /** What the call takes, in nanoseconds, roughly. */
  readonly cost: (given: readonly number[]) => number;
  readonly axes: (given: readonly number[]) => readonly Axis[];
  /** Where a pointer to scratch space is, of which each thread needs its own. */
  readonly scratch?: number;
};

/** Less than this is not worth waking a thread. */
const PART_NANOSECONDS_MIN = 100_000;
/** Of one thread, in a nanosecond. */
const [MULTIPLICATIONS, NUMBERS] = [16, 0.5];
/** Panels are so many columns, tiles so many pixels. */
const [PANEL, TILE] = [8, 4];
/** Rows whose sums `layer_norm_scale_gradient` writes as one. */
const RUN_ROWS = 64;

const at = (given: readonly number[], place: number): number => expectDefined(given[place], "an argument");
const product = (given: readonly number[], ...places: number[]): number =>
  places.reduce((result, place) => result * at(given, place), 1);

/** These pointers move so far. */
function moving(places: readonly number[], bytes: number): Record<number, number> {
  return Object.fromEntries(places.map((place) => [place, bytes]));
}

/** Rows of `columns` numbers: these pointers move by a row, and those by a number. */
function rowsOf(
  count: number,
  columns: number,
  whole: readonly number[],
  single: readonly number[] = [],
): Rule {
  return {
    cost: (given) => product(given, count, columns) / NUMBERS,
    axes: (given) => {
      const bytes = { ...moving(whole, FLOAT_BYTES * at(given, columns)), ...moving(single, FLOAT_BYTES) };
      return [{ count, unit: 1, bytes }];
    },
  };
}

/** Vectors of four numbers, all pointers alike. */
function vectorsOf(count: number, numbersEach: number): Rule {
  const bytes = moving([...Array(count).keys()], FLOAT_BYTES);
  return {
    cost: (given) => (numbersEach * at(given, count)) / NUMBERS,
    axes: () => [{ count, unit: 4, bytes }],
  };
}

/** Images of `pixels` times `channels` numbers: as rows, with statistics of every channel. */
function imagesOf(count: number, whole: readonly number[], statistics: readonly number[]): Rule {
  const [pixels, channels] = [count + 1, count + 2];
  return {
    cost: (given) => (2 * product(given, count, pixels, channels)) / NUMBERS,
    axes: (given) => {
      const ofImage = moving(whole, FLOAT_BYTES * product(given, pixels, channels));
      const bytes = { ...ofImage, ...moving(statistics, FLOAT_BYTES * at(given, channels)) };
      return [{ count, unit: 1, bytes }];
    },
  };
}

const batchOfProducts: Rule = {
  cost: (given) => product(given, 3, 4, 5, 6) / MULTIPLICATIONS,
  axes: (given) => [
    { count: 3, unit: 1, bytes: { 0: at(given, 7), 1: at(given, 8), 2: FLOAT_BYTES * product(given, 4, 6) } },
  ],
};

const convolve: Rule = {
  cost: (given) => product(given, 5, 6, 7, 14, 15, 17) / MULTIPLICATIONS,
  scratch: 4,
  axes: (given) => {
    const panelBytes = FLOAT_BYTES * product(given, 15, 17);
    return [
      { count: 5, unit: RUN_ROWS, bytes: { 0: at(given, 8), 3: at(given, 11) } },
      { count: 6, unit: 1, bytes: { 0: at(given, 9), 3: at(given, 12) } },
      { count: 7, unit: TILE, bytes: { 0: at(given, 10), 3: at(given, 13) } },
      { count: 14, unit: PANEL, bytes: { 1: panelBytes, 2: FLOAT_BYTES, 3: FLOAT_BYTES } },
    ];
  },
};

const depthwiseConvolve: Rule = {
  cost: (given) => (4 * product(given, 3, 4, 5, 12, 13, 15)) / MULTIPLICATIONS,
  axes: (given) => [
    { count: 3, unit: 1, bytes: { 0: at(given, 6), 2: at(given, 9) } },
    { count: 4, unit: 1, bytes: { 0: at(given, 7), 2: at(given, 10) } },
  ],
};

/** Of one segment; `gradient` moves by a row of the filter. */
const filterGradient: Rule = {
  cost: (given) => product(given, 4, 5, 6, 15, 16) / MULTIPLICATIONS,
  scratch: 3,
  axes: (given) => [{ count: 15, unit: TILE, bytes: { 0: FLOAT_BYTES, 2: FLOAT_BYTES * at(given, 16) } }],
};

const scaleGradient: Rule = {
  cost: (given) => product(given, 5, 6) / NUMBERS,
  axes: (given) => {
    const rowBytes = FLOAT_BYTES * at(given, 6);
    const bytes = { 0: rowBytes, 1: rowBytes, 2: rowBytes / RUN_ROWS, 3: FLOAT_BYTES, 4: FLOAT_BYTES };
    return [{ count: 5, unit: RUN_ROWS, bytes }];
  },
};

const packPanels: Rule = {
  cost: (given) => product(given, 1, 2) / NUMBERS,
  axes: (given) => [{ count: 2, unit: PANEL, bytes: { 0: at(given, 4), 5: at(given, 6) / PANEL } }],
};

const padImages: Rule = {
  cost: (given) => product(given, 2, 3, 4) / FLOAT_BYTES / NUMBERS / 2,
  axes: (given) => {
    const padded =
      (at(given, 3) + at(given, 5) + at(given, 6)) * (at(given, 4) + at(given, 7) + at(given, 8));
    return [{ count: 2, unit: 1, bytes: { 0: product(given, 3, 4), 1: padded } }];
  },
};

/** What is not here is computed by one thread. */
const RULES = {
  convolve,
  depthwise_convolve: depthwiseConvolve,
  pack_panels: packPanels,
  pad_images: padImages,
  add_bias: rowsOf(3, 4, [0, 1]),
  instance_norm: imagesOf(6, [0, 1], [4, 5]),
  instance_norm_gradient: imagesOf(9, [0, 1, 2], [5, 6, 7, 8]),
  layer_norm: rowsOf(6, 7, [0, 1], [4, 5]),
  layer_norm_gradient: rowsOf(6, 7, [0, 1, 2], [4, 5]),
  layer_norm_scale_gradient: scaleGradient,
  small_products: batchOfProducts,
  small_row_products: batchOfProducts,
  gelu: vectorsOf(2, 4),
  gelu_gradient: vectorsOf(3, 4),
  scaled_softmax: rowsOf(2, 3, [0, 1]),
  scaled_softmax_gradient: rowsOf(3, 4, [0, 1, 2]),
  adamw: vectorsOf(7, 4),
} as const satisfies Partial<Record<keyof TrainingModule, Rule>>;

/** Of all kernels that threads share, by which threads know them. */
export const THREADED_KERNELS: readonly string[] = [...Object.keys(RULES), "filter_gradient"];

/**
 * @param scratch of each thread but the calling one, as large as a tile
 * @param partNanosecondsMin what takes less is not parted
 */
export function threadedModule(
  module: TrainingModule,
  threads: KernelThreads,
  scratch: readonly number[],
  partNanosecondsMin = PART_NANOSECONDS_MIN,
): TrainingModule {
  const shared = (name: keyof TrainingModule, rule: Rule): Kernel => {
    const own = module[name] as Kernel; // Numbers go in.
    return (...given) => {
      const wanted = Math.min(threads.count, Math.floor(rule.cost(given) / partNanosecondsMin));
      const parts = wanted < 2 ? [] : partsOf(rule, given, wanted, scratch);
      if (parts.length < 2) own(...given);
      else threads.run(name, own, parts);
    };
  };
  const entries = Object.entries(RULES).map(([name, rule]) => [
    name,
    shared(name as keyof TrainingModule, rule), // Its own key.
  ]);
  const ofSegment = shared("filter_gradient", filterGradient);
  return { ...module, ...Object.fromEntries(entries), filter_gradient: bySegment(ofSegment) };
}

const [INPUT, GRADIENT, SEGMENTS, SEGMENT_BYTES, SEGMENT_LENGTH, COLUMNS] = [0, 2, 13, 14, 15, 16];

/** Rows of a gradient lie one behind another within a segment only. */
function bySegment(compute: Kernel): TrainingModule["filter_gradient"] {
  return (...given) => {
    const gradientBytes = FLOAT_BYTES * product(given, SEGMENT_LENGTH, COLUMNS);
    for (let segment = 0; segment < at(given, SEGMENTS); segment += 1) {
      const one: number[] = [...given];
      one[INPUT] = at(given, INPUT) + segment * at(given, SEGMENT_BYTES);
      one[GRADIENT] = at(given, GRADIENT) + segment * gradientBytes;
      one[SEGMENTS] = 1;
      compute(...one);
    }
  };
}

/** The arguments of each part, the first one of the calling thread. */
function partsOf(
  { axes, scratch: scratchPlace }: Rule,
  given: readonly number[],
  wanted: number,
  scratch: readonly number[],
): number[][] {
  const unitsOf = ({ count, unit }: Axis): number => Math.ceil(at(given, count) / unit);
  const [axis] = [...axes(given)].sort((a, b) => evenness(unitsOf(b), wanted) - evenness(unitsOf(a), wanted));
  if (!axis) return [];
  const units = unitsOf(axis);
  const partCount = Math.min(wanted, units);
  return Array.from({ length: partCount }, (_, index) => {
    const start = axis.unit * Math.floor((index * units) / partCount);
    const end = Math.min(at(given, axis.count), axis.unit * Math.floor(((index + 1) * units) / partCount));
    const part = [...given];
    for (const [place, bytes] of Object.entries(axis.bytes))
      part[Number(place)] = at(given, Number(place)) + start * bytes;
    part[axis.count] = end - start;
    if (scratchPlace !== undefined && index > 0)
      part[scratchPlace] = expectDefined(scratch[index - 1], "scratch space");
    return part;
  });
}

/** The share of the time in which all threads have something to do. */
function evenness(units: number, threads: number): number {
  return units / (threads * Math.ceil(units / threads));
}
