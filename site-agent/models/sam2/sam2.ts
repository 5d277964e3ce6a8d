// SAM 2.1 as a model of tensors: a record, its weights, and the three things that it does. Each is tidied; what it
// returns belongs to the caller.

import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { tf } from "../../backend/tensors.ts";
import { ModelPart, type PartHooks, type WeightSource } from "../nn/model-part.ts";
import { Parameters, type Weights } from "../parameters.ts";
import { encodeImages, type ImageFeatures } from "./image-encoder.ts";
import { type DecodedMasks, decodeMasks } from "./mask-decoder.ts";
import { encodePrompts, imagePositions, type Prompts } from "./prompt-encoder.ts";
import { sam2Layout } from "./sam2-layout.ts";
import {
  answerObjects,
  type FrameAnswer,
  type FrameInput,
  type ObjectsInput,
  type TrackedFrame,
  trackFrame,
  trackObjects,
  withoutMemory,
} from "./track-frame.ts";

export type Sam2Options = {
  /** The tensors that training may change; none by default. */
  readonly trainable?: readonly ParameterSpec[];
  /** With `recompute`, `hooks.recompute` lists the trainable tensors of adapters; the model adds its own. */
  readonly hooks?: PartHooks;
  /** Compute blocks of the trunk and of the memory attention again in the backward pass. */
  readonly recompute?: boolean;
  /** Where the layers read their weights: the model's own, with low-rank updates for example. */
  readonly weights?: (own: WeightSource) => WeightSource;
};

export class Sam2 {
  readonly config: Sam2Config;
  readonly parameters: Parameters;
  readonly #model: ModelPart;

  /** @throws WeightsError when the weights are not those of the record. */
  constructor(
    config: Sam2Config,
    weights: Weights,
    { trainable = [], hooks = {}, recompute = false, weights: read = (own) => own }: Sam2Options = {},
  ) {
    this.config = config;
    this.parameters = new Parameters(
      { specs: sam2Parameters(config), trainable, layoutOf: sam2Layout },
      weights,
    );
    const { recompute: adapters = () => [], ...others } = hooks;
    const within = (name: string) => [...this.#trainableWithin(name), ...adapters(name)];
    this.#model = new ModelPart(read(this.parameters), recompute ? { ...others, recompute: within } : others);
  }

  /** @param images [B, H, W, 3] float32, normalised; only square ones of the record's size can be prompted */
  encode(images: tf.Tensor4D): ImageFeatures {
    return tf.tidy(() => encodeImages(images, this.config, this.#model));
  }

  /** The decoder's masks for prompts on an image without memory. */
  segment(features: ImageFeatures, prompts: Prompts): DecodedMasks {
    return tf.tidy(() => {
      const encoder = this.#model.under("sam_prompt_encoder");
      const embedding = withoutMemory(features.embedding, this.#model);
      const inputs = {
        features: { ...features, embedding },
        prompts: encodePrompts(prompts, this.config, encoder),
        positions: imagePositions(this.config, encoder),
      };
      encoder.observe(inputs.positions, "dense_pe");
      encoder.observe(inputs.prompts.dense, "dense");
      if (inputs.prompts.sparse) encoder.observe(inputs.prompts.sparse, "sparse");
      return decodeMasks(inputs, this.config, this.#model.under("sam_mask_decoder"));
    });
  }

  /** One frame of a sequence. */
  track(input: FrameInput): TrackedFrame {
    return tf.tidy(() => trackFrame(input, this.config, this.#model));
  }

  /** Objects one by one, each in a frame and with memories of its own. */
  trackObjects(input: ObjectsInput): TrackedFrame {
    return tf.tidy(() => trackObjects(input, this.config, this.#model));
  }

  /** Of the same questions nothing but the answers. */
  answerObjects(input: ObjectsInput): FrameAnswer {
    return tf.tidy(() => answerObjects(input, this.config, this.#model));
  }

  dispose(): void {
    this.parameters.dispose();
  }

  #trainableWithin(part: string): tf.Tensor[] {
    const tensors = [...this.parameters.trainable()];
    return tensors.flatMap(([name, tensor]) => (name.startsWith(`${part}.`) ? [tensor] : []));
  }
}
