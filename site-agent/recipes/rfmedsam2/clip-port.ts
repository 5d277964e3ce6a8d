// One clip as refinement asks it: features of every slice are computed once and kept, answers are read out of the
// backend, memories stay in it until they are released. Questions of one form are asked together.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { TrackedFrame } from "../../models/sam2/track-frame.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { DecodeAnswer, DecodeRequest, RefinementModel } from "../../refinement/refine-objects.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";
import { formOf } from "./frame-question.ts";
import { disposeFeatures, featuresOfSlices, type Rfmedsam2 } from "./model.ts";

type Request = DecodeRequest<FrameMemory>;
type Answer = DecodeAnswer<FrameMemory>;

export class ClipPort implements RefinementModel<FrameMemory> {
  readonly image: ModelSizes["image"];
  readonly maskGrid: ModelSizes["maskGrid"];
  readonly objectsAtOnce: number;
  readonly #model: Rfmedsam2;
  readonly #slices: readonly TrainingSlice[];
  readonly #features = new Map<TrainingSlice, ImageFeatures>();

  /** @param known features of an earlier clip, taken over for the slices that this one has too */
  constructor(model: Rfmedsam2, slices: readonly TrainingSlice[], known?: ClipPort) {
    this.image = model.sizes.image;
    this.maskGrid = model.sizes.maskGrid;
    this.objectsAtOnce = model.atOnce;
    this.#model = model;
    this.#slices = slices;
    if (known) this.#takeOver(known);
  }

  async decode(requests: readonly Request[]): Promise<Answer[]> {
    this.#encode(requests.map(({ slice }) => slice));
    const answers = new Map<Request, Answer>();
    try {
      for (const batch of batchesOf(requests, this.#model.atOnce)) {
        const decoded = await this.#decodeBatch(batch);
        batch.forEach((request, index) => {
          answers.set(request, expectDefined(decoded[index], "an answer for every question"));
        });
      }
    } catch (error) {
      for (const { memory } of answers.values()) this.release(memory);
      throw error;
    }
    return requests.map((request) => expectDefined(answers.get(request), "an answer"));
  }

  release({ features, pointer }: FrameMemory): void {
    tf.dispose([features, pointer]);
  }

  /** Features that were not taken over. */
  dispose(): void {
    for (const features of this.#features.values()) disposeFeatures(features);
    this.#features.clear();
  }

  async #decodeBatch(batch: readonly Request[]): Promise<Answer[]> {
    const questions = batch.map(({ slice, prompt, memories }) => {
      const features = expectDefined(this.#features.get(this.#slice(slice)), "features of a slice");
      return { features, prompt, memories };
    });
    const answer = this.#model.ask(questions, this.#slices.length);
    try {
      return await answersOf(answer, batch.length);
    } finally {
      const { memory, ...others } = answer;
      tf.dispose([...Object.values(others), memory.features]);
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
    const wanted = [...new Set(indices)].map((index) => this.#slice(index));
    const missing = wanted.filter((slice) => !this.#features.has(slice));
    for (const batch of chunks(missing, this.#model.atOnce)) {
      const features = this.#model.encode(batch);
      const each = tf.tidy(() => featuresOfSlices(features, batch.length));
      disposeFeatures(features);
      batch.forEach((slice, index) => {
        this.#features.set(slice, expectDefined(each[index], "features of a slice"));
      });
    }
  }
}

/** Questions of one form, so many at most. */
export function batchesOf<Asked extends Parameters<typeof formOf>[0]>(
  asked: readonly Asked[],
  countMax: number,
): Asked[][] {
  const forms = new Map<string, Asked[]>();
  for (const question of asked) {
    const form = formOf(question);
    forms.set(form, [...(forms.get(form) ?? []), question]);
  }
  return [...forms.values()].flatMap((alike) => chunks(alike, countMax));
}

/** Memories are tensors of their own; all else is read. */
async function answersOf(
  { lowMasks, ious, objectScores, memory }: TrackedFrame,
  count: number,
): Promise<Answer[]> {
  const [logits, overlaps, scores] = await Promise.all([lowMasks.data(), ious.data(), objectScores.data()]);
  const pixels = logits.length / count;
  return Array.from({ length: count }, (_, index) => ({
    logits: Float32Array.from(logits.subarray(index * pixels, (index + 1) * pixels)),
    iouScore: expectDefined(overlaps[index], "an overlap"),
    objectLogit: expectDefined(scores[index], "a score"),
    memory: {
      features: tf.slice(memory.features, index, 1),
      pointer: tf.slice(memory.pointer, index, 1),
    },
  }));
}
