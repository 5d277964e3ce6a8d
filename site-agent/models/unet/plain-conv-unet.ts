// nnU-Net's PlainConvUNet in two dimensions, out of tensors (Isensee et al. 2021). The layers and their names come from
// the shared record; this file only says how an image runs through them.
// B batch, H W spatial, C channels, K classes. Layout is NHWC throughout.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import {
  type ConvBlockSpec,
  type DecoderStageSpec,
  decoderStages,
  encoderStages,
  imageSizeMultiple,
  type PlainConvUNetConfig,
  plainConvUNetParameters,
  plainConvUNetTrainable,
  supervisedLevelCount,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { BackendError } from "../../backend/backend-error.ts";
import { inBranches } from "../../backend/graph/in-branches.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "../nn/bias.ts";
import { convTranspose2d } from "../nn/conv-transpose2d.ts";
import { conv2d } from "../nn/conv2d.ts";
import { instanceNorm } from "../nn/instance-norm.ts";
import { Parameters, type Weights } from "../parameters.ts";

const NORM = { epsilon: 1e-5, negativeSlope: 0.01 };

/** Receives every intermediate image under the name of the layer that made it. */
export type Observer = (name: string, image: tf.Tensor4D) => void;

export class PlainConvUNet {
  readonly config: PlainConvUNetConfig;
  readonly parameters: Parameters;
  readonly inputChannels: number;
  readonly classCount: number;
  readonly #encoder: readonly (readonly ConvBlockSpec[])[];
  readonly #decoder: readonly DecoderStageSpec[];

  /** @throws WeightsError when the weights are not those of the record. */
  constructor(config: PlainConvUNetConfig, weights: Weights) {
    this.config = config;
    this.inputChannels = config.inputChannels;
    this.classCount = config.classCount;
    this.#encoder = encoderStages(config);
    this.#decoder = decoderStages(config);
    const layoutOf = ({ shape }: { shape: readonly number[] }) => (shape.length === 4 ? "kernel" : "plain");
    const [specs, trainable] = [plainConvUNetParameters(config), plainConvUNetTrainable(config)];
    this.parameters = new Parameters({ specs, trainable, layoutOf }, weights);
  }

  /**
   * @param images [B, H, W, C] float32, normalised; H and W multiples of the product of the strides
   * @returns logits [B, H / s, W / s, K] of every level that training looks at, from full resolution down
   */
  forward(images: tf.Tensor4D): tf.Tensor4D[] {
    return this.#inBranches(images, supervisedLevelCount(this.config));
  }

  /** Full-resolution logits [B, H, W, K] alone. */
  predict(images: tf.Tensor4D): tf.Tensor4D {
    return expectDefined(this.#inBranches(images, 1)[0], "the full resolution");
  }

  /** As `forward`, with the given number of levels; `observe` sees the images in between, which it must not keep. */
  levels(images: tf.Tensor4D, levelCount: number, observe: Observer = () => {}): tf.Tensor4D[] {
    const { H = 0, W = 0 } = expectShape(images, ["B", "H", "W", this.config.inputChannels]);
    const [rows, columns] = imageSizeMultiple(this.config);
    if (H % rows !== 0 || W % columns !== 0) {
      const message = `The model takes images of a multiple of ${rows} x ${columns} pixels, not ${H} x ${W}.`;
      throw new BackendError("backend.unsupported-shape", message);
    }
    return tf.tidy(() => this.#decode(this.#encode(images, observe), levelCount, observe));
  }

  dispose(): void {
    this.parameters.dispose();
  }

  /** Instance norm looks at one image at a time: those of a batch have nothing to do with each other. */
  #inBranches(images: tf.Tensor4D, levelCount: number): tf.Tensor4D[] {
    const found = tf.tidy(() =>
      inBranches(
        { images },
        images.shape[0],
        ({ images: some }) => Object.fromEntries(this.levels(some as tf.Tensor4D, levelCount).entries()), // As many axes as all.
      ),
    );
    return Object.values(found) as tf.Tensor4D[]; // As `levels` gives them, under their numbers.
  }

  /** The last image of every stage, from full resolution down. */
  #encode(images: tf.Tensor4D, observe: Observer): tf.Tensor4D[] {
    const skips: tf.Tensor4D[] = [];
    this.#encoder.forEach((blocks, stage) => {
      const image = this.#blocks(skips.at(-1) ?? images, blocks);
      observe(`encoder/stage${stage}`, image);
      skips.push(image);
    });
    return skips;
  }

  #decode(skips: tf.Tensor4D[], levelCount: number, observe: Observer): tf.Tensor4D[] {
    let image = expectDefined(skips.at(-1), "the lowest stage");
    const levels: tf.Tensor4D[] = [];
    this.#decoder.forEach(({ upsampling, blocks, head }, stage) => {
      const skip = expectDefined(skips.at(-stage - 2), "a skip connection for every decoder stage");
      const above = convTranspose2d(image, this.#weightAndBias(upsampling.name));
      observe(`decoder/transpconv${stage}`, above);
      image = this.#blocks(tf.concat([above, skip], 3), blocks);
      observe(`decoder/stage${stage}`, image);
      if (stage >= this.#decoder.length - levelCount) levels.unshift(this.#head(image, head));
    });
    return levels;
  }

  /** The bias of these convolutions has no effect: the norm behind it subtracts it. It is kept and not used. */
  #blocks(image: tf.Tensor4D, blocks: readonly ConvBlockSpec[]): tf.Tensor4D {
    return blocks.reduce((x, { name, stride }) => {
      const weight = this.parameters.tensor<tf.Rank.R4>(`${name}.conv.weight`);
      const gamma = this.parameters.tensor<tf.Rank.R1>(`${name}.norm.weight`);
      const beta = this.parameters.tensor<tf.Rank.R1>(`${name}.norm.bias`);
      return instanceNorm(conv2d(x, { weight, stride }), { gamma, beta }, NORM);
    }, image);
  }

  #head(image: tf.Tensor4D, { name, stride }: ConvBlockSpec): tf.Tensor4D {
    const { weight, bias } = this.#weightAndBias(name);
    return addBias(conv2d(image, { weight, stride }), bias);
  }

  #weightAndBias(name: string): { weight: tf.Tensor4D; bias: tf.Tensor1D } {
    return {
      weight: this.parameters.tensor<tf.Rank.R4>(`${name}.weight`),
      bias: this.parameters.tensor<tf.Rank.R1>(`${name}.bias`),
    };
  }
}
