// How long the running backend takes for the kernel calls of a rehearsed step, on drawn numbers and never as the step
// itself: long calls alone, the most expensive first, short ones in turns. For what does not fit into the time limit or
// into the room, the rate of the same kernel on other shapes stands, and else that of the same kind of work.

import type { CountedCalls, KernelCall } from "./kernel-call.ts";
import { SHARING_KERNELS } from "./kernel-outputs.ts";
import { type KernelWork, kernelWork } from "./kernel-work.ts";
import { timeCall, timeInTurns } from "./time-call.ts";

export type TimingLimits = {
  /** All timing together, in the seconds of the clock. */
  readonly secondsMax: number;
  /** Inputs, outputs and scratch space of one call. */
  readonly bytesMax: number;
  /** What the rehearsal has already counted for every call, whatever it computes. */
  readonly callSeconds: number;
};

export type KernelTimes = {
  /** Of all calls, as often as the step makes them. */
  readonly seconds: number;
  /** How much of it was timed and not inferred from other shapes. */
  readonly timedShare: number;
};

const WARM_UP_SHARE = 0.2;
/** A long call is made twice, once to get warm. */
const CALLS_EACH = 2;
/** Calls below this are timed in turns. */
const SHORT_SECONDS = 5e-4;
const TURNS = 6;
const TURNS_CALLS_MAX = 256;
const TURNS_BYTES_MAX = 64 * 2 ** 20;
/** Rates that order the calls before anything was timed. */
const GUESSED_FLOPS_PER_SECOND = 1e10;
const GUESSED_BYTES_PER_SECOND = 2e9;
const CALL_SECONDS = 5e-6;

type Item = {
  readonly call: KernelCall;
  readonly count: number;
  readonly work: KernelWork;
  readonly guess: number;
};

/** @param seconds a clock: of the processor for backends that compute in this process */
export async function timeKernels(
  calls: CountedCalls,
  limits: TimingLimits,
  seconds: () => number,
): Promise<KernelTimes> {
  const items = calls
    .filter(({ call }) => !SHARING_KERNELS.includes(call.kernel))
    .map(({ call, count }): Item => {
      const work = kernelWork(call);
      return { call, count, work, guess: guessed(work) };
    })
    .sort((a, b) => b.count * b.guess - a.count * a.guess);
  const end = seconds() + limits.secondsMax;
  const warmUp = new Timing(limits, seconds, end - (1 - WARM_UP_SHARE) * limits.secondsMax);
  // Backends differ a thousandfold: what is cheap says first how long the rest may take.
  await warmUp.timeAlone(cheapest(items));
  // Engines compile a kernel well only after it has run for a while.
  await warmUp.timeAlone(items);
  const timing = new Timing(limits, seconds, end, warmUp.pace);
  const isShort = (item: Item): boolean =>
    item.guess * warmUp.pace.of(item) < SHORT_SECONDS && item.work.bytes < TURNS_BYTES_MAX;
  await timing.timeInTurns(items.filter(isShort));
  await timing.timeAlone(items.filter((item) => !isShort(item)));
  return added(items, timing);
}

/** Times calls until its end, and leaves out what would go beyond it or has no room. */
class Timing {
  readonly timed = new Map<Item, number>();
  readonly pace = new Pace();
  readonly #limits: TimingLimits;
  readonly #seconds: () => number;
  readonly #end: number;
  readonly #earlier: Pace;

  /** @param earlier how long calls have taken before */
  constructor(limits: TimingLimits, seconds: () => number, end: number, earlier?: Pace) {
    this.#limits = limits;
    this.#seconds = seconds;
    this.#end = end;
    this.#earlier = earlier ?? this.pace;
  }

  async timeAlone(items: readonly Item[]): Promise<void> {
    for (const item of items) {
      const { bytes, scratchBytes } = item.work;
      if (!this.#fits([item], CALLS_EACH) || bytes + scratchBytes > this.#limits.bytesMax) continue;
      this.#learn(item, await timeCall(item.call, this.#seconds));
    }
  }

  async timeInTurns(items: readonly Item[]): Promise<void> {
    for (const group of groups(items)) {
      if (!this.#fits(group, TURNS)) continue;
      const calls = group.map(({ call }) => call);
      const taken = await timeInTurns(calls, this.#seconds);
      for (const [index, item] of group.entries()) this.#learn(item, taken[index] ?? 0);
    }
  }

  #fits(items: readonly Item[], times: number): boolean {
    const expected = items.reduce((sum, item) => sum + times * item.guess * this.#earlier.of(item), 0);
    return expected <= this.#end - this.#seconds();
  }

  #learn(item: Item, taken: number): void {
    const own = Math.max(0, taken - this.#limits.callSeconds);
    this.timed.set(item, own);
    this.pace.add(item, own);
  }
}

/** Calls that take turns, as many as there is room for. */
function groups(items: readonly Item[]): Item[][] {
  const found: Item[][] = [];
  let room = 0;
  for (const item of items) {
    const group = found.at(-1);
    if (group && group.length < TURNS_CALLS_MAX && item.work.bytes <= room) group.push(item);
    else {
      found.push([item]);
      room = TURNS_BYTES_MAX;
    }
    room -= item.work.bytes;
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
      if (sums) return sums.seconds / sums.guess;
    }
    return 1;
  }
}

function keysOf({ call, work }: Item): string[] {
  return [`kernel ${call.kernel}`, `kind ${work.kind}`, "all"];
}
