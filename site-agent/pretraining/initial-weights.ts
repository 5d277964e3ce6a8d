// What a SAM 2.1 is pretrained from: PyTorch's and the official code's start, with three changes without which a small
// model takes thousands of steps to find out where its prompts are. All of them are values that training goes on to change.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { initialSam2Weights } from "@consilium/shared/model/sam2-weights.ts";

/**
 * Of the random frequencies of places. SAM 2 has 1 for a grid of 64 x 64 embeddings; on the grids of small records, an
 * eighth of that, neighbours would have hardly anything in common.
 */
const PLACE_DEVIATION = 0.4;
/** Of the decoder's queries and keys, which start as the same map: a token looks at places that are near its own. */
const ALIGNED_GAIN = 2;
const ALIGNED_QUERIES = /^sam_mask_decoder\.transformer\..*(cross_attn|final_attn)_.*\.q_proj\.weight$/;
/** The trunk's embedding of places, which is zero in the official start. */
const PLACE_EMBEDDING = "image_encoder.trunk.pos_embed";
const PLACE_AMPLITUDE = 0.5;
const DIRECTION_COUNT = 6;
/** Periods over the image: of the first half of the channels, and of the second. */
const WAVES = [0.5, 1] as const;

/** One array for every tensor, in PyTorch's order of elements and in the order of `sam2Parameters`. */
export function pretrainingStart(config: Sam2Config, seed: number): Map<string, Float32Array> {
  const weights = initialSam2Weights(config, seed);
  const changed = (name: string, change: (value: number) => number): void => {
    weights.set(name, expectDefined(weights.get(name), name).map(change));
  };
  changed(POINT_ENCODING_MATRIX, (value) => PLACE_DEVIATION * value);
  for (const name of [...weights.keys()].filter((one) => ALIGNED_QUERIES.test(one))) {
    changed(name, (value) => ALIGNED_GAIN * value);
    const keys = name.replace(".q_proj.", ".k_proj.");
    assert(weights.has(keys), "queries have keys");
    weights.set(keys, Float32Array.from(expectDefined(weights.get(name), name)));
  }
  weights.set(PLACE_EMBEDDING, placeWaves(shapeOf(PLACE_EMBEDDING, config)));
  return weights;
}

function shapeOf(name: string, config: Sam2Config): readonly number[] {
  return expectDefined(
    sam2Parameters(config).find((spec) => spec.name === name),
    name,
  ).shape;
}

/** Long waves in several directions, so that what the trunk sees says where it is: [1, C, H, W]. */
function placeWaves([, channels = 0, height = 0, width = 0]: readonly number[]): Float32Array {
  const waves = new Float32Array(channels * height * width);
  for (let channel = 0; channel < channels; channel += 1) {
    const radians = (Math.PI * (Math.floor(channel / 4) % DIRECTION_COUNT)) / DIRECTION_COUNT;
    const periods = channel < channels / 2 ? WAVES[0] : WAVES[1];
    const wave = channel % 2 === 0 ? Math.cos : Math.sin;
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        const along =
          Math.cos(radians) * ((column + 0.5) / width - 0.5) +
          Math.sin(radians) * ((row + 0.5) / height - 0.5);
        waves[(channel * height + row) * width + column] =
          PLACE_AMPLITUDE * wave(2 * Math.PI * periods * along);
      }
    }
  }
  return waves;
}
