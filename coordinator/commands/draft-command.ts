// `consilium study draft`: a plan to begin with, from what the hospitals' own `consilium-site check --json` tells of
// their images. It is written to a file for people to read and change; opening it is another command.

import { readFileSync, writeFileSync } from "node:fs";
import { siteId, studyId } from "@consilium/shared/base/brand.ts";
import { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { draftPlan, type NetworkSize, type PlanDraft } from "@consilium/shared/model/draft-plan.ts";
import {
  imageUnitOf,
  parseRfmedsam2Config,
  type Rfmedsam2Config,
  sam2Of,
} from "@consilium/shared/model/rfmedsam2.ts";
import type { HuWindow } from "@consilium/shared/model/rfmedsam2-draft.ts";
import type { Sam2VariantName } from "@consilium/shared/model/sam2-variants.ts";
import { Type } from "typebox";
import { Value } from "typebox/value";

/** The whole answer of `check --json`, or its fingerprint alone. */
const CheckAnswer = Type.Object({ data: Type.Object({ fingerprint: CohortFingerprint }) });

export type DraftCommandOptions = {
  /** `SITE=FILE`, one a site. */
  readonly fingerprint: readonly string[];
  /** `id:name`, separated by commas. */
  readonly labels: string;
  readonly title: string;
  readonly size: NetworkSize;
  readonly rounds: number;
  readonly steps: number;
  readonly batch: number;
  readonly partialLabels: "per-site" | "per-case";
  readonly variant?: Sam2VariantName;
  readonly imageSize?: number;
  /** `LOW:HIGH` */
  readonly windowHu?: string;
  readonly trains: Rfmedsam2Config["trains"];
  /** Above 0, at most 1. */
  readonly decoderRate?: string;
  readonly seed: number;
  readonly out: string;
};

export class DraftError extends Error {
  override name = "DraftError";
}

/** @returns what the operator should know before the plan is opened @throws DraftError, NameError */
export function draftStudy(study: string, options: DraftCommandOptions): string[] {
  const sites = options.fingerprint.map((entry) => {
    const [site = "", file = ""] = entry.split(/=(.*)/s);
    return { site: siteId(site), fingerprint: readFingerprint(file) };
  });
  if (sites.length < 2)
    throw new DraftError("a federation has at least two sites: give --fingerprint SITE=FILE for each");
  expectVariant(options);
  const windowHu = options.windowHu === undefined ? undefined : readWindow(options.windowHu);
  const decoderRateShare = options.decoderRate === undefined ? undefined : readShare(options.decoderRate);
  const { size, partialLabels, rounds, seed, title, variant, imageSize, trains } = options;
  const plan = draftPlan({
    study: studyId(study),
    title,
    labels: readLabels(options.labels),
    sites,
    size,
    partialLabels,
    rounds,
    stepsPerRound: options.steps,
    batchSize: options.batch,
    seed,
    ...(variant && {
      refinement: {
        ...{ variant, imageSize: imageSize ?? null, trains },
        ...(windowHu && { windowHu }),
        ...(decoderRateShare !== undefined && { decoderRateShare }),
      },
    }),
  });
  if (windowHu && plan.preprocessing.normalisation.kind !== "ct")
    throw new DraftError("--window-hu is for CT, and these are not images of CT alone");
  writeFileSync(options.out, `${JSON.stringify(plan, null, 2)}\n`);
  return remarksOn(plan);
}

/**
 * Masks of SAM 2 have a quarter of its image's size. Labels of head and neck that were drawn on a grid of 40 pixels across
 * patches of 64 kept .87 of the cord, of 56 pixels .99 (docs/results).
 */
function remarksOn({ recipe, preprocessing: { patch } }: PlanDraft): string[] {
  if (recipe.id !== "rfmedsam2") return [];
  const sam2 = sam2Of(parseRfmedsam2Config(recipe.config));
  const { imageSize } = sam2;
  const side = Math.max(patch.height, patch.width);
  if (imageSize >= 4 * side) return [];
  const unit = imageUnitOf(sam2);
  return [
    `SAM 2 draws masks of ${imageSize / 4} x ${imageSize / 4} pixels across slices of ${patch.height} x ${patch.width}: ` +
      `thin organs are lost. --image-size ${unit * Math.ceil((4 * side) / unit)} draws every pixel, and takes longer.`,
  ];
}

/** Else they would be forgotten in silence. */
function expectVariant({ variant, imageSize, windowHu, decoderRate }: DraftCommandOptions): void {
  if (variant) return;
  const asked = { "--image-size": imageSize, "--window-hu": windowHu, "--decoder-rate": decoderRate };
  const given = Object.entries(asked).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (given.length > 0) throw new DraftError(`only SAM 2 has ${given.join(" and ")}: give --variant too`);
}

function readShare(text: string): number {
  const share = /^[0-9]*\.?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (share > 0 && share <= 1) return share;
  throw new DraftError("--decoder-rate is a share of the learning rate, above 0 and at most 1, such as 0.05");
}

function readWindow(text: string): HuWindow {
  const [, low, high] = /^(-?[0-9]{1,5}):(-?[0-9]{1,5})$/.exec(text) ?? [];
  const window = { low: Number(low), high: Number(high) };
  if (window.low < window.high) return window;
  throw new DraftError("--window-hu has the form LOW:HIGH, such as -160:240");
}

function readFingerprint(file: string): CohortFingerprint {
  let answer: unknown;
  try {
    answer = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new DraftError(
      `${file} cannot be read as JSON: a hospital makes it with consilium-site check --data DIR --json`,
      { cause },
    );
  }
  if (Value.Check(CheckAnswer, answer)) return answer.data.fingerprint;
  if (Value.Check(CohortFingerprint, answer)) return answer;
  throw new DraftError(
    `${file} holds no fingerprint: a hospital makes it with consilium-site check --data DIR --json`,
  );
}

function readLabels(text: string): { id: number; name: string }[] {
  return text.split(",").map((entry) => {
    const match = /^\s*(\d{1,3})\s*:\s*(\S.*?)\s*$/.exec(entry);
    if (!match) throw new DraftError("--labels has the form 1:liver,2:spleen");
    return { id: Number(match[1]), name: match[2] ?? "" };
  });
}
