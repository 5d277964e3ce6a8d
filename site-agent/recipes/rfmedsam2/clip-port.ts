// One clip as refinement asks it: features of every slice are computed once and kept, answers are read out of the
// backend, memories stay in it until they are released.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { TrackedFrame } from "../../models/sam2/track-frame.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { Decoded } from "../../refinement/object-result.ts";
import type { DecodeRequest, RefinementModel } from "../../refinement/refine-object.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";
import { disposeFeatures, numberIn, type Rfmedsam2 } from "./model.ts";

export class ClipPort implements RefinementModel<FrameMemory> {
  readonly image: ModelSizes["image"];
  readonly maskGrid: ModelSizes["maskGrid"];
  readonly #model: Rfmedsam2;
  readonly #slices: readonly TrainingSlice[];
  readonly #features = new Map<TrainingSlice, ImageFeatures>();

  /** @param known features of an earlier clip, taken over for the slices that this one has too */
  constructor(model: Rfmedsam2, slices: readonly TrainingSlice[], known?: ClipPort) {
    this.image = model.sizes.image;
    this.maskGrid = model.sizes.maskGrid;
    this.#model = model;
    this.#slices = slices;
    if (known) this.#takeOver(known);
  }

  async decode(request: DecodeRequest<FrameMemory>): Promise<Decoded & { readonly memory: FrameMemory }> {
    const { slice, prompt, memories } = request;
    const features = this.#featuresOf(slice);
    const answer = this.#model.ask({ features, prompt, memories, sliceCount: this.#slices.length });
    const { features: remembered, pointer } = answer.memory;
    try {
      return { ...(await decoded(answer)), memory: { features: remembered, pointer } };
    } catch (error) {
      tf.dispose([remembered, pointer]);
      throw error;
    } finally {
      const { lowMasks, highMasks, bareMasks, candidates, ious, objectScores } = answer;
      tf.dispose([lowMasks, highMasks, bareMasks, candidates, ious, objectScores]);
    }
  }

  release({ features, pointer }: FrameMemory): void {
    tf.dispose([features, pointer]);
  }

  /** Features that were not taken over. */
  dispose(): void {
    for (const features of this.#features.values()) disposeFeatures(features);
    this.#features.clear();
  }

  #takeOver(known: ClipPort): void {
    for (const slice of this.#slices) {
      const features = known.#features.get(slice);
      if (!features) continue;
      this.#features.set(slice, features);
      known.#features.delete(slice);
    }
  }

  #featuresOf(index: number): ImageFeatures {
    const slice = expectDefined(this.#slices[index], "slice of the clip");
    const known = this.#features.get(slice);
    if (known) return known;
    const features = this.#model.encode(slice);
    this.#features.set(slice, features);
    return features;
  }
}

async function decoded({ lowMasks, ious, objectScores }: TrackedFrame): Promise<Decoded> {
  return {
    logits: (await lowMasks.data()) as Float32Array, // Masks are float32.
    iouScore: await numberIn(ious),
    objectLogit: await numberIn(objectScores),
  };
}
