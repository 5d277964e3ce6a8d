// A pretraining as a state that goes from step to step: weights, optimiser, position. It knows no clock and no file; what
// it exports is enough to go on in another process with the same bytes.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import type { Weights } from "../models/parameters.ts";
import { Sam2 } from "../models/sam2/sam2.ts";
import {
  ADAMW_DEFAULTS,
  type AdamWRecord,
  type AdamWState,
  disposeAdamW,
  exportAdamW,
  importAdamW,
  initialAdamW,
} from "../training/adamw.ts";
import { drawClip, drawSlices } from "./drawn-examples.ts";
import { pretrainingStart } from "./initial-weights.ts";
import {
  type PretrainingPlan,
  type PretrainingStep,
  pretrainingStep,
  stepCountOf,
} from "./pretraining-plan.ts";
import { type ClipPromptKind, clipLoss, type StepLoss, slicesLoss } from "./pretraining-steps.ts";
import { sparseOptimiserStep } from "./sparse-optimiser-step.ts";

/** The state after `step` steps, as numbers. */
export type PretrainingRecord = {
  readonly step: number;
  /** In PyTorch's order. */
  readonly weights: Weights;
  readonly optimiser: AdamWRecord;
};

export type StepReport = {
  /** Steps that are done, this one included. */
  readonly step: number;
  readonly of: PretrainingStep["of"];
  readonly kind: ClipPromptKind;
  readonly loss: number;
  readonly meanIou: number;
  readonly gradientNormL2: number;
};

export class Pretraining {
  readonly plan: PretrainingPlan;
  readonly model: Sam2;
  #state: AdamWState;
  #step: number;

  /** @param start weights to begin with, where it is not from nothing */
  constructor(config: Sam2Config, plan: PretrainingPlan, record?: PretrainingRecord, start?: Weights) {
    const trainable = sam2Parameters(config).filter(({ name }) => name !== POINT_ENCODING_MATRIX);
    this.plan = plan;
    this.model = new Sam2(config, record?.weights ?? start ?? pretrainingStart(config, plan.seed), {
      trainable,
    });
    const values = this.model.parameters.trainable();
    this.#state = record ? importAdamW(record.optimiser, values) : initialAdamW(values);
    this.#step = record?.step ?? 0;
  }

  get isDone(): boolean {
    return this.#step >= stepCountOf(this.plan);
  }

  /** @throws TrainingError when training diverges */
  next(): StepReport {
    const step = pretrainingStep(this.plan, this.#step);
    if (step.startsPhase) this.#startPhase();
    const compute = lossOf(this.model, step);
    let meanIou = Number.NaN;
    const { state, loss, gradientNormL2 } = sparseOptimiserStep(
      this.model.parameters,
      () => {
        const computed = compute();
        meanIou = computed.meanIou;
        return computed.total;
      },
      this.#state,
      { ...ADAMW_DEFAULTS, ...this.plan, learningRate: step.learningRate },
    );
    this.#state = state;
    this.#step += 1;
    const { kind } = step.prompting;
    return { step: this.#step, of: step.of, kind, loss, meanIou, gradientNormL2 };
  }

  async export(): Promise<PretrainingRecord> {
    const names = sam2Parameters(this.model.config).map(({ name }) => name);
    const weights = await this.model.parameters.export(names);
    return { step: this.#step, weights, optimiser: await exportAdamW(this.#state) };
  }

  dispose(): void {
    disposeAdamW(this.#state);
    this.model.dispose();
  }

  /** Parts that trained in the phase before and parts that did not would else step by very different lengths. */
  #startPhase(): void {
    disposeAdamW(this.#state);
    this.#state = initialAdamW(this.model.parameters.trainable());
  }
}

/** Draws before the gradient is taken, computes within. */
function lossOf(model: Sam2, step: PretrainingStep): () => StepLoss {
  const { options } = step;
  const side = model.config.imageSize;
  if (step.of === "slices") {
    const slices = drawSlices(step.examples, side, options.prng);
    return () => slicesLoss(model, slices, { ...step.prompting, ...options });
  }
  const clip = drawClip(step.examples, side, options.prng);
  return () => clipLoss(model, clip, { ...step.prompting, ...options });
}
