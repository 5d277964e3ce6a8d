import { Prng } from "@consilium/shared/base/prng.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import t from "tap";
import { diagonalAffine } from "../data/affine.ts";
import { makeGrid } from "../data/grid.ts";
import { NiftiError } from "../data/nifti-error.ts";
import { nifti1Header } from "../data/nifti-write.ts";
import { caseId, type StudySource } from "../data/study-source.ts";
import { makeLabelmap, makeVolume } from "../data/volume.ts";
import { prepareCohort } from "./prepare-cohort.ts";
import { trainingView } from "./training-view.ts";

const PLAN: PreprocessingPlan = {
  orientation: "RAS",
  sliceAxis: "S",
  inPlaneSpacingMm: null,
  throughPlaneSpacingMm: null,
  imageOrder: 1,
  patch: { height: 16, width: 16 },
  largerThanPatch: "window",
  padding: "minimum",
  contextSlices: 0,
  normalisation: { kind: "zscore" },
};
const STUDY = {
  labels: [
    { id: 1, name: "liver" },
    { id: 2, name: "spleen" },
    { id: 4, name: "aorta" },
  ],
  preprocessing: PLAN,
};

/** Cases in memory: the labels that occur in each, null for an image alone, "broken" for one that cannot be read. */
function memorySource(cases: readonly (readonly number[] | null | "broken")[]): StudySource {
  const grid = makeGrid([20, 18, 2], diagonalAffine([1, 1, 1]));
  const count = 20 * 18 * 2;
  return {
    cases: cases.map((labels, index) => ({ id: caseId(index + 1), hasLabels: labels !== null })),
    labelNames: new Map([
      [7, "Liver"],
      [8, "SPLEEN"],
      [9, "pancreas"],
    ]),
    modality: null,
    open: async (id) => {
      const labels = cases[Number(id.slice(5)) - 1];
      if (labels === "broken" || labels === undefined) throw new NiftiError("nifti.voxels.short");
      const voxels = new Uint8Array(count);
      for (const [index, label] of (labels ?? []).entries()) voxels[index] = label;
      const volume = makeVolume(
        grid,
        Float32Array.from({ length: count }, (_, index) => index % 7),
      );
      const labelmap = labels === null ? null : makeLabelmap(grid, voxels);
      return { id, volume, labelmap, header: nifti1Header(grid), orientation: "sform", replacedVoxels: 0 };
    },
  };
}

t.test("labels take the study's numbers, and what nobody drew is left out", async (t) => {
  const source = memorySource([[7], [7, 8, 9], null, [9], [7], "broken"]);
  const site = await prepareCohort(source, { ...STUDY, partialLabels: "per-site" });
  t.strictSame(
    site.cases.map(({ id }) => id),
    ["case-001", "case-002", "case-004", "case-005"],
  );
  t.match(site.refused, [{ number: 6, code: "nifti.voxels.short" }]);
  for (const { contoured } of site.cases)
    t.strictSame(contoured, [1, 2], "the aorta is not in this data set");
  const labels = new Set(
    site.cases.flatMap(({ prepared }) => prepared.slices.flatMap((slice) => [...slice.labels])),
  );
  t.strictSame([...labels].sort(), [0, 1, 2], "the pancreas is background");
  const perCase = await prepareCohort(source, { ...STUDY, partialLabels: "per-case" });
  t.strictSame(
    perCase.cases.map(({ contoured }) => contoured),
    [[1], [1, 2], [], [1]],
  );
  t.strictSame(perCase.cases[0]?.prepared.slices[0]?.contoured, [1]);
});

t.test("training always sees patches of the plan's size", async (t) => {
  const { cases } = await prepareCohort(memorySource([[7], [8]]), { ...STUDY, partialLabels: "per-site" });
  const slices = cases.flatMap(({ prepared }) => prepared.slices);
  t.match(slices[0], { height: 18, width: 20 });
  for (const augmentation of ["none", "nnunet"] as const) {
    const view = trainingView({ preprocessing: PLAN, augmentation, mirrorAxes: ["column"] });
    const draw = (seed: number): unknown => slices.map((slice) => view(slice, new Prng(seed)));
    t.match(
      draw(1),
      slices.map(() => ({ height: 16, width: 16, contoured: [1, 2] })),
    );
    t.strictSame(draw(1), draw(1));
  }
});
