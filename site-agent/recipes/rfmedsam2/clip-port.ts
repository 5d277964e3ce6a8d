// One clip as refinement asks it: features of every slice are computed once and kept, answers are read out of the
// backend, memories stay in it until they are released. Questions of one form are asked together.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { DecodeAnswer, DecodeRequest, RefinementModel } from "../../refinement/refine-objects.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";
import type { Asking } from "./frame-question.ts";
import { type Answered, disposeFeatures, type Rfmedsam2 } from "./model.ts";
import { batchesOf, type SliceQuestion } from "./question-batch.ts";

type Request = DecodeRequest<FrameMemory>;
type Answer = DecodeAnswer<FrameMemory>;
/** With what it was made of. */
type Question<Asked> = SliceQuestion & { readonly of: Asked };

/** Features of slices, which belong to the caller. */
export type SliceEncoder = Pick<Rfmedsam2, "encode">;

export type ClipPortOptions = {
  /** Its features are taken over for the slices that this clip has too. */
  readonly known?: ClipPort;
  readonly encoder?: SliceEncoder;
};

export class ClipPort implements RefinementModel<FrameMemory> {
  readonly image: ModelSizes["image"];
  readonly maskGrid: ModelSizes["maskGrid"];
  readonly objectsAtOnce: number;
  readonly #model: Rfmedsam2;
  readonly #encoder: SliceEncoder;
  readonly #slices: readonly TrainingSlice[];
  readonly #features = new Map<TrainingSlice, ImageFeatures>();

  constructor(
    model: Rfmedsam2,
    slices: readonly TrainingSlice[],
    { known, encoder = model }: ClipPortOptions = {},
  ) {
    this.image = model.sizes.image;
    this.maskGrid = model.sizes.maskGrid;
    this.objectsAtOnce = model.batching.countMax;
    this.#model = model;
    this.#encoder = encoder;
    this.#slices = slices;
    if (known) this.#takeOver(known);
  }

  async decode(requests: readonly Request[]): Promise<Answer[]> {
    const questions = this.questions(requests);
    const answers = new Map<Request, Answer>();
    try {
      for (const batch of batchesOf(questions, this.#model.batching)) {
        const decoded = await this.#decodeBatch(batch);
        batch.forEach(({ of }, index) => {
          answers.set(of, expectDefined(decoded[index], "an answer for every question"));
        });
      }
    } catch (error) {
      for (const { memory } of answers.values()) this.release(memory);
      throw error;
    }
    return requests.map((request) => expectDefined(answers.get(request), "an answer"));
  }

  /** What is asked together with the features of the slices that are asked about, which are this port's. */
  questions<Asked extends Asking & { readonly slice: number }>(asked: readonly Asked[]): Question<Asked>[] {
    this.#encode(asked.map(({ slice }) => slice));
    return asked.map((of) => {
      const features = expectDefined(this.#features.get(this.#slice(of.slice)), "features of a slice");
      return { of, features, prompt: of.prompt, memories: of.memories };
    });
  }

  release({ features, pointer }: FrameMemory): void {
    tf.dispose([features, pointer]);
  }

  /** Features that were not taken over. */
  dispose(): void {
    for (const features of this.#features.values()) disposeFeatures(features);
    this.#features.clear();
  }

  async #decodeBatch(batch: readonly SliceQuestion[]): Promise<Answer[]> {
    const answer = this.#model.ask(batch, this.#slices.length);
    const { lowMasks, ious, objectScores, memory } = answer;
    try {
      return await answersOf(answer, batch.length);
    } finally {
      tf.dispose([lowMasks, ious, objectScores, memory.features, memory.pointer]);
    }
  }

  #takeOver(known: ClipPort): void {
    for (const slice of this.#slices) {
      const features = known.#features.get(slice);
      if (!features) continue;
      this.#features.set(slice, features);
      known.#features.delete(slice);
    }
  }

  #slice(index: number): TrainingSlice {
    return expectDefined(this.#slices[index], "slice of the clip");
  }

  /** Slices that no question has been about before. */
  #encode(indices: readonly number[]): void {
    const asked = [...new Set(indices)].map((index) => this.#slice(index));
    const isMissing = (slice: TrainingSlice): boolean => !this.#features.has(slice);
    const missing = asked.filter(isMissing);
    if (missing.length === 0) return;
    // What a compiled batch lacks is filled up with slices that a later question may be about.
    const others = this.#slices.filter((slice) => isMissing(slice) && !missing.includes(slice));
    const wanted = [...missing, ...others.slice(0, this.#model.slicesLackingIn(missing.length))];
    this.#encoder.encode(wanted).forEach((features, index) => {
      this.#features.set(expectDefined(wanted[index], "a slice"), features);
    });
  }
}

/** Memories are tensors of their own; all else is read. */
async function answersOf(
  { lowMasks, ious, objectScores, memory }: Answered,
  count: number,
): Promise<Answer[]> {
  const [logits, overlaps, scores] = await Promise.all([lowMasks.data(), ious.data(), objectScores.data()]);
  const pixels = logits.length / count;
  return Array.from({ length: count }, (_, index) => ({
    logits: new Float32Array(logits.subarray(index * pixels, (index + 1) * pixels)),
    iouScore: expectDefined(overlaps[index], "an overlap"),
    objectLogit: expectDefined(scores[index], "a score"),
    memory: {
      features: tf.slice(memory.features, index, 1),
      pointer: tf.slice(memory.pointer, index, 1),
    },
  }));
}
