// RFMedSAM 2 as a model of tensors: the UNet that prompts, and SAM 2.1 with adapters that is prompted. It knows one slice
// at a time; which slices are asked, and in which order, is its callers'.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
import { specsUnder } from "@consilium/shared/model/parameter-manifest.ts";
import { type Rfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import {
  partWeights,
  rfmedsam2LearningRateShares,
  rfmedsam2Trainable,
} from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { embeddingSize, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import {
  type CompiledStep,
  type CompileOptions,
  type CompileWarning,
  compileStep,
} from "../../backend/graph/compile-step.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { inBranches } from "../../backend/graph/in-branches.ts";
import { tf } from "../../backend/tensors.ts";
import { Sam2Adapters } from "../../models/adapters/placement.ts";
import type { Weights } from "../../models/parameters.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import type { MaskPrediction } from "../../models/sam2/mask-losses.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import { Sam2 } from "../../models/sam2/sam2.ts";
import { type CompiledPredictor, compiledPredictor } from "../../models/segment-slices.ts";
import { PlainConvUNet } from "../../models/unet/plain-conv-unet.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { TrainedParameters } from "../recipe.ts";
import { modelImage } from "./model-image.ts";
import { PartedParameters } from "./parted-parameters.ts";
import {
  type Batching,
  featuresOf,
  filledUp,
  namedFeatures,
  objectsInput,
  questionCount,
  questionTensors,
  type SliceQuestion,
} from "./question-batch.ts";

export type SliceImage = Parameters<typeof modelImage>[0];

/** What a question is answered with, [questions, ...]. */
export type Answered = {
  /** Logits [questions, 1, grid, grid]. */
  readonly lowMasks: tf.Tensor4D;
  readonly ious: tf.Tensor2D;
  readonly objectScores: tf.Tensor2D;
  readonly memory: FrameMemory;
};

/** Questions, or training slices, of which this many pixels are looked at at once: small images in batches. */
const PIXELS_AT_ONCE = 16 * 128 * 128;
/** The same in graphs, of whose two branches each wants an image. */
const COMPILED_PIXELS_AT_ONCE = 2 * 512 * 512;
/** In compiled computations, where a call costs little and what a batch is filled up with costs as much as the rest. */
const COMPILED_QUESTIONS = 4;
const COMPILED_FRAMES = 4;
const COMPILED_SLICES = 2;

export class Rfmedsam2 {
  readonly config: Rfmedsam2Config;
  readonly sam2Config: Sam2Config;
  readonly prompter: PlainConvUNet;
  /** What the prompter sees. */
  readonly prompting: CompiledPredictor;
  /** Those that training changes. */
  readonly parameters: TrainedParameters;
  readonly sizes: ModelSizes;
  readonly #sam2: Sam2;
  readonly #adapters: Sam2Adapters;
  readonly #encoder: CompiledStep<tf.NamedTensorMap>;
  readonly #questions: CompiledStep<tf.NamedTensorMap>;
  #onWarning: CompileOptions["onWarning"];

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
    const trained = rfmedsam2Trainable(config);
    this.#sam2 = new Sam2(this.sam2Config, partWeights(weights, "sam2"), {
      trainable: specsUnder("sam2.", trained),
      hooks: adapters.hooks,
      recompute: config.recompute,
      weights: (own) => adapters.updated(own),
    });
    const names = trained.map(({ name }) => name);
    const parts = {
      prompter: this.prompter.parameters,
      sam2: this.#sam2.parameters,
      adapters: adapters.parameters,
    };
    this.parameters = new PartedParameters(names, rfmedsam2LearningRateShares(config), parts);
    const onWarning = (warning: CompileWarning): void => this.#onWarning?.(warning);
    const options = { reads: () => this.weightTensors(), onWarning };
    this.prompting = compiledPredictor(this.prompter, onWarning);
    // Images are of four axes.
    const encode = ({ images }: tf.NamedTensorMap) => namedFeatures(this.features(images as tf.Tensor4D));
    this.#encoder = compileStep(encode, { name: "image encoder", ...options });
    const answer = (tensors: tf.NamedTensorMap): tf.NamedTensorMap =>
      inBranches(tensors, questionCount(tensors), (some) => {
        const { lowMasks, ious, objectScores, memory } = this.#sam2.trackObjects(objectsInput(some));
        return { lowMasks, ious, objectScores, memory: memory.features, pointer: memory.pointer };
      });
    this.#questions = compileStep(answer, { name: "questions", ...options });
  }

  /** Hears where a computation could not be compiled. */
  warn(onWarning: CompileOptions["onWarning"]): void {
    this.#onWarning = onWarning;
  }

  /** What training changes in SAM 2 and its adapters, in the order of an update. */
  refinerTensors(): tf.Tensor[] {
    return [this.#sam2.parameters, this.#adapters.parameters].flatMap((parameters) => [
      ...parameters.trainable().values(),
    ]);
  }

  /** Every tensor that SAM 2 and its adapters compute with, for compiled computations. */
  weightTensors(): tf.Tensor[] {
    return [this.#sam2.parameters, this.#adapters.parameters].flatMap((parameters) => [
      ...parameters.tensors().values(),
    ]);
  }

  /** Batches of questions. */
  get batching(): Batching {
    if (!runsGraphs()) return { countMax: this.#atOnce, framesStep: null };
    const { slices, queries, objects } = this.config.clip;
    return {
      countMax: Math.min(COMPILED_QUESTIONS, this.#atOnce, queries * objects),
      framesStep: Math.max(1, Math.min(COMPILED_FRAMES, slices - 1)),
    };
  }

  /** Slices that are encoded at once. */
  get slicesAtOnce(): number {
    return runsGraphs() ? Math.min(COMPILED_SLICES, this.#atOnce) : this.#atOnce;
  }

  /** Of the last batch in which so many slices are encoded; none where a batch may be of any size. */
  slicesLackingIn(count: number): number {
    return !runsGraphs() ? 0 : (this.slicesAtOnce - (count % this.slicesAtOnce)) % this.slicesAtOnce;
  }

  get #atOnce(): number {
    const pixels = runsGraphs() ? COMPILED_PIXELS_AT_ONCE : PIXELS_AT_ONCE;
    return Math.max(1, Math.floor(pixels / this.sam2Config.imageSize ** 2));
  }

  /** Slices as SAM 2 sees them, [slices, S, S, 3]. */
  images(slices: readonly SliceImage[]): tf.Tensor4D {
    const { imageSize } = this.sam2Config;
    const pixels = imageSize * imageSize * 3;
    const images = new Float32Array(slices.length * pixels);
    slices.forEach((slice, index) => {
      images.set(modelImage(slice, imageSize, this.config.window), index * pixels);
    });
    return tf.tensor4d(images, [slices.length, imageSize, imageSize, 3]);
  }

  /** Features of images as one batch, which belong to the caller. */
  features(images: tf.Tensor4D): ImageFeatures {
    const encoded = inBranches(
      { images },
      images.shape[0],
      ({ images: some }) => namedFeatures(this.#sam2.encode(some as tf.Tensor4D)), // As many axes as all.
    );
    return featuresOf(encoded);
  }

  /** The features of every slice, which belong to the caller. */
  encode(slices: readonly SliceImage[]): ImageFeatures[] {
    return chunks(slices, this.slicesAtOnce).flatMap((some) =>
      tf.tidy(() => {
        const images = this.images(runsGraphs() ? filledUp(some, this.slicesAtOnce) : some);
        const found = this.#encoder.run({ images });
        return featuresOfSlices(featuresOf(found), some.length);
      }),
    );
  }

  /**
   * The answers for objects one by one, as one batch, and their memories; all belong to the caller.
   * @param questions  of one form
   * @param sliceCount slices of the clip
   */
  ask(questions: readonly SliceQuestion[], sliceCount: number): Answered {
    return tf.tidy(() => {
      const found = this.#questions.run(this.questionTensors(questions, sliceCount));
      const own = <T extends tf.Tensor>(name: string): T => {
        const all = expectDefined(found[name], name);
        return tf.slice(all, 0, questions.length) as T; // As SAM 2 made it.
      };
      const memory = { features: own<tf.Tensor4D>("memory"), pointer: own<tf.Tensor2D>("pointer") };
      return {
        ...{ lowMasks: own<tf.Tensor4D>("lowMasks"), ious: own<tf.Tensor2D>("ious") },
        ...{ objectScores: own<tf.Tensor2D>("objectScores"), memory },
      };
    });
  }

  /** @param questions of one form */
  questionTensors(questions: readonly SliceQuestion[], sliceCount: number): tf.NamedTensorMap {
    const { sam2Config: config, sizes, batching } = this;
    return tf.tidy(() =>
      questionTensors(questions, { config, maskGrid: sizes.maskGrid, sliceCount, batching }),
    );
  }

  /** What training looks at of the answers. @param tensors of questions */
  predict(tensors: tf.NamedTensorMap): MaskPrediction {
    const found = inBranches(tensors, questionCount(tensors), (some) => {
      const { bareMasks, ious, objectScores } = this.#sam2.answerObjects(objectsInput(some));
      return { bareMasks, ious, objectScores };
    });
    const own = <T extends tf.Tensor>(name: string) => expectDefined(found[name], name) as T; // As SAM 2 made it.
    return { candidates: own("bareMasks"), ious: own("ious"), objectScores: own("objectScores") };
  }

  dispose(): void {
    this.#encoder.dispose();
    this.#questions.dispose();
    this.prompting.dispose();
    this.prompter.dispose();
    this.#sam2.dispose();
    this.#adapters.dispose();
  }
}

/** The features of the first slices of a batch. */
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
