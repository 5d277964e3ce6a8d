// RFMedSAM 2 as a model of tensors: the UNet that prompts, and SAM 2.1 with adapters that is prompted. It knows one slice
// at a time; which slices are asked, and in which order, is its callers'.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { type Rfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { partWeights, rfmedsam2Trainable } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { embeddingSize, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { Sam2Adapters } from "../../models/adapters/placement.ts";
import type { Weights } from "../../models/parameters.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import { Sam2 } from "../../models/sam2/sam2.ts";
import type { FrameAnswer, ObjectsInput, TrackedFrame } from "../../models/sam2/track-frame.ts";
import { PlainConvUNet } from "../../models/unet/plain-conv-unet.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { TrainedParameters } from "../recipe.ts";
import { type Asking, framePrompts, rememberedFrames } from "./frame-question.ts";
import { modelImage } from "./model-image.ts";
import { PartedParameters } from "./parted-parameters.ts";

type SliceImage = Parameters<typeof modelImage>[0];

export type SliceQuestion = Asking & {
  /** Of the slice that is asked about. */
  readonly features: ImageFeatures;
};

/** Questions, or training slices, of which this many pixels are looked at at once: small images in batches. */
const PIXELS_AT_ONCE = 16 * 128 * 128;

export class Rfmedsam2 {
  readonly config: Rfmedsam2Config;
  readonly sam2Config: Sam2Config;
  readonly prompter: PlainConvUNet;
  /** Those that training changes. */
  readonly parameters: TrainedParameters;
  readonly sizes: ModelSizes;
  readonly #sam2: Sam2;
  readonly #adapters: Sam2Adapters;

  /** @throws WeightsError when the weights are not those of the record. */
  constructor(config: Rfmedsam2Config, weights: Weights) {
    this.config = config;
    this.sam2Config = sam2Of(config);
    const { imageSize } = this.sam2Config;
    const grid = 4 * embeddingSize(this.sam2Config);
    this.sizes = {
      image: { height: imageSize, width: imageSize },
      maskGrid: { height: grid, width: grid },
    };
    this.prompter = new PlainConvUNet(config.prompter, partWeights(weights, "prompter"));
    const adapters = new Sam2Adapters(config.adapters, this.sam2Config, partWeights(weights, "adapters"));
    this.#adapters = adapters;
    this.#sam2 = new Sam2(this.sam2Config, partWeights(weights, "sam2"), {
      hooks: adapters.hooks,
      recompute: config.recompute,
      weights: (own) => adapters.updated(own),
    });
    const names = rfmedsam2Trainable(config).map(({ name }) => name);
    const parts = { prompter: this.prompter.parameters, adapters: adapters.parameters };
    this.parameters = new PartedParameters(names, parts);
  }

  /** The tensors of the adapters, whether or not training changes them. */
  adapterTensors(): tf.Tensor[] {
    return [...this.#adapters.parameters.trainable().values()];
  }

  /** Features of some slices as one batch, which belong to the caller. */
  encode(slices: readonly SliceImage[]): ImageFeatures {
    const { imageSize } = this.sam2Config;
    const pixels = imageSize * imageSize * 3;
    const images = new Float32Array(slices.length * pixels);
    slices.forEach((slice, index) => {
      images.set(modelImage(slice, imageSize, this.config.window), index * pixels);
    });
    return tf.tidy(() => this.#sam2.encode(tf.tensor4d(images, [slices.length, imageSize, imageSize, 3])));
  }

  /** Images that are looked at together, at most. */
  get atOnce(): number {
    return Math.max(1, Math.floor(PIXELS_AT_ONCE / this.sam2Config.imageSize ** 2));
  }

  /**
   * The answers for objects one by one, as one batch, and their memories; all belong to the caller.
   * @param questions  of one form
   * @param sliceCount slices of the clip
   */
  ask(questions: readonly SliceQuestion[], sliceCount: number): TrackedFrame {
    return tf.tidy(() => this.#sam2.trackObjects(this.#input(questions, sliceCount)));
  }

  /** The answers without memories, which are what training looks at. */
  answer(questions: readonly SliceQuestion[], sliceCount: number): FrameAnswer {
    return tf.tidy(() => this.#sam2.answerObjects(this.#input(questions, sliceCount)));
  }

  dispose(): void {
    this.prompter.dispose();
    this.#sam2.dispose();
    this.#adapters.dispose();
  }

  #input(questions: readonly SliceQuestion[], sliceCount: number): ObjectsInput {
    const isRemembering = questions.some(({ memories }) => memories.length > 0);
    return {
      objectCount: questions.length,
      features: featuresOfEach(questions.map(({ features }) => features)),
      prompts: framePrompts(questions, this.sizes.maskGrid),
      remembered: isRemembering
        ? questions.map(({ memories }) => rememberedFrames(memories, sliceCount, this.sam2Config))
        : null,
    };
  }
}

/** One after another; a single image stays one. */
function featuresOfEach(each: readonly ImageFeatures[]): ImageFeatures {
  const first = expectDefined(each[0], "a question");
  if (each.every((features) => features === first)) return first;
  const joined = (of: (features: ImageFeatures) => tf.Tensor4D | undefined): tf.Tensor4D =>
    tf.concat(
      each.map((features) => expectDefined(of(features), "features of one kind")),
      0,
    );
  return {
    embedding: joined(({ embedding }) => embedding),
    fine: first.fine && [joined(({ fine }) => fine?.[0]), joined(({ fine }) => fine?.[1])],
  };
}

/** The features of every slice of a batch; they belong to the caller. */
export function featuresOfSlices({ embedding, fine }: ImageFeatures, count: number): ImageFeatures[] {
  const of = (image: tf.Tensor4D, index: number): tf.Tensor4D => tf.slice(image, index, 1);
  return Array.from({ length: count }, (_, index) => ({
    embedding: of(embedding, index),
    fine: fine && [of(fine[0], index), of(fine[1], index)],
  }));
}

export function disposeFeatures({ embedding, fine }: ImageFeatures): void {
  tf.dispose([embedding, ...(fine ?? [])]);
}
