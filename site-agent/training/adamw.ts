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

/** Zero moments for the given tensors. */
export function initialAdamW(values: Tensors): AdamWState {
  const zeros = (): Tensors => mapTensors(values, (value) => tf.zerosLike(value));
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

/** New values and the state behind them. @param stepTensors of the same plan; compiled where that is faster */
export function updateAdamW(
  plan: AdamWPlan,
  state: AdamWState,
  update: AdamWUpdate,
  stepTensors = adamWTensors(plan),
): { readonly values: Tensors; readonly state: AdamWState } {
  const { values, gradients } = update;
  const step = state.step + 1;
  const names = [...values.keys()];
  const numbers = numbersOf(plan, step, update);
  const given = { value: values, gradient: gradients, first: state.first, second: state.second };
  const tensors = Object.entries(given).flatMap(([role, of]) =>
    names.map((name) => [keyOf(role, name), expectDefined(of.get(name), keyOf(role, name))]),
  );
  try {
    const stepped = stepTensors({ ...numbers, ...Object.fromEntries(tensors) });
    const taken = (role: Role): Tensors =>
      new Map(names.map((name) => [name, expectDefined(stepped[keyOf(role, name)], keyOf(role, name))]));
    return { values: taken("value"), state: { step, first: taken("first"), second: taken("second") } };
  } finally {
    tf.dispose(numbers);
  }
}

type Role = "value" | "first" | "second";

/** The arithmetic of `updateAdamW` from named tensors to named tensors, as `compileStep` takes it. */
export function adamWTensors(plan: AdamWPlan): (inputs: tf.NamedTensorMap) => tf.NamedTensorMap {
  return (inputs) => {
    const at = (key: string): tf.Tensor => expectDefined(inputs[key], key);
    const names = Object.keys(inputs).flatMap((key) =>
      key.startsWith(VALUE) ? [key.slice(VALUE.length)] : [],
    );
    const outputs: tf.NamedTensorMap = {};
    for (const name of names) {
      const value = at(keyOf("value", name));
      const share = shareOf(plan, name);
      const stepped = stepTensor(
        {
          ...{ value, gradient: at(keyOf("gradient", name)) },
          ...{ first: at(keyOf("first", name)), second: at(keyOf("second", name)) },
          ...{ rate: at(keyOf("rate", share)), keep: at(value.rank > 1 ? keyOf("keep", share) : KEEP_ALL) },
          ...{ root: at(ROOT), gradientScale: at(GRADIENT_SCALE) },
        },
        plan,
      );
      for (const [role, tensor] of Object.entries(stepped)) outputs[keyOf(role, name)] = tensor;
    }
    return outputs;
  };
}

const [ROOT, GRADIENT_SCALE, KEEP_ALL] = ["root", "gradient scale", "keep all"];
const VALUE = keyOf("value", "");

function keyOf(role: string, of: string | number): string {
  return `${role} ${of}`;
}

function shareOf({ learningRateShares }: AdamWPlan, name: string): number {
  return learningRateShares?.get(name) ?? 1;
}

/** What changes from step to step beside the tensors, as scalars. */
function numbersOf(
  plan: AdamWPlan,
  step: number,
  { values, learningRate, gradientScale }: AdamWUpdate,
): tf.NamedTensorMap {
  const shares = new Set([...values.keys()].map((name) => shareOf(plan, name)));
  const rates = [...shares].flatMap((share) => [
    [keyOf("rate", share), (learningRate * share) / (1 - plan.beta1 ** step)] as const,
    [keyOf("keep", share), 1 - learningRate * share * plan.weightDecay] as const,
  ]);
  const all = [
    ...rates,
    [KEEP_ALL, 1],
    [ROOT, 1 / Math.sqrt(1 - plan.beta2 ** step)],
    [GRADIENT_SCALE, gradientScale],
  ] as const;
  return Object.fromEntries(all.map(([key, value]) => [key, tf.scalar(value)]));
}

function stepTensor(inputs: AdamWInputs, { beta1, beta2, epsilon }: AdamWConstants): Record<Role, tf.Tensor> {
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
