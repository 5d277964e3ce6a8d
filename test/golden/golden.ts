// Reference activations and gradients of the official PyTorch code, one folder a case beside the repository. Readers
// get `undefined` where the folder is not there and say so by name.

import { existsSync, readFileSync } from "node:fs";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { float32Values, readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";

const GOLDENS = new URL("../../../shared/goldens/", import.meta.url);

const Tolerance = Type.Object({
  shape: Type.Optional(Type.Array(Type.Integer())),
  absmax: Type.Optional(Type.Number()),
  /** Largest accepted difference. */
  tol: Type.Optional(Type.Number()),
  /** Integers that must be equal. */
  exact: Type.Optional(Type.Boolean()),
  /** Zero in exact arithmetic: only the size is checked. */
  null: Type.Optional(Type.Boolean()),
});
export type Tolerance = Static<typeof Tolerance>;
const Tolerances = Type.Record(Type.String(), Tolerance);

/** In PyTorch's order, that is NCHW for images. */
export type GoldenTensor = { readonly shape: readonly number[]; readonly values: Float32Array | Int32Array };

export type Golden = {
  readonly inputs: ReadonlyMap<string, GoldenTensor>;
  readonly outputs: ReadonlyMap<string, GoldenTensor>;
  readonly gradients: ReadonlyMap<string, GoldenTensor>;
  readonly weights: ReadonlyMap<string, GoldenTensor>;
  readonly tolerances: Readonly<Record<string, Tolerance>>;
  readonly config: unknown;
};

/** Why a test cannot run, in the form that the test runner takes: false when it can. */
export function missingGolden(name: string): string | false {
  return existsSync(new URL(`${name}/config.json`, GOLDENS)) ? false : `no ../shared/goldens/${name}`;
}

/** The golden case; call it only where `missingGolden` is false. */
export function readGolden(name: string): Golden {
  const folder = new URL(`${name}/`, GOLDENS);
  const json = (file: string): unknown => JSON.parse(readFileSync(new URL(file, folder), "utf8"));
  const bundle = (file: string) => readTensors(new URL(file, folder));
  return {
    inputs: bundle("inputs.safetensors"),
    outputs: bundle("outputs.safetensors"),
    gradients: bundle("grads.safetensors"),
    weights: bundle("weights.safetensors"),
    tolerances: Value.Parse(Tolerances, json("tolerances.json")),
    config: json("config.json"),
  };
}

function readTensors(file: URL): ReadonlyMap<string, GoldenTensor> {
  if (!existsSync(file)) return new Map();
  const { tensors } = readTensorBundle(readFileSync(file));
  const read = new Map<string, GoldenTensor>();
  for (const [name, tensor] of tensors) {
    const { dtype, shape, bytes } = tensor;
    const values = dtype === "F32" ? float32Values(tensor) : new Int32Array(new Uint8Array(bytes).buffer);
    read.set(name, { shape, values });
  }
  return read;
}

/** A tensor that the case holds by its own description. */
export function goldenTensor(tensors: ReadonlyMap<string, GoldenTensor>, name: string): GoldenTensor {
  return expectDefined(tensors.get(name), `golden tensor ${name}`);
}

/** The same as float32. */
export function goldenFloats(tensors: ReadonlyMap<string, GoldenTensor>, name: string): Float32Array {
  return Float32Array.from(goldenTensor(tensors, name).values);
}
