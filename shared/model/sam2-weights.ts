// Weights that a SAM 2.1 model starts from where no checkpoint is given: PyTorch's own for its layers, and those of the
// official code for the rest. A model that starts so knows nothing. Every tensor has a generator of its own, labelled
// with its name: another size leaves the numbers of tensors of the same shape.
// Sources: torch.nn (Linear, Conv2d, LayerNorm, Embedding); facebookresearch/sam2, SAM2Base, Hiera, CXBlock.

import { expectDefined } from "../base/assert.ts";
import { Prng } from "../base/prng.ts";
import { elementCount, type ParameterSpec } from "./parameter-manifest.ts";
import type { Sam2Config } from "./sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "./sam2-parameters.ts";

/** Learned rows that are an Embedding in the official code: standard normal. */
const EMBEDDINGS = /(_token|_tokens|_embed|point_embeddings\.\d+)\.weight$/;
/** Single parameters that the official code draws with deviation 0.02, cut off at 2, which is never reached. */
const SMALL = /^(maskmem_tpos_enc|no_mem_embed|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial)$/;
const SMALL_DEVIATION = 0.02;
const LAYER_SCALE = 1e-6;

/** @returns one array per tensor, PyTorch's row-major order, in the order of `sam2Parameters` */
export function initialSam2Weights(config: Sam2Config, seed: number): Map<string, Float32Array> {
  const specs = sam2Parameters(config);
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return new Map(specs.map((spec) => [spec.name, initialTensor(spec, shapes, seed)]));
}

function initialTensor(
  spec: ParameterSpec,
  shapes: ReadonlyMap<string, readonly number[]>,
  seed: number,
): Float32Array {
  const { name } = spec;
  const values = new Float32Array(elementCount(spec));
  const prng = Prng.labelled(seed, name);
  if (name === POINT_ENCODING_MATRIX || EMBEDDINGS.test(name)) return values.map(() => prng.normal());
  if (SMALL.test(name)) return values.map(() => prng.normal() * SMALL_DEVIATION);
  if (name.endsWith(".gamma")) return values.fill(LAYER_SCALE);
  // The trunk's position embeddings start at zero.
  if (!name.endsWith(".weight") && !name.endsWith(".bias")) return values;
  const weight = expectDefined(shapes.get(name.replace(/bias$/, "weight")), `weight beside ${name}`);
  // The weight of a norm has one axis.
  if (weight.length === 1) return name.endsWith(".weight") ? values.fill(1) : values;
  const bound = 1 / Math.sqrt(weight.slice(1).reduce((product, size) => product * size, 1));
  return values.map(() => prng.uniform(-bound, bound));
}
