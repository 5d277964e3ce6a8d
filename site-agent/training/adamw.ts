// AdamW (Loshchilov and Hutter 2019) as a pure pair: `initialAdamW` and `updateAdamW`. An update makes new tensors and
// disposes none; the caller owns both the old ones and the new.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { ADAMW_STEP, type AdamWStepNumbers, hasKernel, runKernel } from "../backend/fused-kernel.ts";
import { tf } from "../backend/tensors.ts";

export type AdamWPlan = {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled; biases and norms, the tensors of one axis, do not decay. */
  readonly weightDecay: number;
};

export const ADAMW_DEFAULTS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

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
  /** Of the learning rate, for some values by name. */
  readonly learningRateShares?: ReadonlyMap<string, number>;
  /** Multiplies every gradient, which is how a norm is clipped. */
  readonly gradientScale: number;
};

/** New values and the state behind them. */
export function updateAdamW(
  plan: AdamWPlan,
  state: AdamWState,
  { values, gradients, learningRate, learningRateShares, gradientScale }: AdamWUpdate,
): { readonly values: Tensors; readonly state: AdamWState } {
  const { beta1, beta2, epsilon, weightDecay } = plan;
  const step = state.step + 1;
  const root = 1 / Math.sqrt(1 - beta2 ** step);
  const newValues = new Map<string, tf.Tensor>();
  const [first, second] = [new Map<string, tf.Tensor>(), new Map<string, tf.Tensor>()];
  const groups = new Map<string, { readonly names: string[]; readonly numbers: AdamWStepNumbers }>();
  for (const [name, value] of values) {
    const own = learningRate * (learningRateShares?.get(name) ?? 1);
    const keep = value.rank > 1 ? 1 - own * weightDecay : 1;
    const rate = own / (1 - beta1 ** step);
    const key = hasKernel(ADAMW_STEP) ? name : `${own} ${keep}`;
    const group = groups.get(key) ?? {
      ...{ names: [], numbers: { beta1, beta2, keep, rate, root, epsilon, gradientScale } },
    };
    group.names.push(name);
    groups.set(key, group);
  }
  for (const { names, numbers } of groups.values()) {
    const of = (tensors: Tensors, what: string): tf.Tensor[] =>
      names.map((name) => expectDefined(tensors.get(name), `${what} of ${name}`));
    const inputs = {
      value: of(values, "value"),
      gradient: of(gradients, "gradient"),
      first: of(state.first, "first moment"),
      second: of(state.second, "second moment"),
    };
    const stepped = stepTogether(inputs, numbers);
    names.forEach((name, index) => {
      newValues.set(name, expectDefined(stepped.value[index], name));
      first.set(name, expectDefined(stepped.first[index], name));
      second.set(name, expectDefined(stepped.second[index], name));
    });
  }
  return { values: newValues, state: { step, first, second } };
}

type Moments = { readonly first: tf.Tensor; readonly second: tf.Tensor };
type StepInputs = { value: tf.Tensor; gradient: tf.Tensor; first: tf.Tensor; second: tf.Tensor };

type Each<T> = { readonly [Name in keyof T]: tf.Tensor[] };

/**
 * Tensors with the same numbers, one after another in a single one: where operations are carried out one by one, hundreds
 * of small tensors take longer on the way to the backend than in it.
 */
function stepTogether(
  inputs: Each<StepInputs>,
  numbers: AdamWStepNumbers,
): Each<Moments & { readonly value: tf.Tensor }> {
  const { value, gradient, first, second } = inputs;
  return tf.tidy(() => {
    const flat = (tensors: readonly tf.Tensor[]): tf.Tensor =>
      tf.concat(tensors.map((tensor) => tf.reshape(tensor, [tensor.size])));
    const stepped = stepTensor(
      { value: flat(value), gradient: flat(gradient), first: flat(first), second: flat(second) },
      numbers,
    );
    const sizes = value.map(({ size }) => size);
    const split = (whole: tf.Tensor): tf.Tensor[] => (sizes.length === 1 ? [whole] : tf.split(whole, sizes));
    const parts = (whole: tf.Tensor): tf.Tensor[] =>
      split(whole).map((part, index) => tf.reshape(part, value[index]?.shape ?? []));
    return { value: parts(stepped.value), first: parts(stepped.first), second: parts(stepped.second) };
  });
}

function stepTensor(inputs: StepInputs, numbers: AdamWStepNumbers): Moments & { readonly value: tf.Tensor } {
  if (hasKernel(ADAMW_STEP)) {
    const outputs = runKernel(ADAMW_STEP, inputs, numbers);
    const [value, first, second] = outputs as [tf.Tensor, tf.Tensor, tf.Tensor]; // Three, as the kernel's name says.
    return { value, first, second };
  }
  const { beta1, beta2, keep, rate, root, epsilon, gradientScale } = numbers;
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
