// The seconds of kernel calls on the running backend, on drawn numbers: of a long call alone, of short ones in turns, as a
// step makes them, because a call that is repeated is faster than one between others.

import { tf } from "../backend/tensors.ts";
import { bytesOf, type KernelCall, type TensorForm } from "./kernel-call.ts";

/** A round of repetitions takes so long at least, where the bound of repetitions lets it. */
const ROUND_SECONDS_MIN = 3e-4;
const REPEATS_MAX = 32;
/** Their median is taken: one of them may meet the compiler or the collector. */
const ROUNDS = 5;
/** A call that takes so long is not disturbed by either. */
const LONG_SECONDS = 0.05;
/**
 * Repetitions take turns among copies of the inputs, and their outputs stay until the round has ended: in a step, too,
 * what a kernel reads and writes has partly left the processor's caches.
 */
const COPIES_BYTES_MAX = 32 * 2 ** 20;
const COPIES_MAX = 16;

type Inputs = Readonly<Record<string, tf.Tensor>>;

/** @param seconds a clock: of the processor for backends that compute in this process */
export async function timeCall(call: KernelCall, seconds: () => number): Promise<number> {
  const bytes = Object.values(call.inputs).reduce((sum, form) => sum + bytesOf(form), 1);
  const copyCount = Math.max(1, Math.min(COPIES_MAX, Math.floor(COPIES_BYTES_MAX / bytes)));
  const copies = Array.from({ length: copyCount }, () => drawnInputs(call));
  let next = 0;
  const turn = (): Inputs => {
    next = (next + 1) % copies.length;
    return copies[next] ?? {};
  };
  try {
    await timed(call, 1, turn, seconds);
    const once = await timed(call, 1, turn, seconds);
    if (once > LONG_SECONDS) return once;
    const repeats = Math.min(REPEATS_MAX, Math.ceil(ROUND_SECONDS_MIN / Math.max(once, 1e-6)));
    const rounds: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) rounds.push(await timed(call, repeats, turn, seconds));
    return rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? once;
  } finally {
    tf.dispose([...copies]);
  }
}

/**
 * Seconds of each of the calls, which take turns.
 * @param calls that the backend can hold together
 */
export async function timeInTurns(calls: readonly KernelCall[], seconds: () => number): Promise<number[]> {
  const inputs = calls.map(drawnInputs);
  const rounds = calls.map((): number[] => []);
  try {
    for (let round = 0; round <= ROUNDS; round += 1) {
      for (const [index, call] of calls.entries()) {
        const own = inputs[index] ?? {};
        const taken = await timed(call, 1, () => own, seconds);
        if (round > 0) rounds[index]?.push(taken);
      }
    }
    const clock = clockSeconds(seconds);
    return rounds.map((own) => Math.max(0, (own.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0) - clock));
  } finally {
    tf.dispose([...inputs]);
  }
}

/** What reading the clock costs. */
function clockSeconds(seconds: () => number): number {
  const start = seconds();
  for (let reading = 0; reading < REPEATS_MAX; reading += 1) seconds();
  return (seconds() - start) / (REPEATS_MAX + 1);
}

/** Seconds of each of some repetitions. */
async function timed(
  { kernel, isList, attributes }: KernelCall,
  repeats: number,
  turn: () => Inputs,
  seconds: () => number,
): Promise<number> {
  const given = Array.from({ length: repeats }, () => {
    const inputs = turn();
    return (isList ? Object.values(inputs) : inputs) as tf.NamedTensorMap; // The engine does not type lists.
  });
  const outputs: (tf.Tensor | tf.Tensor[])[] = [];
  await settled();
  const start = seconds();
  // The engine types attributes narrowly; they are as they were recorded.
  for (const inputs of given)
    outputs.push(tf.engine().runKernel(kernel, inputs, attributes as tf.NamedAttrMap));
  await settled();
  const passed = seconds() - start;
  tf.dispose(outputs);
  return passed / repeats;
}

/** Waits until the backend has done what it was given: some compute behind the back of the caller. */
async function settled(): Promise<void> {
  if (isImmediate()) return;
  const one = tf.scalar(1);
  await one.data();
  one.dispose();
}

/** These compute within the call. */
function isImmediate(): boolean {
  return ["wasm", "cpu", "rehearsal"].includes(tf.getBackend());
}

function drawnInputs({ inputs }: KernelCall): Inputs {
  return Object.fromEntries(Object.entries(inputs).map(([name, form]) => [name, drawnTensor(form)]));
}

/** Numbers that no kernel is slow or fast for; indices are all the first. */
export function drawnTensor({ shape, dtype }: TensorForm): tf.Tensor {
  return dtype === "float32" ? tf.fill([...shape], 0.5) : tf.zeros([...shape], dtype);
}
