// One call of a backend's kernel as far as its cost depends on it: names, shapes and attributes, and no number of any
// tensor. Calls with the same key cost the same.

import { tf } from "../backend/tensors.ts";

export type TensorForm = { readonly shape: readonly number[]; readonly dtype: tf.DataType };
export type Attributes = Readonly<Record<string, unknown>>;

export type KernelCall = {
  readonly kernel: string;
  readonly inputs: Readonly<Record<string, TensorForm>>;
  /** The kernel takes a list of inputs; their names are their places. */
  readonly isList: boolean;
  readonly attributes: Attributes;
  readonly outputs: readonly TensorForm[];
};

export type CountedCall = {
  readonly call: KernelCall;
  /** Within a compiled computation, and else by itself. */
  readonly inGraph: boolean;
  count: number;
};

/** Different calls of one step, and how often each is made. */
export type CountedCalls = readonly Readonly<CountedCall>[];

export function elementsOf({ shape }: { readonly shape: readonly number[] }): number {
  return tf.util.sizeFromShape([...shape]);
}

export function bytesOf(form: TensorForm): number {
  return elementsOf(form) * tf.util.bytesPerElement(form.dtype);
}

/** The same for calls that cost the same: numbers in attributes that are no sizes do not count. */
export function callKey({
  kernel,
  inputs,
  attributes,
}: Pick<KernelCall, "kernel" | "inputs" | "attributes">): string {
  const forms = Object.entries(inputs).map(([name, { shape, dtype }]) => `${name}:${dtype}[${shape.join()}]`);
  const sizes = Object.entries(attributes).filter(([, value]) => isSize(value));
  return `${kernel}(${forms.join(";")}|${JSON.stringify(sizes)})`;
}

function isSize(value: unknown): boolean {
  return typeof value !== "number" || Number.isInteger(value);
}

export function input(inputs: KernelCall["inputs"], name: string): TensorForm {
  const found = inputs[name];
  tf.util.assert(found !== undefined, () => `kernel input ${name} is missing`);
  return found as TensorForm; // Asserted above.
}

/** An attribute under the framework's name, in the type that its operation passes. */
export function attribute<T>(attributes: Attributes, name: string): T {
  return attributes[name] as T; // The framework's own operation made the attributes.
}
