// Weights that a SAM 2.1 starts from when nothing is given: PyTorch's own for layers, and those of facebookresearch/sam2
// (class SAM2Base) for tokens and embeddings. Every tensor has a generator of its own, labelled with its name.

import { Prng } from "@consilium/shared/base/prng.ts";
import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";

/** Of what the memory is told in place of an object or of another frame: drawn small, cut off at two deviations. */
const SMALL_DEVIATION = 0.02;
const SMALL_NAMES: readonly string[] = [
  "maskmem_tpos_enc",
  "no_mem_embed",
  "no_mem_pos_enc",
  "no_obj_ptr",
  "no_obj_embed_spatial",
];
/** A ConvNeXt block starts as next to nothing. */
const LAYER_SCALE = 1e-6;
/**
 * Of the random frequencies of places. SAM 2 has 1 for a grid of 64 x 64 embeddings; on the grids of small records, an
 * eighth of that, neighbours would have hardly anything in common.
 */
const PLACE_DEVIATION = 0.4;
const TOKEN_NAMES = /_token\.weight$|_tokens\.weight$|_embed\.weight$|point_embeddings\.[0-9]\.weight$/;
const TRUNCATION = 2;
const TRUNCATION_TRIES_MAX = 64;

/** One array for every tensor, in PyTorch's order of elements and in the order of `sam2Parameters`. */
export function initialSam2Weights(config: Sam2Config, seed: number): Map<string, Float32Array> {
  const specs = sam2Parameters(config);
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return new Map(
    specs.map((spec) => [spec.name, initialTensor(spec, shapes, Prng.labelled(seed, spec.name))]),
  );
}

type Shapes = ReadonlyMap<string, readonly number[]>;

function initialTensor(spec: ParameterSpec, shapes: Shapes, prng: Prng): Float32Array {
  const { name } = spec;
  const filled = (next: () => number): Float32Array =>
    Float32Array.from({ length: elementCount(spec) }, next);
  if (SMALL_NAMES.includes(name)) return filled(() => SMALL_DEVIATION * truncatedNormal(prng));
  if (name === POINT_ENCODING_MATRIX) return filled(() => PLACE_DEVIATION * prng.normal());
  if (TOKEN_NAMES.test(name)) return filled(() => prng.normal());
  if (name.includes(".pos_embed")) return filled(() => 0);
  if (name.endsWith(".gamma")) return filled(() => LAYER_SCALE);
  const weight = shapes.get(name.replace(/\.bias$/, ".weight")) ?? spec.shape;
  if (weight.length === 1) return filled(() => (name.endsWith(".weight") ? 1 : 0));
  const bound = 1 / Math.sqrt(fanIn(weight));
  return filled(() => prng.uniform(-bound, bound));
}

/** PyTorch's `kaiming_uniform_` with a = sqrt(5) bounds weights, and its layers their biases, by 1 / sqrt(fan in). */
function fanIn(weight: readonly number[]): number {
  return weight.slice(1).reduce((product, size) => product * size, 1);
}

function truncatedNormal(prng: Prng): number {
  for (let attempt = 0; attempt < TRUNCATION_TRIES_MAX; attempt += 1) {
    const value = prng.normal();
    if (Math.abs(value) <= TRUNCATION) return value;
  }
  return 0;
}
