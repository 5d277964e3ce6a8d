// RFMedSAM 2 so small that a training step takes less than a second, and the phantoms that it is trained on.

import { Prng } from "@consilium/shared/base/prng.ts";
import { parseRfmedsam2Config, type Rfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import { draftRfmedsam2Config } from "@consilium/shared/model/rfmedsam2-draft.ts";
import { initialRfmedsam2Weights } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import type { TrainingSlice } from "../../site-agent/training/training-slice.ts";

const SIDE = 16;

export function smallRfmedsam2(changes: Partial<Rfmedsam2Config> = {}, classCount = 3): Rfmedsam2Config {
  const prompter = {
    inputChannels: 1,
    featuresPerStage: [4, 8],
    kernelSizes: [1, 1].map((): [number, number] => [3, 3]),
    strides: [1, 2].map((stride): [number, number] => [stride, stride]),
    convsPerStage: [1, 1],
    convsPerStageDecoder: [1],
    classCount,
    deepSupervision: false,
  };
  const drafted = draftRfmedsam2Config({
    ...{ variant: "micro", imageSize: 32, prompter, trains: "adapters", normalisation: { kind: "zscore" } },
  });
  return parseRfmedsam2Config({
    ...drafted,
    clip: { slices: 3, queries: 2, objects: 1 },
    refinement: { ...drafted.refinement, clipSlices: 4 },
    ...changes,
  });
}

/** SAM 2 is drawn so that it sees an object wherever it is asked for one: else its masks would be hidden. */
export function smallRfmedsam2Weights(config: Rfmedsam2Config, seed = 1): Map<string, Float32Array> {
  const weights = initialRfmedsam2Weights(config, seed);
  weights.get("sam2.sam_mask_decoder.pred_obj_score_head.layers.2.bias")?.fill(3);
  return weights;
}

/** A case of slices with a bright square of label 10 and a dark one of label 20 that move from slice to slice. */
export function squares(sliceCount: number, seed = 1): TrainingSlice[] {
  const prng = Prng.labelled(seed, "squares");
  return Array.from({ length: sliceCount }, (_, slice) => {
    const image = Float32Array.from({ length: SIDE * SIDE }, () => prng.uniform(-0.3, 0.3));
    const labels = new Uint8Array(SIDE * SIDE);
    const paint = (label: number, top: number, left: number): void => {
      for (let pixel = 0; pixel < 25; pixel += 1) {
        const at = (top + Math.floor(pixel / 5)) * SIDE + left + (pixel % 5);
        labels[at] = label;
        image[at] = (image[at] ?? 0) + (label === 10 ? 3 : -1.5);
      }
    };
    paint(10, 1, 1 + (slice % 8));
    paint(20, 9, 9 - (slice % 8));
    return { image, labels, height: SIDE, width: SIDE, channels: 1, contoured: [10, 20] };
  });
}
