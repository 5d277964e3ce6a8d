// The seconds of one kernel call on the running backend, alone and on drawn numbers.

import { tf } from "../backend/tensors.ts";
import type { KernelCall, TensorForm } from "./kernel-call.ts";

/** A round of repetitions takes so long at least, where the bound of repetitions lets it. */
const ROUND_SECONDS_MIN = 3e-4;
const REPEATS_MAX = 32;
/** Their median is taken: one of them may meet the compiler or the collector. */
const ROUNDS = 5;
/** A call that takes so long is not disturbed by either. */
const LONG_SECONDS = 0.05;

/** @param seconds a clock: of the processor for backends that compute in this process */
export async function timeCall(call: KernelCall, seconds: () => number): Promise<number> {
  const inputs = Object.fromEntries(Object.entries(call.inputs).map(([name, form]) => [name, drawn(form)]));
  const given = call.isList ? Object.values(inputs) : inputs;
  const run = () => {
    tf.tidy(() => {
      // The engine types attributes narrowly and lists not at all; both are as they were recorded.
      tf.engine().runKernel(call.kernel, given as tf.NamedTensorMap, call.attributes as tf.NamedAttrMap);
    });
  };
  try {
    run();
    const once = await timed(run, 1, seconds);
    if (once > LONG_SECONDS) return once;
    const repeats = Math.min(REPEATS_MAX, Math.ceil(ROUND_SECONDS_MIN / Math.max(once, 1e-6)));
    const rounds: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) rounds.push(await timed(run, repeats, seconds));
    return rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? once;
  } finally {
    tf.dispose(inputs);
  }
}

async function timed(run: () => void, repeats: number, seconds: () => number): Promise<number> {
  await settled();
  const start = seconds();
  for (let repeat = 0; repeat < repeats; repeat += 1) run();
  if (!isImmediate()) await settled();
  return (seconds() - start) / repeats;
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

/** Numbers that no kernel is slow or fast for; indices are all the first. */
function drawn({ shape, dtype }: TensorForm): tf.Tensor {
  return dtype === "float32" ? tf.fill([...shape], 0.5) : tf.zeros([...shape], dtype);
}
