// What every port that computes keeps, whatever process it does it in.

import { planDigest, type StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { Test } from "tap";
import type { Compute, ComputeNews, ComputeTask, TrainingTask } from "../../site-agent/compute/compute.ts";

export type ComputeMaterial = {
  readonly plan: StudyPlan;
  readonly weights: Uint8Array;
  /** Labelled cases that can be read. */
  readonly folder: string;
  /** A folder without cases. */
  readonly empty: string;
};

const never = new AbortController().signal;

export function taskOf({ plan, weights, folder }: ComputeMaterial): ComputeTask {
  return { plan, weights, digest: planDigest(plan), data: { folder, cases: null, validation: null } };
}

export function trainingOf(material: ComputeMaterial, seed = 7): TrainingTask {
  const steps = material.plan.training.stepsPerRound;
  return { ...taskOf(material), seed, schedule: { stepsBefore: 0, stepsInAll: steps } };
}

export async function computeContract(t: Test, compute: Compute, material: ComputeMaterial): Promise<void> {
  const { plan } = material;
  const steps = plan.training.stepsPerRound;
  const news: ComputeNews[] = [];
  const hear = (one: ComputeNews): void => void news.push(one);
  const kinds = (): string[] => [...new Set(news.splice(0).map(({ kind }) => kind))];

  const trained = await compute.train(trainingOf(material), { hear, signal: never });
  t.match(trained, { cases: 5, backend: { name: "wasm" }, loss: { first: Number, last: Number } });
  t.ok(Math.max(...[...trained.delta.values()].map((values) => Math.max(...values.map(Math.abs)))) > 0);
  t.match(news.at(-1), { kind: "computed", durationMs: Number });
  t.match(news.at(-2), { kind: "step", step: steps, steps });
  t.strictSame(kinds(), ["cases", "backend", "step", "computed"]);

  const again = await compute.train(trainingOf(material), { hear, signal: never });
  t.strictSame(again.delta, trained.delta, "the same task gives the same numbers");
  t.strictSame(kinds(), ["step", "computed"], "with the cases and the backend that are there already");
  const other = await compute.train(trainingOf(material, 8), { hear, signal: never });
  t.notSame(other.delta, trained.delta, "another seed gives others");

  news.length = 0;
  const scored = await compute.score(taskOf(material), { hear, signal: never });
  t.equal(scored.length, 1, "the last fifth of the cases");
  t.match(scored[0]?.[0], { label: Number, dice: Number, isMissed: Boolean });
  t.strictSame(news[0], { kind: "step", step: 1, steps: 1, loss: null });
  t.match(news.slice(1), [{ kind: "computed", durationMs: Number }]);

  const aborted = AbortSignal.abort(new Error("given up before"));
  await t.rejects(compute.train(trainingOf(material), { hear, signal: aborted }), /given up before/);
  const stopping = new AbortController();
  const stopped = compute.train(trainingOf(material), {
    hear: ({ kind }) => kind === "step" && stopping.abort(new Error("given up between two steps")),
    signal: stopping.signal,
  });
  await t.rejects(stopped, /given up between two steps/);

  const nothing = trainingOf({ ...material, folder: material.empty });
  await t.rejects(compute.train(nothing, { hear, signal: never }), { code: /^folder\./ });
  const foreign = { ...trainingOf(material), weights: new Uint8Array(8) };
  await t.rejects(compute.train(foreign, { hear, signal: never }), { code: "weights.other" });
  const after = await compute.train(trainingOf(material), { hear, signal: never });
  t.strictSame(after.delta, trained.delta, "failures leave nothing behind");
}
