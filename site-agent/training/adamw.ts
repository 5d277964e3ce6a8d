// AdamW (Loshchilov and Hutter 2019) as a pure pair: `initialAdamW` and `updateAdamW`. An update makes new tensors and
// disposes none; the caller owns both the old ones and the new.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import {
  ADAMW_STEP,
  type AdamWConstants,
  type AdamWInputs,
  hasKernel,
  runKernel,
} from "../backend/fused-kernel.ts";
import { tf } from "../backend/tensors.ts";

export type AdamWPlan = AdamWConstants & {
  /** Decoupled; biases and norms, the tensors of one axis, do not decay. */
  readonly weightDecay: number;
  /** Of the learning rate, for some tensors by name. */
  readonly learningRateShares?: ReadonlyMap<string, number>;
};

export const ADAMW_DEFAULTS: AdamWConstants = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

type Tensors = ReadonlyMap<string, tf.Tensor>;

/** `step` counts the updates made; the moments have the shapes of the values. */
export type AdamWState = { readonly step: number; readonly first: Tensors; readonly second: Tensors };

/** The state as numbers, in the model's own order. */
export type AdamWRecord = {
  readonly step: number;
  readonly first: ReadonlyMap<string, Float32Array>;
  readonly second: ReadonlyMap<string, Float32Array>;
};

/** Zero moments for tensors of the given shapes. */
export function initialAdamW(values: ReadonlyMap<string, { readonly shape: number[] }>): AdamWState {
  const zeros = (): Tensors => new Map([...values].map(([name, { shape }]) => [name, tf.zeros(shape)]));
  return { step: 0, first: zeros(), second: zeros() };
}

export type AdamWUpdate = {
  readonly values: Tensors;
  /** One for every value. */
  readonly gradients: Tensors;
  readonly learningRate: number;
  /** Multiplies every gradient, which is how a norm is clipped. */
  readonly gradientScale: number;
};

/** New values and the state behind them. */
export function updateAdamW(
  plan: AdamWPlan,
  state: AdamWState,
  { values, gradients, learningRate, gradientScale }: AdamWUpdate,
): { readonly values: Tensors; readonly state: AdamWState } {
  const names = [...values.keys()];
  const numbers = stepNumbers(plan, { step: state.step + 1, names, learningRate });
  const scale = tf.scalar(gradientScale);
  try {
    const tensors = { values, gradients, ...state, gradientScale: scale, numbers };
    const { values: moved, ...moments } = stepTensors(plan, tensors);
    return { values: moved, state: { step: state.step + 1, ...moments } };
  } finally {
    tf.dispose([numbers, scale]);
  }
}

export type AdamWTensors = {
  readonly values: Tensors;
  readonly gradients: Tensors;
  readonly first: Tensors;
  readonly second: Tensors;
  /** A scalar that multiplies every gradient, which is how a norm is clipped. */
  readonly gradientScale: tf.Tensor;
  /** As `stepNumbers` gives them. */
  readonly numbers: tf.NamedTensorMap;
};

/** The arithmetic of an update, all of it in tensors. */
export function stepTensors(
  plan: AdamWPlan,
  { values, gradients, first, second, gradientScale, numbers }: AdamWTensors,
): Record<"values" | "first" | "second", Map<string, tf.Tensor>> {
  const of = (tensors: Tensors, name: string): tf.Tensor => expectDefined(tensors.get(name), name);
  const number = (key: string): tf.Tensor => expectDefined(numbers[key], key);
  const stepped = {
    ...{ values: new Map<string, tf.Tensor>(), first: new Map<string, tf.Tensor>() },
    second: new Map<string, tf.Tensor>(),
  };
  for (const [name, value] of values) {
    const share = shareOf(plan, name);
    const inputs = {
      ...{ value, gradient: of(gradients, name), first: of(first, name), second: of(second, name) },
      ...{ rate: number(keyOf("rate", share)), root: number(ROOT), gradientScale },
      keep: number(value.rank > 1 ? keyOf("keep", share) : KEEP_ALL),
    };
    const found = stepTensor(inputs, plan);
    stepped.values.set(name, found.value);
    stepped.first.set(name, found.first);
    stepped.second.set(name, found.second);
  }
  return stepped;
}

const [ROOT, KEEP_ALL] = ["root", "keep all"];

function keyOf(role: string, share: number): string {
  return `${role} ${share}`;
}

function shareOf({ learningRateShares }: AdamWPlan, name: string): number {
  return learningRateShares?.get(name) ?? 1;
}

type Step = { readonly step: number; readonly names: readonly string[]; readonly learningRate: number };

/** What changes from step to step beside the tensors, as scalars. @param step the number of the update, from 1 up */
export function stepNumbers(plan: AdamWPlan, { step, names, learningRate }: Step): tf.NamedTensorMap {
  const shares = new Set(names.map((name) => shareOf(plan, name)));
  const rates = [...shares].flatMap((share) => [
    [keyOf("rate", share), (learningRate * share) / (1 - plan.beta1 ** step)] as const,
    [keyOf("keep", share), 1 - learningRate * share * plan.weightDecay] as const,
  ]);
  const all = [...rates, [KEEP_ALL, 1], [ROOT, 1 / Math.sqrt(1 - plan.beta2 ** step)]] as const;
  return Object.fromEntries(all.map(([key, value]) => [key, tf.scalar(value)]));
}

type Stepped = Record<"value" | "first" | "second", tf.Tensor>;

function stepTensor(inputs: AdamWInputs, { beta1, beta2, epsilon }: AdamWConstants): Stepped {
  if (hasKernel(ADAMW_STEP)) {
    const outputs = runKernel(ADAMW_STEP, inputs, { beta1, beta2, epsilon });
    const [value, first, second] = outputs as [tf.Tensor, tf.Tensor, tf.Tensor]; // Three, as the kernel's name says.
    return { value, first, second };
  }
  const { keep, rate, root, gradientScale } = inputs;
  return tf.tidy(() => {
    const gradient = tf.mul(inputs.gradient, gradientScale);
    const first = tf.add(tf.mul(inputs.first, beta1), tf.mul(gradient, 1 - beta1));
    const second = tf.add(tf.mul(inputs.second, beta2), tf.mul(tf.square(gradient), 1 - beta2));
    const change = tf.div(tf.mul(first, rate), tf.add(tf.mul(tf.sqrt(second), root), epsilon));
    return { value: tf.sub(tf.mul(inputs.value, keep), change), first, second };
  });
}

export function disposeAdamW({ first, second }: AdamWState): void {
  tf.dispose([...first.values(), ...second.values()]);
}

export async function exportAdamW({ step, first, second }: AdamWState): Promise<AdamWRecord> {
  return { step, first: await readTensors(first), second: await readTensors(second) };
}

/** @param values the tensors that the state belongs to; their shapes are the moments' */
export function importAdamW({ step, first, second }: AdamWRecord, values: Tensors): AdamWState {
  const moments = (record: AdamWRecord["first"]): Tensors =>
    mapTensors(values, ({ shape }, name) =>
      tf.tensor(expectDefined(record.get(name), `moment of ${name}`), shape),
    );
  return { step, first: moments(first), second: moments(second) };
}

async function readTensors(tensors: Tensors): Promise<Map<string, Float32Array>> {
  const read = new Map<string, Float32Array>();
  for (const [name, tensor] of tensors) read.set(name, (await tensor.data()) as Float32Array); // All are float32.
  return read;
}

function mapTensors(tensors: Tensors, make: (tensor: tf.Tensor, name: string) => tf.Tensor): Tensors {
  return new Map([...tensors].map(([name, tensor]) => [name, make(tensor, name)]));
}
