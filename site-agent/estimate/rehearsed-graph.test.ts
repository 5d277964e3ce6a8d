// Rehearsals of compiled computations. They compute nothing, so that they are the same on every backend.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import t from "tap";
import { planRefinedBy, refinedConfig, tinyPlan } from "../../test/support/estimated-plans.ts";
import { compileStep } from "../backend/graph/compile-step.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { kernelOutputs } from "./kernel-outputs.ts";
import { inRehearsal, type Rehearsal } from "./rehearsal-backend.ts";
import { drawnAnswer } from "./rehearsal-material.ts";
import { type RehearsedStep, rehearseStep } from "./rehearse-step.ts";
import { flopsOf, workByKind } from "./step-estimate.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

/** As on processors. */
const BRANCHES = 2;
const EAGER = 0;
const KIB = 1024;
const side = 16;
const square = (): tf.Tensor2D => tf.zeros([side, side]);

function countsOf({ calls }: Rehearsal, inGraph: boolean): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of calls.values())
    if (one.inGraph === inGraph) counts[one.call.kernel] = (counts[one.call.kernel] ?? 0) + one.count;
  return counts;
}

t.test("a graph runs what its outputs need, whole and in halves", async (t) => {
  const act = async (rehearsal: Rehearsal): Promise<void> => {
    const step = compileStep(
      ({ x, late }) => {
        const given = tf.exp(x as tf.Tensor2D);
        tf.cos(given); // Nobody reads it.
        const early = tf.sin(given);
        return { early, both: tf.add(tf.sqrt(given), late as tf.Tensor2D) };
      },
      { name: "rehearsed", later: ["late"] },
    );
    const [x, late] = [square(), square()];
    t.equal(step.begin({ x }), null, "there is no graph before it is recorded");
    tf.dispose(step.run({ x, late }));
    const before = rehearsal.liveBytes;

    rehearsal.startCounting();
    const begun = step.begin({ x });
    if (!begun) throw new Error("there is a graph now");
    t.strictSame(
      countsOf(rehearsal, true),
      { Exp: 1, Sin: 1, Sqrt: 1 },
      "the first half, and what crosses over",
    );
    t.equal(rehearsal.liveBytes - before, 2 * KIB, "early, and what crosses over, are kept");
    const rest = step.finish(begun.begun, { x, late });
    t.strictSame(Object.keys(begun.outputs), ["early"]);
    t.strictSame(Object.keys(rest), ["both"]);
    t.strictSame(rest.both?.shape, [side, side]);
    tf.dispose([begun.outputs, rest, [...begun.begun.tensors]] as tf.TensorContainer);
    t.strictSame(countsOf(rehearsal, true), { Exp: 1, Sin: 1, Sqrt: 1, Add: 1 }, "nothing twice");

    tf.dispose(step.run({ x, late }));
    t.strictSame(countsOf(rehearsal, true), { Exp: 2, Sin: 2, Sqrt: 2, Add: 2 });
    t.strictSame(countsOf(rehearsal, false), {}, "nothing by itself");
    t.strictSame(rehearsal.graphs, { nodes: 5, runs: 3, tensors: 3 + 3 + 4 });
    t.equal(rehearsal.liveBytes, before);
    step.dispose();
    tf.dispose([x, late]);
  };
  await inRehearsal(drawnAnswer, act, BRANCHES);
});

t.test("a graph frees what has been read for the last time", async (t) => {
  const peaks = async (links: number): Promise<number> => {
    let peak = 0;
    const act = async (rehearsal: Rehearsal): Promise<void> => {
      const step = compileStep(
        ({ x }) => {
          let y = x as tf.Tensor;
          for (let link = 0; link < links; link += 1) y = tf.exp(y);
          return { y };
        },
        { name: "chain" },
      );
      const x = square();
      tf.dispose(step.run({ x }));
      const before = rehearsal.peakBytes;
      // Recorded eagerly, every link is kept until the computation ends; the graph needs two at a time.
      t.equal(before, (1 + links) * KIB);
      const more = tf.zeros([(links - 1) * (KIB / 4)]);
      tf.dispose(step.run({ x }));
      peak = rehearsal.peakBytes - before;
      tf.dispose([x, more]);
    };
    await inRehearsal(drawnAnswer, act, BRANCHES);
    return peak;
  };
  t.equal(await peaks(10), KIB, "x, what was made beside, and two links: one more than before");
});

t.test("what reads numbers back is no graph", async (t) => {
  const warnings: string[] = [];
  const act = async (): Promise<void> => {
    const step = compileStep(
      ({ x }) => {
        const sum = tf.sum(x as tf.Tensor);
        return { y: tf.mul(x as tf.Tensor, sum.dataSync()[0] ?? 0) };
      },
      { name: "peeking", onWarning: ({ code }) => void warnings.push(code) },
    );
    const x = square();
    tf.dispose([step.run({ x }), step.run({ x }), x]);
  };
  await inRehearsal(drawnAnswer, act, BRANCHES);
  t.strictSame(warnings, ["graph.not-recorded"]);
});

const SLICES = 4;

function refined(recompute: boolean): StudyPlan {
  const config = refinedConfig({ clip: { slices: SLICES, queries: SLICES, objects: 1 } });
  return planRefinedBy({ ...config, recompute });
}

/** On a clock that stands still. */
function rehearse(plan: StudyPlan, branches: number): Promise<RehearsedStep> {
  return rehearseStep(plan, { seconds: () => 0, residentBytes: () => 1000 }, branches);
}

t.test("a compiled step is graphs, with the same products", async (t) => {
  const [compiled, eager] = [await rehearse(tinyPlan, BRANCHES), await rehearse(tinyPlan, EAGER)];
  t.equal(eager.graphs.runs, 0);
  t.ok(eager.calls.every(({ inGraph }) => !inGraph));
  t.ok(compiled.graphs.runs > 0 && compiled.graphs.nodes > 0);
  t.ok(
    compiled.calls.every(({ inGraph }) => inGraph),
    "gradients, their norm and the optimiser",
  );
  t.equal(flopsOf({ work: workByKind(compiled.calls) }), flopsOf({ work: workByKind(eager.calls) }));
});

/** Images that go through SAM 2's first convolution, which is the only one of seven pixels. */
function imagesEncoded({ calls }: RehearsedStep): number {
  return calls
    .filter(({ call }) => call.kernel === "Conv2D" && call.inputs["filter"]?.shape[0] === 7)
    .reduce((sum, { call, count }) => sum + count * (call.outputs[0]?.shape[0] ?? 0), 0);
}

t.test("a compiled clip encodes its slices once, and else twice", async (t) => {
  for (const recompute of [false, true]) {
    const plan = refined(recompute);
    t.equal(imagesEncoded(await rehearse(plan, EAGER)), 2 * SLICES);
    t.equal(imagesEncoded(await rehearse(plan, BRANCHES)), SLICES);
  }
});

t.test("what a recorded clip needs again it computes again", async (t) => {
  const [kept, again] = [await rehearse(refined(false), BRANCHES), await rehearse(refined(true), BRANCHES)];
  t.ok(workByKind(again.calls).products.flops > workByKind(kept.calls).products.flops);
});

t.test("a maximum is over the axes that it names", (t) => {
  const x = { shape: [2, 3, 5], dtype: "float32" as const };
  t.strictSame(kernelOutputs("Max", { x }, { reductionIndices: [2], keepDims: false }), [
    { shape: [2, 3], dtype: "float32" },
  ]);
  t.end();
});
