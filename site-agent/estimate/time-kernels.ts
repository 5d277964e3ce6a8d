// How long the running backend takes for the kernel calls of a rehearsed step, on drawn numbers and never as the step
// itself: long calls alone, the most expensive first, short ones together. For what does not fit into the time limit or
// into the room, the rate of the same kernel on other shapes stands, and else that of the same kind of work.

import type { CountedCall, CountedCalls, KernelCall } from "./kernel-call.ts";
import { SHARING_KERNELS } from "./kernel-outputs.ts";
import { type KernelWork, kernelWork } from "./kernel-work.ts";
import { timeCall, timeInTurns } from "./time-call.ts";
import { callsInGraph, type GraphOverhead, timeInGraph } from "./time-in-graphs.ts";

export type TimingLimits = {
  /** All timing together, in the seconds of the clock. */
  readonly secondsMax: number;
  /** Inputs, outputs and scratch space of one call. */
  readonly bytesMax: number;
  /** What the rehearsal has already counted for every call that is made by itself, whatever it computes. */
  readonly callSeconds: number;
  /** What a run of a graph costs; null where the backend runs none. */
  readonly graphOverhead: GraphOverhead | null;
};

export type KernelTimes = {
  /** Of all calls, as often as the step makes them. */
  readonly seconds: number;
  /** How much of it was timed and not inferred from other shapes. */
  readonly timedShare: number;
};

const WARM_UP_SHARE = 0.2;
/** Of the time limit, for calls outside of graphs where most are in them. */
const OUTSIDE_SHARE = 0.25;
/** Calls below this are timed together, and in graphs those that take less than this share or time. */
const SHORT_SECONDS = 5e-4;
const MINOR_SHARE = 1 / 500;
const ALONE_SECONDS_MIN = 1e-3;
const TOGETHER_CALLS_MAX = 256;
const TOGETHER_BYTES_MAX = 64 * 2 ** 20;
/** Rates that order the calls before anything was timed. */
const GUESSED_FLOPS_PER_SECOND = 1e10;
const GUESSED_BYTES_PER_SECOND = 2e9;
const CALL_SECONDS = 5e-6;
/** What was too short for the clock is not free. */
const PACE_MIN = 0.01;

type Item = CountedCall & {
  readonly work: KernelWork;
  readonly guess: number;
};

/** A way of timing. */
type Way = {
  alone(call: KernelCall): Promise<number>;
  /** Of each. @param expected of each, for a way that can tell only what all take */
  together(calls: readonly KernelCall[], expected: readonly number[]): Promise<number[]>;
  readonly tellsApart: boolean;
  /** How often a call is made that takes so long, and how often several that do so together. */
  readonly callsAlone: (seconds: number) => number;
  readonly callsTogether: (seconds: number) => number;
  /** A slower one is that of small calls alone, and says nothing of how long a large one may take. */
  readonly paceMax: number;
};

/** @param seconds a clock: of the processor for backends that compute in this process */
export async function timeKernels(
  calls: CountedCalls,
  limits: TimingLimits,
  seconds: () => number,
): Promise<KernelTimes> {
  const items = calls
    .filter(({ call }) => !SHARING_KERNELS.includes(call.kernel))
    .map((counted): Item => {
      const work = kernelWork(counted.call);
      return { ...counted, work, guess: guessed(work) };
    })
    .sort((a, b) => b.count * b.guess - a.count * a.guess);
  const [outside, inside] = [items.filter(({ inGraph }) => !inGraph), items.filter(({ inGraph }) => inGraph)];
  const { secondsMax, graphOverhead } = limits;
  const start = seconds();
  const times: KernelTimes[] = [];
  if (outside.length > 0) {
    const share = inside.length > 0 ? OUTSIDE_SHARE : 1;
    times.push(await timedOutside(outside, limits, seconds, start + share * secondsMax));
  }
  if (inside.length > 0 && graphOverhead !== null) {
    const timing = new Timing(limits, seconds, start + secondsMax, inGraphs(graphOverhead, seconds));
    await timing.timeAlone(cheapest(inside));
    const all = inside.reduce((sum, item) => sum + timing.expected(item), 0);
    // A graph of its own for each would cost more than most calls are worth, and tell little of short ones.
    const isMinor = (item: Item): boolean =>
      timing.expected(item) < Math.max(MINOR_SHARE * all, item.count * ALONE_SECONDS_MIN);
    const minor = inside.filter((item) => isMinor(item) && item.work.bytes < TOGETHER_BYTES_MAX);
    await timing.timeAlone(inside.filter((item) => !minor.includes(item)));
    await timing.timeTogether(minor);
    times.push(added(inside, timing));
  }
  return joined(times);
}

/** Calls that are made one by one. */
async function timedOutside(
  items: readonly Item[],
  limits: TimingLimits,
  seconds: () => number,
  end: number,
): Promise<KernelTimes> {
  const way = oneByOne(limits, seconds);
  const warmUpEnd = seconds() + WARM_UP_SHARE * (end - seconds());
  const warmUp = new Timing(limits, seconds, warmUpEnd, way);
  // Backends differ a thousandfold: what is cheap says first how long the rest may take.
  await warmUp.timeAlone(cheapest(items));
  // Engines compile a kernel well only after it has run for a while.
  await warmUp.timeAlone(items);
  const timing = new Timing(limits, seconds, end, way, warmUp.pace);
  const short = items.filter(
    (item) => timing.expected(item) < item.count * SHORT_SECONDS && item.work.bytes < TOGETHER_BYTES_MAX,
  );
  await timing.timeTogether(short);
  await timing.timeAlone(items.filter((item) => !short.includes(item)));
  return added(items, timing);
}

function joined(times: readonly KernelTimes[]): KernelTimes {
  const seconds = times.reduce((sum, one) => sum + one.seconds, 0);
  const timed = times.reduce((sum, one) => sum + one.timedShare * one.seconds, 0);
  return { seconds, timedShare: seconds === 0 ? 1 : timed / seconds };
}

function oneByOne({ callSeconds }: TimingLimits, seconds: () => number): Way {
  const own = (taken: number): number => Math.max(0, taken - callSeconds);
  return {
    ...{ callsAlone: () => 2, callsTogether: () => 6, tellsApart: true, paceMax: Number.POSITIVE_INFINITY },
    alone: async (call) => own(await timeCall(call, seconds)),
    together: async (calls) => (await timeInTurns(calls, seconds)).map(own),
  };
}

function inGraphs(overhead: GraphOverhead, seconds: () => number): Way {
  return {
    ...{ callsAlone: callsInGraph, callsTogether: callsInGraph, tellsApart: false, paceMax: 1 },
    alone: async (call) => timeInGraph([call], overhead, seconds),
    together: async (calls, expected) => {
      const all = timeInGraph(calls, overhead, seconds);
      const sum = expected.reduce((total, one) => total + one, 0);
      return expected.map((one) => (all * one) / sum);
    },
  };
}

/** Times calls until its end, and leaves out what would go beyond it or has no room. */
class Timing {
  readonly timed = new Map<Item, number>();
  readonly pace = new Pace();
  readonly #limits: TimingLimits;
  readonly #seconds: () => number;
  readonly #end: number;
  readonly #way: Way;
  readonly #earlier: Pace;

  /** @param earlier how long calls have taken before */
  constructor(limits: TimingLimits, seconds: () => number, end: number, way: Way, earlier?: Pace) {
    this.#limits = limits;
    this.#seconds = seconds;
    this.#end = end;
    this.#way = way;
    this.#earlier = earlier ?? this.pace;
  }

  /** Of all its calls, before it is timed. */
  expected(item: Item): number {
    return item.count * item.guess * this.#earlier.of(item);
  }

  async timeAlone(items: readonly Item[]): Promise<void> {
    for (const item of items) {
      const { bytes, scratchBytes } = item.work;
      if (!this.#fits([item], this.#way.callsAlone) || bytes + scratchBytes > this.#limits.bytesMax) continue;
      this.#learn(item, await this.#way.alone(item.call));
    }
  }

  async timeTogether(items: readonly Item[]): Promise<void> {
    for (const group of groups(items, this.#way.tellsApart)) {
      if (!this.#fits(group, this.#way.callsTogether)) continue;
      const calls = group.map(({ call }) => call);
      const expected = group.map((item) => item.guess * this.#earlier.of(item));
      const taken = await this.#way.together(calls, expected);
      for (const [index, item] of group.entries()) this.#learn(item, taken[index] ?? 0);
    }
  }

  #fits(items: readonly Item[], times: (seconds: number) => number): boolean {
    const expected = items.reduce(
      (sum, item) => sum + item.guess * Math.min(this.#way.paceMax, this.#earlier.of(item)),
      0,
    );
    return times(expected) * expected <= this.#end - this.#seconds();
  }

  #learn(item: Item, seconds: number): void {
    this.timed.set(item, seconds);
    this.pace.add(item, seconds);
  }
}

/**
 * Calls that are timed together, as many as there is room for, in their order. Where they are not told apart a group's are
 * made equally often in a step: then it does not matter which of them has taken how much of what all took.
 */
export function groups(items: readonly Item[], areToldApart: boolean): Item[][] {
  const found: Item[][] = [];
  const open = new Map<number, { readonly group: Item[]; room: number }>();
  for (const item of items) {
    const kind = areToldApart ? 0 : item.count;
    let last = open.get(kind);
    if (!last || last.group.length === TOGETHER_CALLS_MAX || item.work.bytes > last.room) {
      last = { group: [], room: TOGETHER_BYTES_MAX };
      open.set(kind, last);
      found.push(last.group);
    }
    last.group.push(item);
    last.room -= item.work.bytes;
  }
  return found;
}

/** Of every kernel the call with the least to do. */
function cheapest(items: readonly Item[]): Item[] {
  const found = new Map<string, Item>();
  for (const item of items) {
    const known = found.get(item.call.kernel);
    if (!known || item.guess < known.guess) found.set(item.call.kernel, item);
  }
  return [...found.values()].sort((a, b) => a.guess - b.guess);
}

function guessed({ flops, bytes }: KernelWork): number {
  return CALL_SECONDS + flops / GUESSED_FLOPS_PER_SECOND + bytes / GUESSED_BYTES_PER_SECOND;
}

function added(items: readonly Item[], { timed, pace }: Timing): KernelTimes {
  let [seconds, sure] = [0, 0];
  for (const item of items) {
    const own = timed.get(item);
    seconds += item.count * (own ?? item.guess * pace.of(item));
    if (own !== undefined) sure += item.count * own;
  }
  return { seconds, timedShare: seconds === 0 ? 1 : sure / seconds };
}

/** Measured over guessed: of a kernel, else of a kind of work, else over all; 1 before anything was measured. */
class Pace {
  readonly #sums = new Map<string, { guess: number; seconds: number }>();

  add(item: Item, seconds: number): void {
    for (const key of keysOf(item)) {
      const sums = this.#sums.get(key) ?? { guess: 0, seconds: 0 };
      this.#sums.set(key, { guess: sums.guess + item.guess, seconds: sums.seconds + seconds });
    }
  }

  of(item: Item): number {
    for (const key of keysOf(item)) {
      const sums = this.#sums.get(key);
      if (sums) return Math.max(PACE_MIN, sums.seconds / sums.guess);
    }
    return 1;
  }
}

function keysOf({ call, work }: Item): string[] {
  return [`kernel ${call.kernel}`, `kind ${work.kind}`, "all"];
}
