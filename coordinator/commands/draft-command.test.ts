import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import t, { type Test } from "tap";
import { type DraftCommandOptions, draftStudy } from "./draft-command.ts";

const fingerprint = {
  cases: 12,
  modality: "CT",
  spacingMmMedian: [1, 1, 3],
  shapeMedian: [128, 128, 90],
  extentMmMedian: [128, 128, 270],
  extentMmPercentile99: [140, 140, 300],
  foreground: { mean: 100, std: 200, percentile00_5: -900, percentile99_5: 1500 },
  labels: [{ label: 1, cases: 12 }],
};

type Options = Partial<DraftCommandOptions>;

function draft(t: Test, options: Options = {}, modality = "CT"): StudyPlan {
  return draftFrom(t, { variant: "pretrained-micro", ...options }, modality);
}

function draftFrom(
  t: Test,
  options: Options,
  modality = "CT",
  hear: (remarks: string[]) => void = () => {},
): StudyPlan {
  const folder = t.testdir({});
  const [file, out] = [join(folder, "check.json"), join(folder, "plan.json")];
  writeFileSync(file, JSON.stringify({ data: { fingerprint: { ...fingerprint, modality } } }));
  const remarks = draftStudy("organs", {
    ...{ fingerprint: [`hospital-a=${file}`, `hospital-b=${file}`], labels: "1:liver,2:spleen", title: "" },
    ...{ size: "small", rounds: 3, steps: 10, batch: 2, partialLabels: "per-site", trains: "joint" },
    ...{ seed: 1, out },
    ...options,
  });
  hear(remarks);
  return JSON.parse(readFileSync(out, "utf8")) as StudyPlan; // Just written.
}

t.test("a plan is drafted from what the hospitals tell", (t) => {
  const plan = draft(t);
  t.match(plan, { study: "organs", sites: ["hospital-a", "hospital-b"], labels: [{ id: 1 }, { id: 2 }] });
  t.match(plan.recipe, { id: "rfmedsam2", config: { window: { low: -5, high: 7 } } });
  t.throws(() => draft(t, { labels: "liver" }), /label/);
  t.throws(() => draft(t, { fingerprint: ["hospital-a=none.json"] }), /none.json cannot be read/);
  t.throws(() => draft(t, { fingerprint: [] }), /at least two sites/);
  t.end();
});

t.test("an image whose masks are coarser than the slices is remarked on, with one that is not", (t) => {
  const remarks: string[][] = [];
  const heard = (options: Options): StudyPlan => draftFrom(t, options, "CT", (said) => remarks.push(said));
  const { patch } = heard({ variant: "pretrained-micro", imageSize: 128 }).preprocessing;
  t.strictSame(patch, { height: 96, width: 96 });
  t.match(remarks, [[/masks of 32 x 32 pixels across slices of 96 x 96.* --image-size 384 /]]);
  heard({ variant: "pretrained-micro", imageSize: 384 });
  heard({});
  t.strictSame(
    remarks.slice(1),
    [[], []],
    "nothing of masks that are fine enough, and of plans without SAM 2",
  );
  t.end();
});

t.test("SAM 2's mask decoder is trained where it is asked for, and else stays frozen", (t) => {
  t.match(draft(t, { decoderRate: "0.2" }).recipe.config, { maskDecoder: { learningRateShare: 0.2 } });
  t.notHas(draft(t).recipe.config, { maskDecoder: {} });
  for (const decoderRate of ["", "0", "1.5", "-0.2", "a fifth", "1e-1"])
    t.throws(() => draft(t, { decoderRate }), /share of the learning rate/, decoderRate);
  t.end();
});

t.test("what is said of SAM 2 needs a plan with SAM 2", (t) => {
  const without = (options: Options) => () => draftFrom(t, options);
  t.throws(
    without({ decoderRate: "0.2", imageSize: 128 }),
    /--image-size and --decoder-rate: give --variant/,
  );
  t.throws(without({ windowHu: "-160:240" }), /--window-hu: give --variant/);
  t.match(without({})().recipe, { id: "unet-prompter" });
  t.end();
});

t.test("SAM 2 sees CT through the window that is asked for, in the plan's own numbers", (t) => {
  const { recipe } = draft(t, { windowHu: "-160:240" });
  t.match(recipe.config, { window: { low: -1.3, high: 0.7 } });
  for (const windowHu of ["", "240", "240:-160", "0:0", "a:b", "-160:240:1"])
    t.throws(() => draft(t, { windowHu }), /LOW:HIGH/, windowHu);
  t.throws(() => draft(t, { windowHu: "-160:240" }, "MR"), /is for CT/);
  t.end();
});
