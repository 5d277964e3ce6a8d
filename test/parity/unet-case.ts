// One case of nnU-Net's two-dimensional PlainConvUNet from its folder to its comparison.

import { plainConvUNetParameters } from "@consilium/shared/model/plain-conv-unet.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { fromLayout } from "../../site-agent/models/tensor-layout.ts";
import { PlainConvUNet } from "../../site-agent/models/unet/plain-conv-unet.ts";
import { diceCrossEntropy } from "../../site-agent/training/losses.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import { Comparison } from "./comparison.ts";
import { diceAndCrossEntropy } from "./dice-cross-entropy.ts";
import { expectParameters } from "./sam2-case.ts";
import { image, plain, storedImage } from "./torch-order.ts";
import { readUNetConfig, readUNetLoss, type UNetLoss } from "./unet-config-file.ts";

/** The training's own loss. */
const TRAINING_LOSS = { batchDice: true, smooth: 1e-5, background: false, entropyWeight: 1, diceWeight: 1 };

export function isUNetCase({ config }: CaseFolder): boolean {
  return config["conv_op"] === "Conv2d" && "features_per_stage" in config;
}

/** @throws CaseError, PlainConvUNetError where the case as a whole is not understood */
export function runUNetCase(folder: CaseFolder): Comparison {
  const comparison = new Comparison(folder);
  const config = readUNetConfig(folder.config);
  expectParameters(folder, plainConvUNetParameters(config));
  const model = new PlainConvUNet(config, folder.weights);
  try {
    tf.tidy(() => {
      const x = folder.inputs.get("x");
      if (!x) throw new CaseError("the inputs hold no x");
      const images = storedImage(x);
      const levelCount = config.deepSupervision ? config.featuresPerStage.length - 1 : 1;
      const levels = model.levels(images, levelCount, (name, value) =>
        comparison.offer(name, () => image(value)),
      );
      levels.forEach((logits, level) => {
        comparison.offer(`out${level}`, () => image(logits));
      });
      comparison.attempt(() => compareTraining({ model, images, levelCount, folder, comparison }));
    });
  } finally {
    model.dispose();
  }
  return comparison;
}

type Training = {
  readonly model: PlainConvUNet;
  readonly images: tf.Tensor4D;
  readonly levelCount: number;
  readonly folder: CaseFolder;
  readonly comparison: Comparison;
};

function compareTraining({ model, images, levelCount, folder, comparison }: Training): void {
  if (!comparison.wantsUnder("train") && !comparison.wantsUnder("grad")) return;
  const settings = readUNetLoss(folder);
  const weights = levelWeights(levelCount, settings);
  comparison.offer("train/ds_weights", () => ({ shape: [levelCount], values: weights }));
  const specs = plainConvUNetParameters(model.config);
  const tensors = specs.map(({ name }) => model.parameters.tensor(name));
  const computeLoss = () => {
    const losses = model.levels(images, levelCount).map((logits, level) => {
      const loss = levelLoss(logits, targetOf(folder, level, logits.shape), settings);
      comparison.offer(`train/loss_level${level}`, () => plain(loss));
      return tf.mul(loss, weights[level] ?? 0);
    });
    return tf.addN(losses) as tf.Scalar; // A sum of scalars.
  };
  // Biases below a norm and silent heads do not take part.
  const { value, grads } = tf.engine().gradients(computeLoss, tensors, undefined, true);
  comparison.offer("train/loss", () => plain(value));
  specs.forEach(({ name, shape }, index) => {
    comparison.offer(`grad/${name}`, () => {
      const gradient = grads[index] as tf.Tensor | undefined; // The framework's types leave this out.
      const count = shape.reduce((product, size) => product * size, 1);
      const values = gradient ? (gradient.dataSync() as Float32Array) : new Float32Array(count); // All are float32.
      return { shape, values: fromLayout(values, shape, shape.length === 4 ? "kernel" : "plain") };
    });
  });
}

/** 1, 1/2, 1/4, ... with sum 1. */
function levelWeights(levelCount: number, { dropsLowest }: UNetLoss): number[] {
  const weights = Array.from({ length: levelCount }, (_, level) =>
    dropsLowest && levelCount > 1 && level === levelCount - 1 ? 0 : 2 ** -level,
  );
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

function levelLoss(logits: tf.Tensor4D, classes: tf.Tensor3D, settings: UNetLoss): tf.Scalar {
  const isTraining = Object.entries(TRAINING_LOSS).every(
    ([key, value]) => settings[key as keyof UNetLoss] === value,
  ); // Its own keys.
  if (!isTraining) return diceAndCrossEntropy(logits, classes, settings);
  return diceCrossEntropy(logits, { classes, drawn: tf.ones([logits.shape[0], logits.shape[3]]) });
}

/** The targets of a level, stored or taken at every stride-th pixel of the full ones from half a stride on. */
function targetOf(
  { inputs }: CaseFolder,
  level: number,
  [, height, width]: tf.Tensor4D["shape"],
): tf.Tensor3D {
  const stored = inputs.get(`target${level}`) ?? inputs.get("target0");
  if (!stored) throw new CaseError("the inputs hold no target0");
  const [batch = 0, , rows = 0, columns = 0] = stored.shape;
  const classes = tf.tensor3d(Int32Array.from(stored.values), [batch, rows, columns], "int32");
  const [down, across] = [rows / height, columns / width];
  if (!Number.isInteger(down) || !Number.isInteger(across))
    throw new CaseError(`target0 has no level of ${height} x ${width}`);
  const start = [0, Math.floor(down / 2), Math.floor(across / 2)];
  return tf.stridedSlice(classes, start, [batch, rows, columns], [1, down, across]) as tf.Tensor3D; // Same rank.
}
