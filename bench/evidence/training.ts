// The models that are compared: one trained by federated averaging, one by each hospital alone, one on the cases of all
// hospitals together. Each makes equally many steps one after another. Every result is a file that is not made again:
// a run that was ended goes on where it was.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { aggregate } from "@consilium/coordinator/aggregation/fedavg.ts";
import { simdKernel } from "@consilium/coordinator/aggregation/vector-kernel.ts";
import { FileArtifactStore, type StoredBlob } from "@consilium/coordinator/versions/artifact-store.ts";
import { type BundledTensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { rfmedsam2Trainable } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { CohortCase } from "../../site-agent/preprocessing/prepare-cohort.ts";
import { protect } from "../../site-agent/privacy/protect.ts";
import { replaceFile } from "../../site-agent/store/durable-file.ts";
import { roundSeed } from "../../site-agent/work/round-seed.ts";
import { loadCohort } from "../../site-agent/work/site-cohort.ts";
import { runTraining } from "../../site-agent/work/training-run.ts";
import {
  canonicalDigest,
  readWeights,
  type WeightValues,
  weightTensors,
} from "../../site-agent/work/weights-file.ts";
import { configOf, type EvidenceStudy, PHASES, type Phase, parametersOf } from "./study.ts";

const COHORT_BYTES_MAX = 4 * 2 ** 30;

export type Workplace = {
  readonly study: EvidenceStudy;
  /** Where results are kept. */
  readonly out: string;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
};

export type TrainingCases = readonly { readonly site: string; readonly cases: readonly CohortCase[] }[];

export async function trainingCases({ hospitals, folder, plans }: EvidenceStudy): Promise<TrainingCases> {
  const all = [];
  for (const { site, training } of hospitals) {
    const data = { folder, cases: [...training], validation: [] };
    const { training: cases } = await loadCohort(data, plans.prompter, { bytesMax: COHORT_BYTES_MAX });
    all.push({ site, cases });
  }
  return all;
}

/** The prompter, then the adapters on it, each by federated averaging. */
export async function trainFederated(
  start: WeightValues,
  cases: TrainingCases,
  place: Workplace,
): Promise<WeightValues> {
  let weights = start;
  for (const phase of PHASES) weights = await federate(phase, weights, cases, place);
  return weights;
}

/** The same on some cases by themselves, in equally many steps. */
export async function trainAlone(
  start: WeightValues,
  own: { readonly name: string; readonly cases: readonly CohortCase[] },
  place: Workplace,
): Promise<WeightValues> {
  let weights = start;
  for (const phase of PHASES) weights = await alone(phase, weights, own, place);
  return weights;
}

async function federate(
  phase: Phase,
  start: WeightValues,
  cases: TrainingCases,
  place: Workplace,
): Promise<WeightValues> {
  const plan = place.study.plans[phase];
  const manifest = rfmedsam2Trainable(configOf(plan));
  const store = new FileArtifactStore(join(place.out, "store"));
  let weights = start;
  for (let round = 1; round <= plan.rounds.count; round += 1) {
    const base = weights;
    weights = await made(`${phase}-federated-round-${round}`, plan, place, async () => {
      const deltas = [];
      for (const { site, cases: own } of cases) {
        const steps = plan.training.stepsPerRound;
        const { delta, loss } = await runTraining({
          ...{ plan, base, cases: own, steps, signal: place.signal },
          seed: roundSeed(plan.training.seed, site, round),
          schedule: { stepsBefore: (round - 1) * steps, stepsInAll: plan.rounds.count * steps },
          onStep: () => {},
        });
        const { values } = protect(delta, manifest, plan.protection);
        deltas.push({ delta: stored(store, weightTensors(values, manifest)).sha256, weight: own.length });
        place.say(
          `${phase}, round ${round}, ${site}: loss ${loss.first.toFixed(3)} to ${loss.last.toFixed(3)}`,
        );
      }
      const from = stored(store, weightTensors(base, parametersOf(plan))).sha256;
      const mean = await aggregate({ store, base: from, manifest, deltas, kernel: simdKernel() });
      return readWeights(wholeFile(store, mean), parametersOf(plan));
    });
  }
  return weights;
}

async function alone(
  phase: Phase,
  start: WeightValues,
  { name, cases }: { readonly name: string; readonly cases: readonly CohortCase[] },
  place: Workplace,
): Promise<WeightValues> {
  const plan = place.study.plans[phase];
  return made(`${phase}-${name}`, plan, place, async () => {
    const steps = plan.rounds.count * plan.training.stepsPerRound;
    const { weights, loss } = await runTraining({
      ...{ plan, base: start, cases, steps, signal: place.signal },
      seed: roundSeed(plan.training.seed, name, 1),
      schedule: { stepsBefore: 0, stepsInAll: steps },
      onStep: () => {},
    });
    place.say(`${phase}, ${name} alone: loss ${loss.first.toFixed(3)} to ${loss.last.toFixed(3)}`);
    return weights;
  });
}

/**
 * Results are kept only beside others of the same plans, hospitals and start weights: mixed ones would be compared as one.
 * @throws where the folder holds results of others
 */
export async function claimFolder(out: string, study: EvidenceStudy, start: WeightValues): Promise<void> {
  const { plans, hospitals } = study;
  const { sha256 } = canonicalDigest(weightTensors(start, parametersOf(plans.adapters)));
  const made = `${JSON.stringify({ start: sha256, plans, hospitals }, undefined, 1)}\n`;
  const file = join(out, "made-from.json");
  const found = await readFile(file, "utf8").catch(() => null);
  if (found === made) return;
  if (found !== null || (await readdir(out)).length > 0)
    throw new Error(`${out} holds results of other plans, hospitals or start weights: choose another --out`);
  await replaceFile(file, Buffer.from(made));
}

async function made(
  name: string,
  plan: StudyPlan,
  { out }: Workplace,
  make: () => Promise<WeightValues>,
): Promise<WeightValues> {
  const file = join(out, `${name}.safetensors`);
  const specs = parametersOf(plan);
  if (existsSync(file)) return readWeights(await readFile(file), specs);
  const weights = await make();
  await replaceFile(file, writeTensorBundle(weightTensors(weights, specs)));
  return weights;
}

function stored(store: FileArtifactStore, tensors: readonly BundledTensor[]): StoredBlob {
  const writer = store.create();
  writer.write(writeTensorBundle(tensors));
  return writer.finish();
}

function wholeFile(store: FileArtifactStore, { sha256, bytes }: StoredBlob): Uint8Array {
  const reader = store.open(sha256);
  try {
    const content = new Uint8Array(bytes);
    reader.readInto(0, content);
    return content;
  } finally {
    reader.close();
  }
}
