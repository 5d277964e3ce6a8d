import { expectDefined } from "@consilium/shared/base/assert.ts";
import {
  type PlainConvUNetConfig,
  parsePlainConvUNetConfig,
  plainConvUNetParameters,
} from "@consilium/shared/model/plain-conv-unet.ts";
import t, { type Test } from "tap";
import { loadBackendPackage, tf } from "../../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../../site-agent/backend/wasm-kernels/install.ts";
import { fromLayout } from "../../site-agent/models/tensor-layout.ts";
import { PlainConvUNet } from "../../site-agent/models/unet/plain-conv-unet.ts";
import { deepSupervisionLoss, diceCrossEntropy, levelWeights } from "../../site-agent/training/losses.ts";
import { compareGradient, compareOutput, type Verdict } from "./compare.ts";
import { type Golden, goldenFloats, goldenTensor, missingGolden, readGolden } from "./golden.ts";
import { fromImages, toImages } from "./image-order.ts";

// nnU-Net's PlainConvUNet, run by its official code; the folder's README says how.
const NAME = "unet2d-micro-a";
const skip = missingGolden(NAME);

/** The record of config.json of the golden. */
const config: PlainConvUNetConfig = parsePlainConvUNetConfig({
  inputChannels: 1,
  featuresPerStage: [8, 16, 32, 32],
  kernelSizes: Array.from({ length: 4 }, () => [3, 3]),
  strides: [1, 2, 2, 2].map((stride) => [stride, stride]),
  convsPerStage: [2, 2, 2, 2],
  convsPerStageDecoder: [2, 2, 2],
  classCount: 3,
  deepSupervision: true,
});

type Weights = Map<string, Float32Array>;

function goldenWeights({ weights }: Golden): Weights {
  return new Map([...weights.keys()].map((name) => [name, goldenFloats(weights, name)]));
}

function targetOf({ inputs }: Golden, level: number): tf.Tensor3D {
  const { shape, values } = goldenTensor(inputs, `target${level}`);
  const [batch = 0, , height = 0, width = 0] = shape;
  return tf.tensor3d(Int32Array.from(values), [batch, height, width], "int32");
}

function compareForward(golden: Golden, weights: Weights): Verdict[] {
  const verdicts: Verdict[] = [];
  const model = new PlainConvUNet(config, weights);
  tf.tidy(() => {
    const levels = model.levels(toImages(goldenTensor(golden.inputs, "x")), 3, (name, image) => {
      verdicts.push(compareOutput(golden, name, fromImages(image)));
    });
    levels.forEach((logits, level) => {
      verdicts.push(compareOutput(golden, `out${level}`, fromImages(logits)));
      const target = { classes: targetOf(golden, level), drawn: tf.ones<tf.Rank.R2>([2, 3]) };
      verdicts.push(
        compareOutput(golden, `train/loss_level${level}`, diceCrossEntropy(logits, target).dataSync()),
      );
    });
  });
  model.dispose();
  return verdicts;
}

function compareTraining(golden: Golden, weights: Weights): Verdict[] {
  const model = new PlainConvUNet(config, weights);
  const specs = new Map(plainConvUNetParameters(config).map((spec) => [spec.name, spec]));
  const verdicts = tf.tidy(() => {
    const x = toImages(goldenTensor(golden.inputs, "x"));
    const target = { classes: targetOf(golden, 0), drawn: tf.ones<tf.Rank.R2>([2, 3]) };
    const tensors = [...model.parameters.trainable().values()];
    const { value, grads } = tf.valueAndGrads(() => deepSupervisionLoss(model.forward(x), target))(tensors);
    const gradients = model.parameters.trainableNames.map((name, index) => {
      const spec = expectDefined(specs.get(name), name);
      const values = expectDefined(grads[index], name).dataSync() as Float32Array; // Every parameter is float32.
      return compareGradient(
        golden,
        name,
        fromLayout(values, spec.shape, spec.shape.length === 4 ? "kernel" : "plain"),
      );
    });
    return [compareOutput(golden, "train/loss", value.dataSync()), ...gradients];
  });
  model.dispose();
  return verdicts;
}

function expectAll(t: Test, verdicts: readonly Verdict[]): void {
  for (const { accepted, text } of verdicts) t.ok(accepted, text);
}

async function start(backend: string): Promise<void> {
  if (backend === "wasm") await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  if (backend === "tensorflow") await loadBackendPackage("@tensorflow/tfjs-node");
  await tf.setBackend(backend);
  if (backend === "wasm") installTrainingKernels();
}

t.test("the record lists exactly the tensors of nnU-Net's state dict", { skip }, async (t) => {
  const { weights } = readGolden(NAME);
  const listed = plainConvUNetParameters(config);
  t.strictSame(new Set(listed.map(({ name }) => name)), new Set(weights.keys()));
  for (const { name, shape } of listed) t.strictSame(weights.get(name)?.shape, shape, name);
});

for (const backend of ["cpu", "wasm", "tensorflow"]) {
  t.test(`every stage, loss and gradient is nnU-Net's on ${backend}`, { skip }, async (t) => {
    try {
      await start(backend);
    } catch {
      t.pass(backend, { skip: `the ${backend} backend is not installed here` });
      return;
    }
    const golden = readGolden(NAME);
    const weights = goldenWeights(golden);
    const forward = compareForward(golden, weights);
    t.equal(
      forward.length,
      16,
      "four encoder stages, three decoder stages of two images, three levels of two",
    );
    expectAll(t, forward);
    expectAll(t, compareTraining(golden, weights));
    t.ok(
      compareOutput(golden, "train/ds_weights", [...levelWeights(2), 0]).accepted,
      "the weights of the levels",
    );
  });
}

t.test(
  "the gradients that are zero in exact arithmetic are those that are not trained",
  { skip },
  async (t) => {
    const golden = readGolden(NAME);
    const model = new PlainConvUNet(config, goldenWeights(golden));
    const zero = Object.entries(golden.tolerances).filter(([, { null: none }]) => none);
    const trained = new Set(model.parameters.trainableNames);
    t.equal(zero.length, 14);
    for (const [name] of zero) t.notOk(trained.has(name.replace("grad/", "")), name);
    t.equal(trained.size + zero.length, golden.gradients.size, "all others are");
    model.dispose();
  },
);

t.test("one wrong weight is noticed", { skip }, async (t) => {
  await start("wasm");
  const golden = readGolden(NAME);
  const weights = goldenWeights(golden);
  const changed = weights.get("encoder.stages.2.0.convs.1.conv.weight") ?? new Float32Array();
  changed[5] = (changed[5] ?? 0) + 0.01;
  const refused = [...compareForward(golden, weights), ...compareTraining(golden, weights)].filter(
    (v) => !v.accepted,
  );
  const text = refused.map((verdict) => verdict.text).join("; ");
  t.match(text, /encoder\/stage2: /);
  t.match(text, /out0: /);
  t.match(text, /grad\/encoder\.stages\.0\.0\.convs\.0\.conv\.weight: /);
  t.notMatch(text, /encoder\/stage1: /, "what lies before it is right");
});
