// Segmentation as a graph, with what a last batch lacks filled up.

import { Prng } from "@consilium/shared/base/prng.ts";
import { parsePlainConvUNetConfig } from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import t from "tap";
import { startBackend } from "../backend/start-backend.ts";
import { tf } from "../backend/tensors.ts";
import { compiledPredictor, segmentSlices } from "./segment-slices.ts";
import { PlainConvUNet } from "./unet/plain-conv-unet.ts";

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";
await startBackend("wasm");

const config = parsePlainConvUNetConfig({
  ...{ inputChannels: 1, classCount: 3, deepSupervision: true, featuresPerStage: [4, 8] },
  ...{
    strides: [
      [1, 1],
      [2, 2],
    ],
    kernelSizes: [
      [3, 3],
      [3, 3],
    ],
  },
  ...{ convsPerStage: [1, 1], convsPerStageDecoder: [1] },
});
const STACK = { count: 5, height: 8, width: 8, channels: 1 };
const BATCH = 2;
const VOLUMES = 4;

/** Of some volumes, one after another. */
async function segmented(compiles: boolean): Promise<{ shares: number[]; warnings: string[] }> {
  const model = new PlainConvUNet(config, initialPlainConvUNetWeights(config, 2));
  const warnings: string[] = [];
  const compiled = compiledPredictor(model, ({ code }) => void warnings.push(code));
  const prng = new Prng(3);
  const shares: number[] = [];
  for (let volume = 0; volume < VOLUMES; volume += 1) {
    const images = Float32Array.from({ length: 5 * 8 * 8 }, () => prng.normal());
    shares.push(...(await segmentSlices(compiles ? compiled : model, images, STACK, BATCH)));
  }
  compiled.dispose();
  model.dispose();
  return { shares, warnings };
}

function largestDifference(some: readonly number[], others: readonly number[]): number {
  return some.reduce(
    (most, value, index) => Math.max(most, Math.abs(value - (others[index] ?? Number.NaN))),
    0,
  );
}

t.test("as a graph it gives the same probabilities and leaves no tensor", { skip }, async (t) => {
  const { shares: expected } = await segmented(false);
  await tf.setBackend("tensorflow");
  const before = tf.memory().numTensors;
  const { shares, warnings } = await segmented(true);
  t.equal(tf.memory().numTensors, before);
  t.strictSame(warnings, [], "it was recorded, and gave what eager execution gave");
  t.equal(shares.length, VOLUMES * 5 * 8 * 8 * 3);
  t.ok(largestDifference(shares, expected) < 1e-4, `${largestDifference(shares, expected)}`);
  await tf.setBackend("wasm");
});

t.test("where no graph is run it is the model's own", async (t) => {
  const [compiled, own] = [await segmented(true), await segmented(false)];
  t.strictSame(compiled.shares, own.shares);
});
