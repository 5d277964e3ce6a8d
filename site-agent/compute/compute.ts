// What of a job computes: reading and preparing images, training, scoring. A port, because an agent computes in another
// process: a step may take minutes, in which it would hear nothing, and a native library may end the process it runs in.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { BackendStatement } from "@consilium/shared/protocol/documents.ts";
import type { Static } from "typebox";
import type { CaseLabelScore } from "../evaluation/evaluate-case.ts";
import type { DataSelection } from "../work/approvals.ts";

export type StartedBackend = {
  /** What is recorded with every update. */
  readonly statement: Static<typeof BackendStatement>;
  /** Preferred backends that cannot be used here, and why. */
  readonly passedOver: readonly { readonly name: string; readonly reason: string }[];
};

/** An approved plan, the data that it was approved for, and a version's weights as a file's bytes. */
export type ComputeTask = {
  readonly plan: StudyPlan;
  readonly digest: Sha256;
  readonly data: DataSelection;
  readonly weights: Uint8Array;
};

export type TrainingTask = ComputeTask & {
  readonly seed: number;
  /** Where the round lies in the learning-rate schedule. */
  readonly schedule: { readonly stepsBefore: number; readonly stepsInAll: number };
};

export type Trained = {
  /** Trained minus base, in manifest order; nothing has been done to it yet. */
  readonly delta: ReadonlyMap<string, Float32Array>;
  readonly loss: { readonly first: number; readonly last: number };
  /** Training cases that could be read. */
  readonly cases: number;
  readonly backend: StartedBackend["statement"];
};

/** One list for each validation case. They stay at the site. */
export type Scored = readonly (readonly CaseLabelScore[])[];

export type ComputeNews =
  /** Said again when another backend had to be started. */
  | { readonly kind: "backend"; readonly started: StartedBackend }
  | {
      readonly kind: "cases";
      readonly cases: number;
      readonly refused: number;
      readonly slices: number;
    }
  /** After every training step, or every scored case, counted from 1. */
  | {
      readonly kind: "step";
      readonly step: number;
      readonly steps: number;
      readonly loss: number | null;
    }
  | { readonly kind: "graph-refused"; readonly code: string }
  /** Of a task that is done: how long training steps, or predictions, took; not reading, preparing or comparing. */
  | { readonly kind: "computed"; readonly durationMs: number };

export type ComputeControl = {
  readonly hear: (news: ComputeNews) => void;
  readonly signal: AbortSignal;
};

/** One task at a time. Errors have codes; after an abort, the signal's reason. */
export type Compute = {
  train(task: TrainingTask, control: ComputeControl): Promise<Trained>;
  score(task: ComputeTask, control: ComputeControl): Promise<Scored>;
};
