import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { Prng } from "@consilium/shared/base/prng.ts";
import { readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { parseSam2Config, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { publishedSam2 } from "@consilium/shared/model/sam2-published.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import { initialSam2Weights } from "@consilium/shared/model/sam2-weights.ts";
import t from "tap";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { openCheckpoint } from "../checkpoint/open-checkpoint.ts";
import { Sam2 } from "../models/sam2/sam2.ts";
import { tightBox } from "../prompts/pixel-box.ts";
import { ADAMW_DEFAULTS, disposeAdamW, initialAdamW } from "../training/adamw.ts";
import { drawClip, drawSlices } from "./drawn-examples.ts";
import { correctedPrompts, drawPrompts } from "./example-prompts.ts";
import { pretrainingStart } from "./initial-weights.ts";
import { PRETRAINED_MICRO_FILE, writePretrainedCheckpoint } from "./pretrained-checkpoint.ts";
import { EVALUATION_PLAN, evaluateBoxes, evaluatePrompts } from "./pretrained-evaluation.ts";
import { Pretraining } from "./pretraining.ts";
import { type PretrainingPlan, pretrainingPlan, pretrainingStep, stepCountOf } from "./pretraining-plan.ts";
import { readPretrainingState, writePretrainingState } from "./pretraining-state.ts";
import { clipLoss, LATE_LOSS, slicesLoss } from "./pretraining-steps.ts";
import { maskIou } from "./promptable-answers.ts";
import { sparseOptimiserStep } from "./sparse-optimiser-step.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const PROVENANCE_FILE = PRETRAINED_MICRO_FILE.replace(/\.safetensors$/, ".provenance.json");
const SIDE = 64;
const NEVER = { share: 0, pointShare: 0, maskShare: 0 };
const TINY = tinyRecord(sam2Variants.micro);
const PLAN: PretrainingPlan = {
  ...pretrainingPlan(1, 7),
  sliceSteps: 3,
  clipSteps: 3,
  slices: { imageCount: 2, objectCountMax: 2, areaMinPx: 10 },
  clips: { imageCount: 3, objectCountMax: 2, areaMinPx: 10 },
  correctionShare: 0.5,
};

/** Every part, at the smallest widths that fit together. */
function tinyRecord(micro: Sam2Config): Sam2Config {
  return parseSam2Config({
    ...micro,
    imageSize: SIDE,
    trunk: { ...micro.trunk, embedDim: 4, stages: [1, 1, 1, 1], globalBlocks: [2], windows: [4, 4, 2, 2] },
    neck: { ...micro.neck, channels: 16 },
    memoryAttention: { ...micro.memoryAttention, layerCount: 1, feedForwardChannels: 16 },
    memoryEncoder: { ...micro.memoryEncoder, channels: 4 },
    maskDecoder: { ...micro.maskDecoder, headCount: 2, mlpChannels: 16, iouHeadChannels: 16 },
  });
}

function trainableModel(): Sam2 {
  const trainable = sam2Parameters(TINY).filter(({ name }) => name !== POINT_ENCODING_MATRIX);
  return new Sam2(TINY, pretrainingStart(TINY, 1), { trainable });
}

/** One digest for every tensor: arrays are compared by it, because looking at each number takes long. */
function digests(weights: ReadonlyMap<string, Float32Array>): Record<string, string> {
  return Object.fromEntries([...weights.keys()].map((name) => [name, sha256(bytesOf(weights, name))]));
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

t.test("weights start as PyTorch's layers and SAM 2's tokens do, from the seed alone", async (t) => {
  const weights = pretrainingStart(TINY, 1);
  t.strictSame(
    [...weights.keys()],
    sam2Parameters(TINY).map(({ name }) => name),
  );
  t.strictSame(digests(weights), digests(pretrainingStart(TINY, 1)));
  const other = pretrainingStart(TINY, 2);
  t.not(digests(other)["no_mem_embed"], digests(weights)["no_mem_embed"]);
  const all = (name: string): number[] => [...(weights.get(name) ?? [])];
  t.ok(all("image_encoder.trunk.blocks.0.norm1.weight").every((value) => value === 1));
  t.ok(all("image_encoder.trunk.blocks.0.norm1.bias").every((value) => value === 0));
  const bound = 1 / Math.sqrt(3 * 7 * 7);
  const patches = all("image_encoder.trunk.patch_embed.proj.weight");
  t.ok(patches.every((value) => Math.abs(value) <= bound));
  t.ok(
    patches.some((value) => Math.abs(value) > 0.9 * bound),
    "and reach the bound",
  );
  t.ok(all("image_encoder.trunk.patch_embed.proj.bias").some((value) => value !== 0));
  t.ok(all("maskmem_tpos_enc").every((value) => Math.abs(value) <= 0.04));
  t.ok(all("sam_mask_decoder.mask_tokens.weight").some((value) => Math.abs(value) > 1));
});

t.test(
  "prompts find their places from the start: queries and keys are one map, and slices say where",
  async (t) => {
    const weights = pretrainingStart(TINY, 1);
    const official = initialSam2Weights(TINY, 1);
    const changed = [...weights].filter(([name]) => digests(weights)[name] !== digests(official)[name]);
    const decoder = "sam_mask_decoder.transformer";
    const pairs = [0, 1]
      .flatMap((layer) =>
        ["cross_attn_token_to_image", "cross_attn_image_to_token"].map((at) => `layers.${layer}.${at}`),
      )
      .concat("final_attn_token_to_image");
    const expected = pairs.flatMap((at) => [
      `${decoder}.${at}.q_proj.weight`,
      `${decoder}.${at}.k_proj.weight`,
    ]);
    t.strictSame(
      changed.map(([name]) => name).sort(),
      [...expected, POINT_ENCODING_MATRIX, "image_encoder.trunk.pos_embed"].sort(),
      "and nothing else differs from the official start",
    );
    for (const name of expected.filter((one) => one.includes("q_proj"))) {
      t.equal(digests(weights)[name], digests(weights)[name.replace("q_proj", "k_proj")]);
    }
    const places = [...(weights.get("image_encoder.trunk.pos_embed") ?? [])];
    t.ok(places.every((value) => Math.abs(value) <= 0.5) && places.some((value) => Math.abs(value) > 0.4));
  },
);

t.test("examples are drawn from a seed, and every object is seen where it is prompted", async (t) => {
  const plan = { imageCount: 3, objectCountMax: 2, areaMinPx: 10 };
  const slices = drawSlices(plan, SIDE, new Prng(3));
  const joinedImages = (seed: number) =>
    sha256(Buffer.concat(drawSlices(plan, SIDE, new Prng(seed)).images.map(bytes)));
  t.equal(joinedImages(3), joinedImages(3));
  t.not(joinedImages(4), joinedImages(3));
  t.equal(slices.images.length, 3);
  t.equal(slices.owners.length, slices.masks.length);
  t.ok(slices.masks.every((mask) => mask.length === SIDE * SIDE && mask.includes(1)));
  const clip = drawClip(plan, SIDE, new Prng(5));
  t.equal(clip.images.length, 3);
  t.equal(clip.masks.length, 3);
  t.ok(clip.masks.every((masks) => masks.length === clip.masks[0]?.length));
  t.ok(clip.masks[0]?.every((mask) => mask.includes(1)));
});

t.test(
  "all objects of a step get prompts of one kind, and corrections where an answer is wrong",
  async (t) => {
    const { masks } = drawSlices({ imageCount: 2, objectCountMax: 2, areaMinPx: 10 }, SIDE, new Prng(3));
    const options = { side: SIDE, prng: new Prng(1) };
    const box = drawPrompts("box", masks, options);
    t.strictSame(Array.from(box.points.labels).slice(0, 2), [2, 3]);
    t.equal(box.points.pointCount, 2);
    const tight = tightBox(masks[0] ?? new Uint8Array(), { height: SIDE, width: SIDE });
    t.ok(Math.abs((box.points.coordinates[0] ?? 0) - (tight?.x1 ?? 0)) <= 0.1 * SIDE);
    const point = drawPrompts("point", masks, options);
    t.equal(point.points.pointCount, 1);
    for (const [object, mask] of masks.entries()) {
      const [x = 0, y = 0] = [point.points.coordinates[2 * object], point.points.coordinates[2 * object + 1]];
      t.equal(mask[y * SIDE + x], 1, "a point lies on its object");
    }
    const rough = drawPrompts("box-and-mask", masks, options).masks ?? [];
    t.equal(rough.length, masks.length);
    t.ok(rough.every((logits) => logits.length === (SIDE / 4) ** 2));
    const empty = masks.map((mask) => new Uint8Array(mask.length));
    const lowLogits = masks.map(() => new Float32Array((SIDE / 4) ** 2));
    const corrected = correctedPrompts(box, { truth: masks, predicted: empty }, { ...options, lowLogits });
    t.equal(corrected.points.pointCount, 3);
    t.strictSame(
      Array.from(corrected.points.labels).slice(0, 3),
      [2, 3, 1],
      "what was missed is on the object",
    );
    t.strictSame(corrected.masks, lowLogits);
  },
);

t.test("a step changes what its loss depends on and nothing else, and leaves no tensor over", async (t) => {
  const model = trainableModel();
  const names = model.parameters.trainableNames;
  const before = digests(await model.parameters.export(names));
  let state = initialAdamW(model.parameters.trainable());
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0.1, learningRate: 1e-3, gradientNormL2Max: 1 };
  const slices = drawSlices({ imageCount: 1, objectCountMax: 2, areaMinPx: 10 }, SIDE, new Prng(3));
  const tensors = tf.memory().numTensors;
  const loss = () =>
    slicesLoss(model, slices, { kind: "box", correctionCount: 0, settings: LATE_LOSS, prng: new Prng(1) })
      .total;
  ({ state } = sparseOptimiserStep(model.parameters, loss, state, plan));
  t.equal(tf.memory().numTensors, tensors);
  const after = digests(await model.parameters.export(names));
  const changed = names.filter((name) => before[name] !== after[name]);
  t.ok(changed.includes("image_encoder.trunk.patch_embed.proj.weight"));
  t.notOk(
    changed.some((name) => name.startsWith("memory_")),
    "no memory was asked",
  );
  const clip = drawClip({ imageCount: 2, objectCountMax: 2, areaMinPx: 10 }, SIDE, new Prng(3));
  const remembered = () =>
    clipLoss(model, clip, { kind: "mask", again: NEVER, settings: LATE_LOSS, prng: new Prng(1) }).total;
  ({ state } = sparseOptimiserStep(model.parameters, remembered, state, plan));
  t.equal(tf.memory().numTensors, tensors);
  const third = digests(await model.parameters.export(names));
  const moved = names.filter((name) => third[name] !== after[name]);
  for (const part of [
    "memory_attention.layers.0",
    "memory_encoder.fuser",
    "obj_ptr_proj",
    "mask_downsample",
  ]) {
    t.ok(
      moved.some((name) => name.startsWith(part)),
      part,
    );
  }
  const later = (share: number): number =>
    tf.tidy(() => {
      const again = { ...NEVER, share };
      return clipLoss(model, clip, { kind: "box", again, settings: LATE_LOSS, prng: new Prng(1) }).meanIou;
    });
  t.ok(later(0) >= 0, "a slice without a prompt is scored");
  t.ok(Number.isNaN(later(1)), "and with a prompt none is left to score");
  const broken = () => tf.mul(loss(), Number.NaN) as tf.Scalar; // A scalar times a number.
  t.throws(() => sparseOptimiserStep(model.parameters, broken, state, plan), { code: "training.diverged" });
  t.equal(tf.memory().numTensors, tensors);
  t.strictSame(digests(await model.parameters.export(names)), third, "weights are as before");
  disposeAdamW(state);
  model.dispose();
});

function bytesOf(weights: ReadonlyMap<string, Float32Array>, name: string): Uint8Array {
  return bytes(weights.get(name) ?? new Float32Array());
}

function bytes({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** All steps, or as many as are asked for. */
function run(pretraining: Pretraining, stepCount = Number.POSITIVE_INFINITY): Pretraining {
  for (let step = 0; step < stepCount && !pretraining.isDone; step += 1) pretraining.next();
  return pretraining;
}

async function checkpointOf(pretraining: Pretraining): Promise<Uint8Array> {
  const { weights } = await pretraining.export();
  pretraining.dispose();
  return writePretrainedCheckpoint(TINY, weights);
}

t.test("a run that was ended and resumed at any step ends with the bytes of one that was not", async (t) => {
  const whole = sha256(await checkpointOf(run(new Pretraining(TINY, PLAN))));
  for (const stop of [2, 3]) {
    const first = run(new Pretraining(TINY, PLAN), stop);
    const saved = writePretrainingState(await first.export(), PLAN);
    first.dispose();
    const resumed = new Pretraining(TINY, PLAN, readPretrainingState(saved, TINY, PLAN));
    t.equal(sha256(await checkpointOf(run(resumed))), whole, `after step ${stop}`);
  }
  const other = { ...PLAN, seed: 8 };
  t.not(sha256(await checkpointOf(run(new Pretraining(TINY, other)))), whole, "the seed matters");
});

t.test("a state of another plan, of another model or of none is refused", async (t) => {
  const pretraining = run(new Pretraining(TINY, PLAN), 1);
  const saved = writePretrainingState(await pretraining.export(), PLAN);
  const read = (given: Uint8Array, plan = PLAN, config = TINY) => readPretrainingState(given, config, plan);
  t.equal(read(saved).step, 1);
  t.throws(() => read(saved, { ...PLAN, seed: 9 }), { code: "pretraining.state-of-another-plan" });
  t.throws(() => read(saved, PLAN, sam2Variants.micro), { code: "pretraining.state-unreadable" });
  const { weights } = await pretraining.export();
  t.throws(() => read(writePretrainedCheckpoint(TINY, weights)), { code: "pretraining.state-unreadable" });
  t.throws(() => read(saved.subarray(0, bytes.length - 1)), { code: "bundle.truncated" });
  pretraining.dispose();
});

t.test("steps on the same slice learn it", async (t) => {
  const model = trainableModel();
  let state = initialAdamW(model.parameters.trainable());
  const slices = drawSlices({ imageCount: 1, objectCountMax: 2, areaMinPx: 10 }, SIDE, new Prng(3));
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0, learningRate: 3e-3, gradientNormL2Max: 1 };
  const losses: number[] = [];
  for (let step = 0; step < 20; step += 1) {
    const prompting = {
      kind: "box-and-mask",
      correctionCount: 0,
      settings: LATE_LOSS,
      prng: new Prng(1),
    } as const;
    const taken = sparseOptimiserStep(
      model.parameters,
      () => slicesLoss(model, slices, prompting).total,
      state,
      plan,
    );
    state = taken.state;
    losses.push(taken.loss);
  }
  t.ok((losses.at(-1) ?? 1) < 0.8 * (losses[0] ?? 0), `${losses[0]} to ${losses.at(-1)}`);
  disposeAdamW(state);
  model.dispose();
});

t.test("the plan says every step: slices first, then clips and slices in turn", async (t) => {
  const plan = pretrainingPlan(10, 1);
  t.equal(stepCountOf(plan), stepCountOf(pretrainingPlan(10, 2)), "minutes alone give the length");
  const steps = Array.from({ length: stepCountOf(plan) }, (_, step) => pretrainingStep(plan, step));
  t.ok(steps.slice(0, plan.sliceSteps).every((step) => step.of === "slices"));
  t.strictSame(
    steps.slice(plan.sliceSteps, plan.sliceSteps + 3).map((step) => step.of),
    ["clip", "slices", "clip"],
  );
  t.strictSame(
    steps.flatMap(({ startsPhase }, step) => (startsPhase ? [step] : [])),
    [0, plan.sliceSteps],
  );
  t.ok(steps.every(({ learningRate }) => learningRate > 0 && learningRate <= plan.learningRate));
  t.ok((steps.at(-1)?.learningRate ?? 1) < 0.01 * plan.learningRate);
});

t.test("an evaluation scores boxes, prompts and memory on examples of its own", async (t) => {
  const plan = {
    ...EVALUATION_PLAN,
    sliceCount: 3,
    clipCount: 4,
    objectCountMax: 2,
    areaMinPx: 100,
    correctionCount: 1,
  };
  const boxes = evaluateBoxes(plan, SIDE);
  t.ok(boxes.objectCount >= 3);
  t.ok(boxes.tightBox > 0 && boxes.tightBox < 1 && boxes.jitteredBox > 0 && boxes.jitteredBox < 1);
  const model = trainableModel();
  const tensors = tf.memory().numTensors;
  const scores = evaluatePrompts(model, plan);
  t.equal(tf.memory().numTensors, tensors);
  t.strictSame(scores, evaluatePrompts(model, plan), "it can be repeated");
  t.strictSame([scores.box.length, scores.point.length, scores.boxAndMask.length], [2, 2, 2]);
  t.equal(scores.memory.length, plan.clipLength - 1);
  t.ok(
    Object.values(scores)
      .flat()
      .every((iou) => iou >= 0 && iou <= 1),
  );
  model.dispose();
  const [half, full] = [Uint8Array.of(1, 0, 0, 0), Uint8Array.of(1, 1, 0, 0)];
  t.strictSame(
    [maskIou(half, full), maskIou(full, full), maskIou(half, Uint8Array.of(0, 0, 1, 0))],
    [0.5, 1, 0],
  );
});

t.test("a checkpoint holds the official names and nothing else", async (t) => {
  const file = writePretrainedCheckpoint(TINY, pretrainingStart(TINY, 1));
  const { tensors } = readTensorBundle(file);
  t.strictSame(
    [...tensors].map(([name, { shape }]) => ({ name, shape, dtype: "F32" })),
    sam2Parameters(TINY),
  );
});

t.test("a run may go on from trained weights, and then steps differ from those from nothing", async (t) => {
  const [again, fresh] = [pretrainingPlan(10, 7, true), pretrainingPlan(10, 7)];
  t.equal(stepCountOf(again), stepCountOf(fresh));
  t.equal(again.earlySteps, 0, "nothing is made easier");
  t.ok(again.learningRate < fresh.learningRate && again.clipLearningRate < fresh.clipLearningRate);
  const weights = pretrainingStart(TINY, 9);
  const names = sam2Parameters(TINY).map(({ name }) => name);
  const pretraining = new Pretraining(TINY, PLAN, undefined, weights);
  t.strictSame(digests(await pretraining.model.parameters.export(names)), digests(weights));
  pretraining.next();
  t.notSame(digests(await pretraining.model.parameters.export(names)), digests(weights));
  pretraining.dispose();
});

t.test(
  "the checkpoint that comes along is the one whose making is written down, and it answers boxes",
  async (t) => {
    const config = sam2Variants["pretrained-micro"];
    const bytes = statSync(PRETRAINED_MICRO_FILE).size;
    const {
      sha256: digest,
      tensors,
      close,
    } = await openCheckpoint(PRETRAINED_MICRO_FILE, {
      expected: sam2Parameters(config),
    });
    const weights = new Map([...tensors].map(([name, tensor]) => [name, tensor.read()]));
    close();
    const written = JSON.parse(readFileSync(PROVENANCE_FILE, "utf8"));
    t.match(written, { sha256: digest, bytes, dtype: "float32" });
    t.equal(publishedSam2(digest), "consilium-pretrained-micro", "studies know it by name");
    t.ok(bytes <= 12_000_000);
    const model = new Sam2(config, weights);
    const plan = { ...EVALUATION_PLAN, seed: 5, sliceCount: 4, clipCount: 1, correctionCount: 0 };
    const { box } = evaluatePrompts(model, plan);
    const { jitteredBox } = evaluateBoxes(plan, config.imageSize);
    t.ok((box[0] ?? 0) > jitteredBox + 0.1, `IoU ${box[0]} from boxes that have ${jitteredBox} themselves`);
    model.dispose();
  },
);
