// The ordered list of float32 tensors that a set of weights, or a delta, must hold: no more, no fewer, no other shape.
// Everything that is counted, clipped, aggregated or hashed goes through the tensors in this order.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { TensorBundle } from "../encoding/tensor-bundle.ts";
import {
  TENSOR_COUNT_MAX,
  TENSOR_NAME_LENGTH_MAX,
  TENSOR_RANK_MAX,
} from "../encoding/tensor-bundle-header.ts";

/** 16 GiB of float32. */
export const PARAMETER_COUNT_MAX = 2 ** 32;

export const ParameterSpec = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: TENSOR_NAME_LENGTH_MAX, pattern: "^[A-Za-z0-9_.-]+$" }),
    shape: Type.Array(Type.Integer({ minimum: 1, maximum: PARAMETER_COUNT_MAX }), {
      maxItems: TENSOR_RANK_MAX,
    }),
    dtype: Type.Literal("F32"),
  },
  { additionalProperties: false },
);
export type ParameterSpec = Static<typeof ParameterSpec>;

export const ParameterManifest = Type.Array(ParameterSpec, { minItems: 1, maxItems: TENSOR_COUNT_MAX });
export type ParameterManifest = Static<typeof ParameterManifest>;

export type ManifestErrorCode =
  | "manifest.malformed"
  | "manifest.name-repeated"
  | "manifest.too-large"
  | "manifest.mismatch";

export class ManifestError extends Error {
  override name = "ManifestError";
  readonly code: ManifestErrorCode;

  constructor(code: ManifestErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** The tensors whose names begin so, under what follows. */
export function specsUnder(prefix: string, specs: readonly ParameterSpec[]): ParameterSpec[] {
  const own = specs.filter(({ name }) => name.startsWith(prefix));
  return own.map((spec) => ({ ...spec, name: spec.name.slice(prefix.length) }));
}

/** How a bundle differs from a manifest. Three empty lists say that it matches. */
export type ManifestMismatch = {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  /** Right name, wrong shape or wrong dtype. */
  readonly misshaped: readonly string[];
};

/** @throws ManifestError when the value is not a manifest, repeats a name or is beyond all bounds. */
export function parseParameterManifest(value: unknown): ParameterManifest {
  if (!Value.Check(ParameterManifest, value)) {
    const first = Value.Errors(ParameterManifest, value)[0];
    throw new ManifestError(
      "manifest.malformed",
      `Not a parameter manifest: ${first?.instancePath} ${first?.message}.`,
    );
  }
  if (new Set(value.map(({ name }) => name)).size !== value.length) {
    throw new ManifestError("manifest.name-repeated", "The parameter manifest lists a tensor twice.");
  }
  if (parameterCount(value) > PARAMETER_COUNT_MAX) {
    throw new ManifestError(
      "manifest.too-large",
      `The manifest has more than ${PARAMETER_COUNT_MAX} parameters.`,
    );
  }
  return value;
}

/** Elements of one tensor. */
export function elementCount(spec: { readonly shape: readonly number[] }): number {
  return spec.shape.reduce((product, size) => product * size, 1);
}

/** Elements of all tensors together. */
export function parameterCount(manifest: readonly ParameterSpec[]): number {
  return manifest.reduce((sum, spec) => sum + elementCount(spec), 0);
}

/** Compare by name. The order inside the bundle does not matter: readers go through the manifest. */
export function matchManifest(
  manifest: readonly ParameterSpec[],
  tensors: TensorBundle["tensors"],
): ManifestMismatch {
  const expected = new Map(manifest.map((spec) => [spec.name, spec]));
  const misshaped = manifest.filter((spec) => {
    const tensor = tensors.get(spec.name);
    return tensor && !(tensor.dtype === spec.dtype && sameShape(tensor.shape, spec.shape));
  });
  return {
    missing: manifest.map(({ name }) => name).filter((name) => !tensors.has(name)),
    unexpected: [...tensors.keys()].filter((name) => !expected.has(name)),
    misshaped: misshaped.map(({ name }) => name),
  };
}

/** @throws ManifestError `manifest.mismatch` that counts every kind of difference and names those of the manifest. */
export function expectManifest(manifest: readonly ParameterSpec[], tensors: TensorBundle["tensors"]): void {
  const { missing, unexpected, misshaped } = matchManifest(manifest, tensors);
  if (missing.length + unexpected.length + misshaped.length === 0) return;
  // Unexpected names come from outside and are only counted.
  throw new ManifestError(
    "manifest.mismatch",
    `The tensors do not match the manifest: ${missing.length} missing${listed(missing)}, ` +
      `${misshaped.length} of another shape or dtype${listed(misshaped)}, ${unexpected.length} unexpected.`,
  );
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, LISTED_NAMES_MAX).join(", ");
  return names.length === 0 ? "" : ` (${shown}${names.length > LISTED_NAMES_MAX ? ", ..." : ""})`;
}

const LISTED_NAMES_MAX = 8;

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
