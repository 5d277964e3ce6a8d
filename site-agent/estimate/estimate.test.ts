import {
  type ConvBlockSpec,
  decoderStages,
  encoderStages,
  parsePlainConvUNetConfig,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { findArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import t from "tap";
import { Value } from "typebox/value";
import {
  planRefinedBy,
  refinedConfig,
  ticking,
  tinyPlan as tiny,
} from "../../test/support/estimated-plans.ts";
import { smallRfmedsam2Weights } from "../../test/support/small-rfmedsam2.ts";
import { tinyConfig } from "../../test/support/tiny-study.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { HEAP_BYTES_BUDGET } from "../backend/wasm-kernels/wasm-heap.ts";
import { findRecipe } from "../recipes/registry.ts";
import { trainBatches } from "../training/train-locally.ts";
import { callKey, elementsOf } from "./kernel-call.ts";
import { kernelOutputs } from "./kernel-outputs.ts";
import { kernelWork } from "./kernel-work.ts";
import { exceededBounds } from "./memory-bounds.ts";
import { inRehearsal } from "./rehearsal-backend.ts";
import { drawnAnswer, rehearsalMaterial } from "./rehearsal-material.ts";
import { type RehearsedStep, rehearseStep } from "./rehearse-step.ts";
import { estimateStep, StepEstimate, workByKind } from "./step-estimate.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
const { heap } = installTrainingKernels();

const config = refinedConfig({ clip: { slices: 2, queries: 1, objects: 1 } });
const small = planRefinedBy(config);

const rehearse = (plan: StudyPlan): Promise<RehearsedStep> =>
  // So slow a clock ends the rehearsal after the first step, which is the one that counts.
  rehearseStep(plan, { seconds: ticking(10), residentBytes: () => 1000 });

function weightsOf(plan: StudyPlan): ReadonlyMap<string, Float32Array> {
  if (plan === small) return smallRfmedsam2Weights(config);
  return findArchitecture(plan.recipe)?.initialWeights(plan.recipe.config, 1) ?? new Map();
}

/** One real step on wasm, on the rehearsal's images. */
async function realStep(plan: StudyPlan): Promise<void> {
  const model = findRecipe(plan.recipe).open(plan.recipe.config, weightsOf(plan));
  try {
    const material = rehearsalMaterial(plan, (slices) => [...slices]);
    const loop = { parameters: model.parameters, plan: { ...plan.training, stepsPerRound: 1 } };
    await trainBatches(loop, model.objective(material));
  } finally {
    model.dispose();
  }
}

type Counted = Map<string, number>;

function count(counts: Counted, name: string, shapes: readonly (readonly number[])[], times: number): void {
  const key = `${name} ${shapes.map((shape) => `[${shape}]`).join("")}`;
  counts.set(key, (counts.get(key) ?? 0) + times);
}

/** Kernels that the framework really ran, by name and shapes of what they gave. */
async function realCalls(plan: StudyPlan): Promise<Counted> {
  const counts: Counted = new Map();
  const model = findRecipe(plan.recipe).open(plan.recipe.config, weightsOf(plan));
  const material = rehearsalMaterial(plan, (slices) => [...slices]);
  const objective = model.objective(material);
  const loop = { parameters: model.parameters, plan: { ...plan.training, stepsPerRound: 1 } };
  const profile = await tf.profile(async () => {
    await trainBatches(loop, objective);
    return [];
  });
  // The profile also lists scopes, which are no kernels.
  for (const { name, outputShapes } of profile.kernels)
    if (tf.getKernel(name, "wasm")) count(counts, name, outputShapes, 1);
  model.dispose();
  return counts;
}

function rehearsedCalls({ calls }: RehearsedStep): Counted {
  const counts: Counted = new Map();
  for (const { call, count: times } of calls)
    count(
      counts,
      call.kernel,
      call.outputs.map(({ shape }) => shape),
      times,
    );
  return counts;
}

t.test("a rehearsed step calls the kernels of the real one", async (t) => {
  const [found, real] = [rehearsedCalls(await rehearse(tiny)), await realCalls(tiny)];
  t.strictSame(sorted(found), sorted(real));
});

function sorted(counts: Counted): string[] {
  return [...counts].map(([key, times]) => `${key} ${times}`).sort();
}

t.test("convolutions are counted as by hand", async (t) => {
  const { calls } = await rehearse(tiny);
  const { height, width } = tiny.preprocessing.patch;
  const unet = parsePlainConvUNetConfig(tinyConfig);
  const flops = (spec: ConvBlockSpec, places: number): number =>
    2 * spec.inChannels * spec.outChannels * spec.kernelSize[0] * spec.kernelSize[1] * places;
  const pixels = tiny.training.batchSize * height * width;
  const [above, below] = encoderStages(unet).flat();
  const [stage] = decoderStages(unet);
  if (!above || !below || !stage) throw new Error("the UNet has two stages");
  const inner = [
    flops(below, pixels / 4),
    flops(stage.upsampling, pixels / 4),
    ...stage.blocks.map((block) => flops(block, pixels)),
    flops(stage.head, pixels),
  ];
  // Forward, by the filter, and by the input, which the image needs no gradient for.
  const expected = 2 * flops(above, pixels) + 3 * inner.reduce((sum, value) => sum + value, 0);
  const { convolutions, products } = workByKind(calls);
  t.equal(convolutions.flops, expected);
  t.equal(products.flops, 0);
});

t.test("a clip's work is that of the real step within a tenth", async (t) => {
  const [found, real] = [rehearsedCalls(await rehearse(small)), await realCalls(small)];
  const total = (counts: Counted): number => [...counts.values()].reduce((sum, times) => sum + times, 0);
  const share = total(found) / total(real);
  t.ok(share > 0.9 && share < 1.1, `${total(found)} calls foretold, ${total(real)} made`);
});

t.test("the heap's budget proves the foretold memory", async (t) => {
  for (const plan of [tiny, small]) {
    const { tensorBytes } = await rehearse(plan);
    const before = heap.usedBytes;
    heap.budgetBytes = before + 1.1 * tensorBytes;
    t.teardown(() => {
      heap.budgetBytes = HEAP_BYTES_BUDGET;
    });
    await t.resolves(realStep(plan), `${plan.recipe.id} fits into a tenth more`);
    heap.budgetBytes = before + 0.75 * tensorBytes;
    await t.rejects(
      realStep(plan),
      { code: "backend.out-of-memory" },
      `${plan.recipe.id} not into a quarter less`,
    );
    heap.budgetBytes = HEAP_BYTES_BUDGET;
  }
});

t.test("recomputation takes less memory and more products", async (t) => {
  const withRecomputation = (recompute: boolean): StudyPlan => ({
    ...small,
    recipe: { ...small.recipe, config: { ...small.recipe.config, recompute } },
  });
  const [kept, again] = [await rehearse(withRecomputation(false)), await rehearse(withRecomputation(true))];
  t.ok(again.tensorBytes < kept.tensorBytes, `${again.tensorBytes} < ${kept.tensorBytes}`);
  t.ok(workByKind(again.calls).products.flops > workByKind(kept.calls).products.flops);
});

t.test("every kernel of a recipe has a rule, and another one is an error", async (t) => {
  for (const id of ["unet-prompter", "rfmedsam2"]) {
    for (const kernel of findRecipe({ id, version: 1 }).kernels) {
      try {
        kernelOutputs(kernel, {}, {});
      } catch (error) {
        // Without inputs most rules fail, but not for want of a rule.
        t.notMatch(error, { code: "estimate.unknown-kernel" }, kernel);
      }
    }
  }
  t.throws(() => kernelOutputs("Einsum", {}, {}), { code: "estimate.unknown-kernel", message: /Einsum/ });
});

t.test("the running backend is put back, also after an error", async (t) => {
  const failure = inRehearsal(drawnAnswer, async () => {
    t.equal(tf.getBackend(), "rehearsal");
    const sum = tf.add(tf.ones([2, 3]), tf.ones([3]));
    t.strictSame(sum.shape, [2, 3]);
    tf.dispose(sum);
    throw new Error("on purpose");
  });
  await t.rejects(failure, /on purpose/);
  t.equal(tf.getBackend(), "wasm");
  t.equal(
    tf.tidy(() => tf.add(1, 1).dataSync()[0]),
    2,
  );
});

t.test("a product's work and scratch space", async (t) => {
  const float = (shape: number[]) => ({ shape, dtype: "float32" as const });
  const call = {
    kernel: "BatchMatMul",
    inputs: { a: float([2, 3, 5]), b: float([2, 5, 7]) },
    isList: false,
    attributes: { transposeA: false, transposeB: false },
  };
  const outputs = kernelOutputs(call.kernel, call.inputs, call.attributes);
  t.strictSame(outputs, [float([2, 3, 7])]);
  const work = kernelWork({ ...call, outputs });
  t.match(work, { kind: "products", flops: 2 * 2 * 3 * 5 * 7, bytes: 4 * (30 + 70 + 42) });
  t.equal(work.scratchBytes, 4 * 5 * 8, "a panel of whole columns");
  t.equal(elementsOf(float([2, 3, 7])), 42);
  const scaled = (learningRate: number) => callKey({ ...call, attributes: { learningRate } });
  t.equal(scaled(0.25), scaled(0.5), "numbers that are no sizes do not tell calls apart");
  t.not(scaled(1), scaled(2));
});

t.test("an estimate adds up", async (t) => {
  const gauges = { seconds: ticking(1e-4), residentBytes: () => 1000 };
  const estimate = await estimateStep("wasm", tiny, gauges, 0.1);
  t.ok(Value.Check(StepEstimate, estimate));
  t.equal(estimate.memoryBytes, estimate.hostBytes + estimate.tensorBytes);
  t.ok(estimate.hostBytes > 1000 && estimate.seconds >= estimate.hostSeconds);
});

t.test("what goes beyond the heap or the machine is named with its numbers", async (t) => {
  const none = { calls: 0, flops: 0, bytes: 0 };
  const work = { products: none, convolutions: none, depthwise: none, elementwise: none };
  const GiB = 2 ** 30;
  const estimate = {
    ...{ backend: "wasm" as const, seconds: 1, hostSeconds: 0.5, timedShare: 1, work },
    ...{ memoryBytes: 5 * GiB, tensorBytes: 4 * GiB, hostBytes: GiB },
  };
  t.strictSame(exceededBounds(estimate, 4.5 * GiB), [
    { of: "tensors on wasm", neededBytes: 4 * GiB, availableBytes: 3 * GiB },
    { of: "memory of the process", neededBytes: 5 * GiB, availableBytes: 4.5 * GiB },
  ]);
  t.strictSame(exceededBounds({ ...estimate, tensorBytes: GiB, memoryBytes: 2 * GiB }, 4 * GiB), []);
  t.strictSame(exceededBounds({ ...estimate, backend: "tfjs-node" }, 6 * GiB), [], "no heap of its own");
  t.strictSame(
    exceededBounds({ ...estimate, backend: "tfjs-node-gpu" }, 2 * GiB),
    [],
    "a GPU's is not known",
  );
});
