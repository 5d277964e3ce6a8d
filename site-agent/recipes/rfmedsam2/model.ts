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
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import { Sam2 } from "../../models/sam2/sam2.ts";
import type { TrackedFrame } from "../../models/sam2/track-frame.ts";
import { PlainConvUNet } from "../../models/unet/plain-conv-unet.ts";
import type { ModelPrompt } from "../../prompts/object-prompt.ts";
import type { ModelSizes } from "../../prompts/prompter-prompts.ts";
import type { MemoryUse } from "../../refinement/refine-object.ts";
import type { TrainedParameters } from "../recipe.ts";
import { framePrompts, memorySelection } from "./frame-question.ts";
import { modelImage } from "./model-image.ts";
import { PartedParameters } from "./parted-parameters.ts";

type SliceImage = Parameters<typeof modelImage>[0];

export type SliceQuestion = {
  readonly features: ImageFeatures;
  /** In pixels of the model's image; null asks from memory alone. */
  readonly prompt: ModelPrompt | null;
  /** None: the slice is looked at alone. */
  readonly memories: readonly MemoryUse<FrameMemory>[];
  /** Slices of the clip. */
  readonly sliceCount: number;
};

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

  /** Features of one slice, which belong to the caller. */
  encode(slice: SliceImage): ImageFeatures {
    const { imageSize } = this.sam2Config;
    const image = modelImage(slice, imageSize, this.config.window);
    return tf.tidy(() => this.#sam2.encode(tf.tensor4d(image, [1, imageSize, imageSize, 3])));
  }

  /** The answer for one object in one slice, which belongs to the caller. */
  ask({ features, prompt, memories, sliceCount }: SliceQuestion): TrackedFrame {
    return tf.tidy(() =>
      this.#sam2.track({
        features,
        prompts: framePrompts(prompt, this.sizes.maskGrid),
        isFirst: memories.length === 0,
        bank: {
          conditioning: new Map(),
          tracked: new Map(memories.map(({ slice, memory }) => [slice, memory])),
        },
        selection: memorySelection(memories, sliceCount, this.sam2Config),
        ...{ frame: 0, frameCount: sliceCount, reverse: false, training: false },
      }),
    );
  }

  dispose(): void {
    this.prompter.dispose();
    this.#sam2.dispose();
    this.#adapters.dispose();
  }
}

export function disposeFeatures({ embedding, fine }: ImageFeatures): void {
  tf.dispose([embedding, ...(fine ?? [])]);
}

/** The numbers of a tensor with one element. */
export async function numberIn(tensor: tf.Tensor): Promise<number> {
  return expectDefined((await tensor.data())[0], "a number");
}
