// A model's weights as tensors under PyTorch's names, frozen or trainable. It owns its tensors: replacing one disposes
// the old, and `dispose` ends them all. Weights enter and leave as float32 arrays in PyTorch's order.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import { tf } from "../backend/tensors.ts";
import { fromLayout, layoutShape, type TensorLayout, toLayout } from "./tensor-layout.ts";

export type Weights = ReadonlyMap<string, Float32Array>;

export type WeightsErrorCode = "weights.missing" | "weights.wrong-size";

export class WeightsError extends Error {
  override name = "WeightsError";
  readonly code: WeightsErrorCode;

  constructor(code: WeightsErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export type ParameterPlan = {
  /** Every tensor of the model. */
  readonly specs: readonly ParameterSpec[];
  /** In the order of the delta. */
  readonly trainable: readonly ParameterSpec[];
  readonly layoutOf: (spec: ParameterSpec) => TensorLayout;
};

export class Parameters {
  readonly trainableNames: readonly string[];
  readonly #specs: ReadonlyMap<string, ParameterSpec>;
  readonly #tensors = new Map<string, tf.Tensor>();
  readonly #layoutOf: ParameterPlan["layoutOf"];

  /** @throws WeightsError that lists every weight that is missing or has another number of elements. */
  constructor({ specs, trainable, layoutOf }: ParameterPlan, weights: Weights) {
    expectWeights(specs, weights);
    this.#specs = new Map(specs.map((spec) => [spec.name, spec]));
    this.#layoutOf = layoutOf;
    this.trainableNames = trainable.map(({ name }) => name);
    for (const spec of specs) {
      const layout = layoutOf(spec);
      const values = toLayout(expectDefined(weights.get(spec.name), spec.name), spec.shape, layout);
      this.#tensors.set(spec.name, tf.keep(tf.tensor(values, layoutShape(spec.shape, layout))));
    }
  }

  /** The tensor in the model's own order; it stays the property of this object. */
  tensor<Rank extends tf.Rank = tf.Rank>(name: string): tf.Tensor<Rank> {
    return expectDefined(this.#tensors.get(name), `parameter ${name}`) as tf.Tensor<Rank>; // The spec's rank.
  }

  /** All of them; they stay the property of this object. */
  tensors(): ReadonlyMap<string, tf.Tensor> {
    return this.#tensors;
  }

  /** The trainable tensors in the order of the delta. */
  trainable(): Map<string, tf.Tensor> {
    return new Map(this.trainableNames.map((name) => [name, this.tensor(name)]));
  }

  /** Take over tensors in place of the named ones. */
  replace(tensors: ReadonlyMap<string, tf.Tensor>): void {
    for (const [name, tensor] of tensors) {
      const old = this.tensor(name);
      tf.util.assertShapesMatch(tensor.shape, old.shape, `parameter ${name}: `);
      this.#tensors.set(name, tf.keep(tensor));
      old.dispose();
    }
  }

  /** The named weights in PyTorch's order, copied out of the backend. */
  async export(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const weights = new Map<string, Float32Array>();
    for (const name of names) {
      const values = (await this.tensor(name).data()) as Float32Array; // Every parameter is float32.
      const spec = expectDefined(this.#specs.get(name), `parameter ${name}`);
      weights.set(name, fromLayout(values, spec.shape, this.#layoutOf(spec)));
    }
    return weights;
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }
}

function expectWeights(specs: readonly ParameterSpec[], weights: Weights): void {
  const missing = specs.filter(({ name }) => !weights.has(name)).map(({ name }) => name);
  if (missing.length > 0)
    throw new WeightsError("weights.missing", `The model also needs: ${missing.join(", ")}.`);
  const wrong = specs
    .filter((spec) => weights.get(spec.name)?.length !== elementCount(spec))
    .map(({ name }) => name);
  if (wrong.length === 0) return;
  throw new WeightsError(
    "weights.wrong-size",
    `These weights have another size than the model's: ${wrong.join(", ")}.`,
  );
}
