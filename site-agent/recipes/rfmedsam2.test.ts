import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import t from "tap";
import { smallRfmedsam2, smallRfmedsam2Weights, squares } from "../../test/support/small-rfmedsam2.ts";
import { kernelCensus, missingKernels } from "../backend/kernel-census.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { PROMPT_POLICY } from "../prompts/prompt-simulation.ts";
import { REFINEMENT_PLAN } from "../refinement/refinement-plan.ts";
import { trainBatches, trainLocally } from "../training/train-locally.ts";
import type { TrainingSlice } from "../training/training-slice.ts";
import { PROMPT_SOURCES, type TrainingMaterial } from "./recipe.ts";
import { findRecipe } from "./registry.ts";
import { ClipPort } from "./rfmedsam2/clip-port.ts";
import { rememberedFrames } from "./rfmedsam2/frame-question.ts";
import { Rfmedsam2 } from "./rfmedsam2/model.ts";
import { modelImage } from "./rfmedsam2/model-image.ts";
import { batchesOf } from "./rfmedsam2/question-batch.ts";
import { rfmedsam2 } from "./rfmedsam2.ts";
import { unetPrompter } from "./unet-prompter.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const LABELS = [0, 10, 20];
const PREPROCESSING: PreprocessingPlan = {
  ...{ orientation: "RAS", sliceAxis: "S", inPlaneSpacingMm: null, throughPlaneSpacingMm: null },
  ...{ imageOrder: 1, patch: { height: 16, width: 16 }, largerThanPatch: "crop", padding: "zero" },
  ...{ contextSlices: 0, normalisation: { kind: "zscore" } },
};
const VIEW = { plan: PREPROCESSING, labels: LABELS, mirrorAxes: [] };
const PLAN = {
  ...{ batchSize: 1, learningRate: 1e-3, weightDecay: 0, gradientNormL2Max: 1, warmupSteps: 0 },
  schedule: "polynomial",
} as const;

function material(changes: Partial<TrainingMaterial> = {}): TrainingMaterial {
  const view = (slices: readonly TrainingSlice[]): TrainingSlice[] => [...slices];
  return { cases: [squares(5), squares(4, 2)], labels: LABELS, batchSize: 1, seed: 4, view, ...changes };
}

type Config = ReturnType<typeof smallRfmedsam2>;

async function trained(config: Config, steps: number, changes: Partial<TrainingMaterial> = {}) {
  const model = rfmedsam2.open(config, smallRfmedsam2Weights(config));
  const plan = { ...PLAN, stepsPerRound: steps };
  const { parameters } = model;
  try {
    return await trainBatches({ parameters, plan }, model.objective(material(changes)));
  } finally {
    model.dispose();
  }
}

function bytesOf(weights: ReadonlyMap<string, Float32Array>): Buffer {
  return Buffer.concat([...weights.values()].map((values) => Buffer.from(values.buffer)));
}

/** Weights whose adapters say something. */
function busyWeights(config: Config): Map<string, Float32Array> {
  const weights = smallRfmedsam2Weights(config);
  for (const [name, values] of weights) {
    if (!name.startsWith("adapters.") || !/\.(fc2|conv2)\./.test(name)) continue;
    const prng = Prng.labelled(3, name);
    weights.set(
      name,
      values.map(() => prng.uniform(-0.5, 0.5)),
    );
  }
  return weights;
}

async function predicted(config: Config, weights: ReadonlyMap<string, Float32Array>, wanted: number[]) {
  const model = rfmedsam2.open(config, weights);
  const slices: Float32Array[] = [];
  for await (const shares of model.predictor(VIEW)(squares(6), wanted)) slices.push(shares);
  model.dispose();
  return slices;
}

t.test(
  "training moves every trained tensor of the phase and no other, and leaves no tensor behind",
  async (t) => {
    const before = tf.memory().numTensors;
    for (const trains of ["adapters", "joint"] as const) {
      const config = smallRfmedsam2({ trains });
      const base = smallRfmedsam2Weights(config);
      const { weights, losses } = await trained(config, 4);
      t.strictSame(
        [...weights.keys()],
        rfmedsam2.trainable(config).map(({ name }) => name),
      );
      const still = [...weights].filter(([name, values]) =>
        values.every((value, index) => value === base.get(name)?.[index]),
      );
      t.strictSame(
        still.map(([name]) => name),
        [],
        `${trains}: memory attention's and the decoder's too`,
      );
      t.ok(losses.every(Number.isFinite));
      t.equal(tf.memory().numTensors, before);
    }
  },
);

t.test("the mask decoder learns with the adapters, more slowly, and is handed over with them", async (t) => {
  const before = tf.memory().numTensors;
  const share = 0.25;
  for (const trains of ["adapters", "joint"] as const) {
    const config = smallRfmedsam2({ trains, maskDecoder: { learningRateShare: share } });
    const base = smallRfmedsam2Weights(config);
    const { weights } = await trained(config, 1);
    t.strictSame(
      [...weights.keys()],
      rfmedsam2.trainable(config).map(({ name }) => name),
    );
    const largestChange = (prefix: string): number =>
      Math.max(
        ...[...weights]
          .filter(([name]) => name.startsWith(prefix))
          .map(([name, values]) =>
            Math.max(...values.map((value, index) => Math.abs(value - (base.get(name)?.[index] ?? 0)))),
          ),
      );
    // The first step of AdamW moves every number that has a gradient by the learning rate.
    const near = (found: number, expected: number, part: string) =>
      t.ok(Math.abs(found / expected - 1) < 0.01, `${trains}, ${part}: ${found}`);
    near(largestChange("sam2.sam_mask_decoder.output_upscaling."), share * PLAN.learningRate, "decoder");
    near(largestChange("adapters."), PLAN.learningRate, "adapters");
    t.equal(tf.memory().numTensors, before);
  }
});

t.test("the same seed gives the same weights, bit for bit, and another seed others", async (t) => {
  const [first, again, other] = [
    await trained(smallRfmedsam2(), 2),
    await trained(smallRfmedsam2(), 2),
    await trained(smallRfmedsam2(), 2, { seed: 5 }),
  ].map(({ weights }) => bytesOf(weights));
  t.ok(first && again?.equals(first));
  t.notOk(first && other?.equals(first));
});

t.test("blocks that are computed again give the same gradients", async (t) => {
  const gradients = [];
  for (const recompute of [false, true]) {
    const config = smallRfmedsam2({ recompute });
    const model = rfmedsam2.open(config, busyWeights(config));
    const { value, grads } = await model.objective(material())();
    gradients.push(grads.map((gradient) => [...gradient.dataSync()]));
    tf.dispose([value, [...grads]]);
    model.dispose();
  }
  const [kept = [], again = []] = gradients;
  const size = Math.hypot(...kept.flat());
  const difference = Math.hypot(
    ...kept.flatMap((row, at) => row.map((one, i) => one - (again[at]?.[i] ?? 0))),
  );
  t.ok(size > 0 && difference < 1e-4 * size, `${difference} of ${size}`);
});

t.test("an organ that was not contoured is never asked for: without any, nothing moves", async (t) => {
  const blind = [squares(4).map((slice) => ({ ...slice, contoured: [] }))];
  const config = smallRfmedsam2();
  const model = rfmedsam2.open(config, smallRfmedsam2Weights(config));
  const { value, grads } = await model.objective(material({ cases: blind }))();
  t.equal(value.dataSync()[0], 0);
  t.ok(grads.every((gradient) => gradient.dataSync().every((one) => one === 0)));
  tf.dispose([value, [...grads]]);
  model.dispose();
});

t.test("the prompter's phase trains as the recipe of the prompter alone does", async (t) => {
  const config = smallRfmedsam2({ trains: "prompter", answer: "prompter" });
  const { weights } = await trained(config, 3, { batchSize: 2 });
  const own = new Map(
    [...smallRfmedsam2Weights(config)].flatMap(([name, values]) =>
      name.startsWith("prompter.") ? [[name.slice("prompter.".length), values] as const] : [],
    ),
  );
  const model = unetPrompter.build(config.prompter, own);
  const alone = await trainLocally({
    ...{ model, loss: unetPrompter.loss, labels: LABELS, seed: 4, slices: material().cases.flat() },
    plan: { ...PLAN, batchSize: 2, stepsPerRound: 3 },
  });
  t.ok(bytesOf(weights).equals(bytesOf(alone.weights)));
  model.dispose();
});

t.test("predictions are shares of every wanted slice, and windows overlap without a seam", async (t) => {
  const config = smallRfmedsam2();
  const before = tf.memory().numTensors;
  const weights = smallRfmedsam2Weights(config);
  const all = await predicted(config, weights, [0, 1, 2, 3, 4, 5]);
  t.equal(all.length, 6);
  for (const shares of all) {
    const sums = Array.from({ length: 256 }, (_, pixel) =>
      [0, 1, 2].reduce((sum, index) => sum + (shares[pixel * 3 + index] ?? 0), 0),
    );
    if (!sums.every((sum) => Math.abs(sum - 1) < 1e-5)) t.fail("shares that do not sum to one");
  }
  const some = await predicted(config, weights, [1, 4]);
  t.ok(
    bytesOf(new Map(Object.entries(some))).equals(
      bytesOf(
        new Map([
          ["1", all[1] ?? all[0]],
          ["4", all[4]],
        ] as [string, Float32Array][]),
      ),
    ),
  );
  t.equal(tf.memory().numTensors, before);
});

t.test("trained adapters carry weight: set to zero, the prediction is another", async (t) => {
  const config = smallRfmedsam2();
  const busy = await predicted(config, busyWeights(config), [2]);
  const silenced = busyWeights(config);
  for (const [name, values] of silenced) if (name.startsWith("adapters.")) values.fill(0);
  const zeroed = await predicted(config, silenced, [2]);
  const start = await predicted(config, smallRfmedsam2Weights(config), [2]);
  const farthest = (a: Float32Array[], b: Float32Array[]): number =>
    Math.max(...(a[0] ?? []).map((value, index) => Math.abs(value - (b[0]?.[index] ?? 0))));
  t.ok(farthest(busy, zeroed) > 1e-3, `${farthest(busy, zeroed)}`);
  t.equal(farthest(zeroed, start), 0, "and the start is SAM 2 itself");
});

t.test(
  "stages are told apart, with upper limits and baselines, and replaced objects are counted",
  async (t) => {
    const config = smallRfmedsam2();
    const model = rfmedsam2.open(config, smallRfmedsam2Weights(config));
    const told = new Map<string, number>();
    const predictor = expectDefined(model.stages?.(VIEW, { which: PROMPT_SOURCES, seed: 1 }), "stages");
    const tally = (stage: string): void => void told.set(stage, (told.get(stage) ?? 0) + 1);
    const slices: ReadonlyMap<string, Float32Array>[] = [];
    for await (const stages of predictor(squares(6), tally)) slices.push(stages);
    model.dispose();
    t.equal(slices.length, 6);
    const names = [...(slices[0]?.keys() ?? [])];
    for (const stage of [
      "stage-0",
      "stage-1",
      "stage-2",
      "stage-2-without-prompter-masks",
      "stage-2-boxes-only",
    ])
      t.ok(names.includes(stage), stage);
    const box = expectDefined(slices[0]?.get("filled-truth-boxes"), "a baseline");
    t.ok((box[(3 * 16 + 3) * 3 + 1] ?? 0) > 0.9, "the square's middle lies in its box");
    t.ok((box[(15 * 16 + 0) * 3] ?? 0) > 0.9, "a far corner is background");
    t.ok((told.get("truth-boxes-stage-1") ?? 0) >= 12, "two squares in six slices at least");
    t.notOk(told.has("stage-0"));
  },
);

t.test("memories keep their place in time, and pointers are no more than the record has", async (t) => {
  const memory = {
    features: tf.zeros([1, 1, 1, 1]) as tf.Tensor4D,
    pointer: tf.zeros([1, 1]) as tf.Tensor2D,
  };
  const memories = [4, 1, -2].map((distance) => ({
    ...{
      slice: 5 - distance,
      distance,
      isConditioning: distance === 4,
      slot: distance === 4 ? 0 : 6,
      memory,
    },
  }));
  const { memories: chosen, pointers } = rememberedFrames(memories, 9, sam2Variants.micro);
  t.strictSame(
    chosen.map(({ slot }) => slot),
    [0, 6, 6],
  );
  t.strictSame(
    pointers.map(({ distance }) => distance),
    [0.5, 0.125, -0.25],
  );
  t.equal(rememberedFrames(memories, 2, sam2Variants.micro).pointers.length, 2);
  tf.dispose([memory.features, memory.pointer]);
});

t.test("questions of one form are answered together as they are one by one", async (t) => {
  const config = smallRfmedsam2();
  const model = new Rfmedsam2(config, busyWeights(config));
  const port = new ClipPort(model, squares(4));
  const prompt = (x1: number, maskLogits: Float32Array | null) => ({
    ...{ box: { x1, y1: 3, x2: x1 + 9, y2: 14 }, points: [], maskLogits },
  });
  const mask = Float32Array.from({ length: 64 }, (_, cell) => (cell % 3) - 1);
  const firsts = [0, 1, 2, 3].map((slice) => ({
    ...{ slice, prompt: prompt(2 * slice, slice === 3 ? null : mask), memories: [] },
  }));
  t.strictSame(
    batchesOf(firsts, { countMax: 2, framesStep: null }).map((batch) => batch.map(({ slice }) => slice)),
    [[0, 1], [2], [3]],
    "as many as fit, of one form",
  );
  const tensors = tf.memory().numTensors;
  const answers = await port.decode(firsts);
  const memoryOf = (slice: number) => expectDefined(answers[slice], "an answer").memory;
  const use = (slice: number, slot: number, distance: number) => ({
    ...{ slice, slot, distance, isConditioning: slot === 0, memory: memoryOf(slice) },
  });
  const seconds = [
    { slice: 1, prompt: prompt(4, null), memories: [use(0, 0, 1), use(2, 6, -1)] },
    { slice: 2, prompt: prompt(1, null), memories: [use(3, 0, -1), use(0, 5, 2)] },
    { slice: 2, prompt: null, memories: [use(1, 0, 1), use(3, 6, -1)] },
    // Points that found nothing leave nothing to ask with.
    { slice: 1, prompt: { box: null, points: [], maskLogits: null }, memories: [] },
    { slice: 1, prompt: null, memories: [] },
  ];
  const together = await port.decode([...firsts, ...seconds]);
  const alone: typeof together = [];
  for (const request of [...firsts, ...seconds]) alone.push(...(await port.decode([request])));
  t.equal(together.length, 9);
  together.forEach((answer, index) => {
    const single = expectDefined(alone[index], "an answer");
    const furthest = Math.max(
      ...answer.logits.map((logit, cell) => Math.abs(logit - (single.logits[cell] ?? 9))),
    );
    t.ok(furthest < 1e-4, `question ${index} differs by ${furthest}`);
    t.ok(Math.abs(answer.iouScore - single.iouScore) < 1e-5);
    const [a, b] = [answer.memory.features.dataSync(), single.memory.features.dataSync()];
    t.ok(a.every((value, place) => Math.abs(value - (b[place] ?? 9)) < 1e-4));
  });
  const [second, third] = [expectDefined(together[4], "an answer"), expectDefined(together[5], "an answer")];
  t.ok(
    second.logits.some((logit, cell) => Math.abs(logit - (third.logits[cell] ?? 0)) > 1e-3),
    "and not as each other",
  );
  for (const { memory } of [...answers, ...together, ...alone]) port.release(memory);
  port.dispose();
  t.ok(tf.memory().numTensors <= tensors, "nothing is left");
  model.dispose();
});

t.test("a slice becomes a picture: the window is black to white, in three equal channels", async (t) => {
  const slice = { image: Float32Array.of(-9, 0, 2, 9), height: 2, width: 2, channels: 1 };
  const picture = modelImage(slice, 2, { low: -2, high: 2 });
  const green = [0, 1, 2, 3].map((pixel) => (picture[pixel * 3 + 1] ?? 0) * 0.224 + 0.456);
  t.ok([0, 0.5, 1, 1].every((value, index) => Math.abs(value - (green[index] ?? 9)) < 1e-6));
});

t.test("a draft has the numbers that the parts were made with", async (t) => {
  const { prompts, refinement } = smallRfmedsam2();
  t.strictSame(prompts, PROMPT_POLICY);
  const { memoryFrameCount, ...plan } = REFINEMENT_PLAN;
  t.match({ ...refinement, clipSlices: 32 }, plan);
  t.equal(memoryFrameCount, sam2Variants.micro.tracking.memoryFrameCount);
  t.equal(findRecipe({ id: "rfmedsam2", version: 1 }), rfmedsam2);
});

t.test("the recipe names every kernel that its training and prediction call", async (t) => {
  await tf.setBackend("cpu");
  const config = smallRfmedsam2({ trains: "joint", recompute: true });
  const model = rfmedsam2.open(config, busyWeights(config));
  const census = await kernelCensus(async () => {
    const plan = { ...PLAN, stepsPerRound: 1 };
    await trainBatches({ parameters: model.parameters, plan }, model.objective(material()));
    for await (const _ of model.predictor(VIEW)(squares(2), [0]));
  });
  t.strictSame([...rfmedsam2.kernels].sort(), census);
  model.dispose();
  await tf.setBackend("wasm");
  t.strictSame(missingKernels(rfmedsam2.kernels), [], "and the wasm backend has them all");
});
