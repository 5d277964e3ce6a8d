// Test support: the reference arrays and numbers for metrics, intensities and resampling that the official Python code
// produced (folder scalars-a of the goldens). Tests that need them say so and are skipped where they are absent.

import { existsSync, readFileSync } from "node:fs";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { float32Values, readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { Vec3 } from "../data/affine.ts";

const FOLDER = new URL("../../../shared/goldens/scalars-a/", import.meta.url);

/** For a test's `skip`: false where the goldens are there, else what is missing. */
export const SCALARS_GOLDEN_MISSING: string | false = existsSync(FOLDER)
  ? false
  : "no ../shared/goldens/scalars-a";

export interface ScalarsGolden {
  /** i fastest: the reverse of the [z, y, x] in the file. Two-dimensional arrays get a third size of 1. */
  floats(name: string): { values: Float32Array; shape: Vec3 };
  bytes(name: string): { values: Uint8Array; shape: Vec3 };
  /** The file of expected numbers. */
  readonly expected: unknown;
}

export function readScalarsGolden(): ScalarsGolden {
  const { tensors } = readTensorBundle(readFileSync(new URL("data.safetensors", FOLDER)));
  const shapeOf = (shape: readonly number[]): Vec3 => {
    const [i = 1, j = 1, k = 1] = [...shape].reverse();
    return [i, j, k];
  };
  return {
    floats: (name) => {
      const tensor = expectDefined(tensors.get(name), name);
      return { values: float32Values(tensor), shape: shapeOf(tensor.shape) };
    },
    bytes: (name) => {
      const tensor = expectDefined(tensors.get(name), name);
      return { values: new Uint8Array(tensor.bytes), shape: shapeOf(tensor.shape) };
    },
    expected: JSON.parse(readFileSync(new URL("expected.json", FOLDER), "utf8")),
  };
}
