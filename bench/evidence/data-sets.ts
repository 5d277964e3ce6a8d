// The real data sets on which the recipe is tried, and the hospitals that they are dealt to. The data lies outside the
// repository; where it is absent, nothing runs and it is said by name.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import type { HuWindow } from "@consilium/shared/model/rfmedsam2-draft.ts";
import { namedShares, type SiteShare } from "../../test/demo/site-shares.ts";

export type EvidenceSet = {
  readonly name: string;
  /** Below the folder of data. */
  readonly folder: string;
  readonly federation: string;
  readonly labels: readonly string[];
  readonly partialLabels: "per-site" | "per-case";
  /** What the drafted plan is told better, as an operator would. */
  readonly preprocessing?: Partial<PreprocessingPlan>;
  /** CT numbers that become black and white in SAM 2's image; else all that occur within organs. */
  readonly windowHu?: HuWindow;
  /** Side of SAM 2's image. */
  readonly imageSize: number;
  /** At which share of the adapters' learning rate SAM 2's mask decoder is trained with them. */
  readonly decoderRateShare: number;
  /** Slices that are refined together: as many as the longest volume has, so that none is refined twice. */
  readonly clipSlices: number;
  /** What stage 2 has as its mask prompt. */
  readonly secondMask: "answer" | "prompt";
  /** Rounds and steps of a round: of the prompter, then of the adapters. */
  readonly prompter: { readonly rounds: number; readonly steps: number; readonly slices: number };
  readonly adapters: { readonly rounds: number; readonly steps: number };
  /** Means over all validation cases, after fine-tuning, that stage 2 must reach without the prompter's word. */
  readonly diceMin: Readonly<Record<string, number>>;
};

export const EVIDENCE_SETS: readonly EvidenceSet[] = [
  {
    name: "hippocampus",
    folder: "msd-hippocampus-mr",
    federation: "hippocampus-mr-3-hospitals",
    labels: ["anterior", "posterior"],
    partialLabels: "per-site",
    // SAM 2's masks have a quarter of its image's size: at its own 128 pixels, copying the prompter's masks through that grid
    // alone costs .008 Dice, at 192 pixels .001.
    imageSize: 192,
    // At a fifth, the adapters leave most to the decoder: without them a box would lose .026 Dice, at a tenth .044.
    decoderRateShare: 0.05,
    clipSlices: 48,
    secondMask: "prompt",
    prompter: { rounds: 8, steps: 150, slices: 4 },
    adapters: { rounds: 6, steps: 30 },
    diceMin: { anterior: 0.85, posterior: 0.83 },
  },
  {
    name: "headneck",
    folder: "openkbp-headneck-ct",
    federation: "headneck-ct-4-hospitals",
    labels: ["brainstem", "spinal cord", "right parotid", "left parotid", "esophagus", "larynx", "mandible"],
    partialLabels: "per-case",
    // Cut across the body: left and right look alike in the sagittal planes that the coarser pixels would suggest. All
    // contours of the training cases lie within 34 pixels of the middle, and cords are three pixels wide: the middle
    // alone is looked at, at a larger size than other images.
    preprocessing: {
      ...{ sliceAxis: "S", inPlaneSpacingMm: 3.9 },
      ...{ patch: { height: 64, width: 56 }, largerThanPatch: "crop" },
    },
    // Of soft tissue: all that occurs, from air to teeth, would leave a thirtieth of the grey values to parotid beside muscle.
    windowHu: { low: -160, high: 240 },
    // Masks have a quarter of this: a cord that is copied through the grid of 160 pixels loses .13 Dice, of 224 pixels .01.
    imageSize: 224,
    decoderRateShare: 0.2,
    clipSlices: 128,
    secondMask: "prompt",
    prompter: { rounds: 6, steps: 150, slices: 4 },
    adapters: { rounds: 6, steps: 30 },
    diceMin: {},
  },
];

/** What results depend on beside the seed. */
export function settingsOf(set: EvidenceSet) {
  const { prompter, adapters, imageSize, decoderRateShare, clipSlices, secondMask } = set;
  const { preprocessing = null, windowHu = null } = set;
  return { prompter, adapters, preprocessing, windowHu, imageSize, decoderRateShare, clipSlices, secondMask };
}

export type HospitalCases = SiteShare & { readonly site: string };

/** The last fifth of each hospital's list validates. @throws where the data is absent, or names no such federation */
export async function hospitalsOf(set: EvidenceSet, data: string): Promise<HospitalCases[]> {
  const [folder, file] = [join(data, set.folder), join(data, "splits.json")];
  for (const path of [folder, file]) {
    if (!existsSync(path)) throw new Error(`skipped: ${set.name} needs ${path}, which is not there`);
  }
  const shares = await namedShares(`${file}#${set.federation}`);
  return shares.map(([site, share]) => ({ site, ...share }));
}
