// Computing in this process. Prepared cases are kept from one task to the next.

import { expectRecipe } from "../work/checked-documents.ts";
import { scoreCases } from "../work/score-version.ts";
import { type Segmenter, segmenterOf } from "../work/segmenter.ts";
import { CohortMemory, type SiteCohort } from "../work/site-cohort.ts";
import { StudyError } from "../work/study-error.ts";
import { runTraining } from "../work/training-run.ts";
import { readWeights, type WeightValues } from "../work/weights-file.ts";
import type {
  Compute,
  ComputeControl,
  ComputeTask,
  Scored,
  StartedBackend,
  Trained,
  TrainingTask,
} from "./compute.ts";

export type LocalComputeOptions = {
  /** Starts the backend in this process. */
  readonly startBackend: () => Promise<StartedBackend>;
  /** Memory that prepared slices may take. */
  readonly preparedBytesMax: number;
  /** Of a clock that never goes back. */
  readonly nowMs: () => number;
};

export class LocalCompute implements Compute {
  readonly #startBackend: LocalComputeOptions["startBackend"];
  readonly #cohorts: CohortMemory;
  readonly #nowMs: () => number;
  #started: Promise<StartedBackend> | null = null;

  constructor({ startBackend, preparedBytesMax, nowMs }: LocalComputeOptions) {
    this.#startBackend = startBackend;
    this.#nowMs = nowMs;
    this.#cohorts = new CohortMemory(preparedBytesMax);
  }

  /** @throws StudyError, BackendError, TrainingError and those of reading images */
  async train(task: TrainingTask, control: ComputeControl): Promise<Trained> {
    const { plan, seed, schedule } = task;
    const { hear, signal } = control;
    const cohort = await this.#cohort(task, control);
    if (cohort.training.length === 0) throw new StudyError("cohort.empty");
    const { statement } = await this.#backend(control);
    signal.throwIfAborted();
    const steps = plan.training.stepsPerRound;
    const watch = new Stopwatch(this.#nowMs);
    watch.go();
    const { delta, loss } = await runTraining({
      ...{ plan, seed, steps, schedule, signal },
      base: weightsOf(task),
      cases: cohort.training,
      onStep: (step, value) => hear({ kind: "step", step, steps, loss: value }),
      onWarning: ({ code }) => hear({ kind: "graph-refused", code }),
    });
    watch.halt();
    hear({ kind: "computed", durationMs: watch.totalMs });
    return { delta, loss, cases: cohort.training.length, backend: statement };
  }

  /** @throws as `train` */
  async score(task: ComputeTask, control: ComputeControl): Promise<Scored> {
    const { plan } = task;
    const { hear, signal } = control;
    const cohort = await this.#cohort(task, control);
    await this.#backend(control);
    signal.throwIfAborted();
    const segmenter = segmenterOf(plan, weightsOf(task));
    const watch = new Stopwatch(this.#nowMs);
    try {
      const onCase = (step: number, steps: number): void => hear({ kind: "step", step, steps, loss: null });
      const timed = { ...segmenter, predict: watched(segmenter.predict, watch) };
      const scored = await scoreCases({ plan, cohort, segmenter: timed, signal, onCase });
      hear({ kind: "computed", durationMs: watch.totalMs });
      return scored.map(({ scores }) => scores);
    } finally {
      segmenter.dispose();
    }
  }

  #cohort(task: ComputeTask, { hear }: ComputeControl): Promise<SiteCohort> {
    return this.#cohorts.cohort(task, ({ training, validation, refused }) => {
      const cases = [...training, ...validation];
      const slices = cases.reduce((sum, { prepared }) => sum + prepared.slices.length, 0);
      hear({ kind: "cases", cases: cases.length, refused: refused.length, slices });
    });
  }

  async #backend({ hear }: ComputeControl): Promise<StartedBackend> {
    if (this.#started) return this.#started;
    this.#started = this.#startBackend();
    try {
      const started = await this.#started;
      hear({ kind: "backend", started });
      return started;
    } catch (error) {
      this.#started = null; // A driver may come up later.
      throw error;
    }
  }
}

/** Adds up the times between going and halting. */
class Stopwatch {
  readonly #nowMs: () => number;
  #startedAtMs = 0;
  #totalMs = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  go(): void {
    this.#startedAtMs = this.#nowMs();
  }

  halt(): void {
    this.#totalMs += this.#nowMs() - this.#startedAtMs;
  }

  get totalMs(): number {
    return Math.round(this.#totalMs);
  }
}

/** The watch goes while an answer is computed, and halts while its caller has it. */
function watched(predict: Segmenter["predict"], watch: Stopwatch): Segmenter["predict"] {
  return async function* timed(slices, wanted) {
    watch.go();
    for await (const answer of predict(slices, wanted)) {
      watch.halt();
      yield answer;
      watch.go();
    }
    watch.halt();
  };
}

function weightsOf({ plan, weights }: ComputeTask): WeightValues {
  return readWeights(weights, expectRecipe(plan).parameters(plan.recipe.config));
}
