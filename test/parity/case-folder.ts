// A golden case as it lies in its folder: configuration, inputs, reference tensors, tolerances and weights, which may be
// stored or follow from the formula of their manifest. It judges nothing.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { float32Values, readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { type Static, type TSchema, Type } from "typebox";
import { Value } from "typebox/value";
import { hashValues } from "../golden/hash-values.ts";

export type CaseTensor = {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array | Uint8Array;
};
type Tensors = ReadonlyMap<string, CaseTensor>;

const FAULTS_MAX = 8;

const Tolerance = Type.Object({
  absmax: Type.Optional(Type.Number()),
  /** Largest accepted difference. */
  tol: Type.Optional(Type.Number()),
  /** Integers that must be equal. */
  exact: Type.Optional(Type.Boolean()),
  /** Zero in exact arithmetic: only the size is checked. */
  null: Type.Optional(Type.Boolean()),
});
export type Tolerance = Static<typeof Tolerance>;

const ConfigFile = Type.Object({
  config: Type.Record(Type.String(), Type.Unknown()),
  notes: Type.Record(Type.String(), Type.Unknown()),
});

const Manifest = Type.Object({
  seed: Type.String(),
  params: Type.Array(
    Type.Object({
      name: Type.String(),
      shape: Type.Array(Type.Integer({ minimum: 1 })),
      // Absent from a second name of another tensor.
      offset: Type.Optional(Type.Number()),
      scale: Type.Optional(Type.Number()),
      alias_of: Type.Optional(Type.String()),
    }),
  ),
});
type Manifest = Static<typeof Manifest>;

export type CaseFolder = {
  readonly path: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly notes: Readonly<Record<string, unknown>>;
  readonly inputs: Tensors;
  /** Outputs and gradients. */
  readonly expected: Tensors;
  readonly tolerances: Readonly<Record<string, Tolerance>>;
  /** Every tensor of the state dict once, in PyTorch's order. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly weightShapes: ReadonlyMap<string, readonly number[]>;
};

/** Why a folder cannot be run, in words for whoever made it. */
export class CaseError extends Error {
  override name = "CaseError";
}

/** @throws CaseError where a file is missing or says something else than the others */
export function readCaseFolder(path: string): CaseFolder {
  const parsed = <Schema extends TSchema>(schema: Schema, file: string): Static<Schema> =>
    parseFile(schema, join(path, file));
  const { config, notes } = parsed(ConfigFile, "config.json");
  const manifest = parsed(Manifest, "weights-manifest.json");
  const own = manifest.params.filter(({ alias_of: alias }) => alias === undefined);
  const stored = readTensors(path, "weights.safetensors");
  const weights = new Map(
    own.map((spec) => [spec.name, storedWeight(stored, spec.name) ?? formula(manifest.seed, spec)]),
  );
  expectDigest(path, weights);
  return {
    path,
    config,
    notes,
    inputs: readTensors(path, "inputs.safetensors"),
    expected: new Map([
      ...readTensors(path, "outputs.safetensors"),
      ...readTensors(path, "grads.safetensors"),
    ]),
    tolerances: parsed(Type.Record(Type.String(), Tolerance), "tolerances.json"),
    weights,
    weightShapes: new Map(own.map(({ name, shape }) => [name, shape])),
  };
}

function parseFile<Schema extends TSchema>(schema: Schema, file: string): Static<Schema> {
  if (!existsSync(file)) throw new CaseError(`${basename(file)} is missing`);
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (Value.Check(schema, value)) return value;
  const faults = Value.Errors(schema, value).slice(0, FAULTS_MAX);
  const text = faults.map(({ instancePath, message }) => `${instancePath} ${message}`).join("; ");
  throw new CaseError(`${basename(file)} is not understood: ${text}`);
}

function storedWeight(stored: Tensors, name: string): Float32Array | undefined {
  const tensor = stored.get(name);
  return tensor && Float32Array.from(tensor.values);
}

/** float32(offset + scale * hash), computed in double precision and rounded once. */
function formula(
  seed: string,
  { name, shape, offset = 0, scale = 0 }: Manifest["params"][number],
): Float32Array {
  const count = shape.reduce((product, size) => product * size, 1);
  return hashValues(`${seed}${name}`, count).map((value) => offset + scale * value);
}

function expectDigest(path: string, weights: ReadonlyMap<string, Float32Array>): void {
  const file = join(path, "weights.sha256");
  if (!existsSync(file)) return;
  const hash = createHash("sha256");
  for (const { buffer, byteOffset, byteLength } of weights.values())
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  const expected = readFileSync(file, "utf8").trim().split(/\s/)[0];
  if (hash.digest("hex") !== expected)
    throw new CaseError("the weights have another digest than weights.sha256");
}

function readTensors(path: string, file: string): Tensors {
  if (!existsSync(join(path, file))) return new Map();
  const { tensors } = readTensorBundle(readFileSync(join(path, file)));
  const read = new Map<string, CaseTensor>();
  for (const [name, tensor] of tensors) {
    const { dtype, shape, bytes } = tensor;
    if (dtype === "F32") read.set(name, { shape, values: float32Values(tensor) });
    else if (dtype === "U8") read.set(name, { shape, values: bytes });
    else if (dtype === "I32") read.set(name, { shape, values: new Int32Array(new Uint8Array(bytes).buffer) });
    else throw new CaseError(`${file}: ${name} has elements of ${dtype}`);
  }
  return read;
}
