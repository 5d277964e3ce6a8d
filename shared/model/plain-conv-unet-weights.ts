// Weights that a PlainConvUNet starts from, as nnU-Net draws them. Every tensor has a generator of its own, labelled
// with its name: adding a stage leaves the other tensors' numbers as they were, and every machine draws the same.

import { assert } from "../base/assert.ts";
import { Prng } from "../base/prng.ts";
import { elementCount, type ParameterSpec } from "./parameter-manifest.ts";
import { type PlainConvUNetConfig, plainConvUNetParameters } from "./plain-conv-unet.ts";

const NEGATIVE_SLOPE = 0.01;

/**
 * Kaiming normal (He et al. 2015) for the convolutions, 0 for biases, 1 and 0 for the norms.
 * @returns one array per tensor, PyTorch's row-major order, in the order of `plainConvUNetParameters`
 */
export function initialPlainConvUNetWeights(
  config: PlainConvUNetConfig,
  seed: number,
): Map<string, Float32Array> {
  return new Map(plainConvUNetParameters(config).map((spec) => [spec.name, initialTensor(spec, seed)]));
}

function initialTensor(spec: ParameterSpec, seed: number): Float32Array {
  const values = new Float32Array(elementCount(spec));
  if (spec.name.endsWith(".bias")) return values;
  if (spec.name.endsWith(".norm.weight")) return values.fill(1);
  const deviation = Math.sqrt(2 / (1 + NEGATIVE_SLOPE ** 2) / fanIn(spec));
  const prng = Prng.labelled(seed, spec.name);
  for (let index = 0; index < values.length; index += 1) values[index] = prng.normal() * deviation;
  return values;
}

/** PyTorch counts the second axis times the kernel, also where that axis holds a transposed convolution's outputs. */
function fanIn({ name, shape }: ParameterSpec): number {
  assert(shape.length === 4, `${name} is the weight of a convolution`);
  return shape.slice(1).reduce((product, size) => product * size, 1);
}
