import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { missingGolden } from "../golden/golden.ts";
import { hashValues } from "../golden/hash-values.ts";
import { readOfficialLoss } from "./sam2-loss-notes.ts";
import { readTrackGroup } from "./sam2-track-case.ts";
import { storedForm } from "./stored-form.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const GOLDENS = fileURLToPath(new URL("../../../shared/goldens/", import.meta.url));

function parity(...parameters: string[]): { readonly status: number | null; readonly text: string } {
  const run = spawnSync(process.execPath, ["--import", "tsx", "test/parity/main.ts", ...parameters], {
    cwd: ROOT,
    encoding: "utf8",
  });
  return { status: run.status, text: run.stdout + run.stderr };
}

t.test("a tensor is reduced to the form in which a case stores it", async (t) => {
  const values = Float32Array.from({ length: 32 }, (_, index) => (index % 2 === 0 ? index : -index));
  const found = { shape: [1, 2, 4, 4], values };
  const reduced = (name: string) => {
    const { base, reduce } = storedForm(name);
    t.equal(base, "encoder/x", name);
    return Array.from(reduce(found));
  };
  t.strictSame(reduced("encoder/x"), Array.from(values));
  t.strictSame(reduced("encoder/x@s2"), [0, 2, 8, 10, 16, 18, 24, 26]);
  t.strictSame(reduced("chmean/encoder/x"), [-0.5, -0.5]);
  t.strictSame(reduced("chabsmean/encoder/x"), [7.5, 23.5]);
  t.strictSame(reduced("encoder/head/x"), Array.from(values));
  const [sum = 0, norm = 0, product = 0] = reduced("encoder/stat/x");
  const probe = hashValues("probe:x", 32);
  t.equal(sum, -16);
  t.equal(norm, Math.sqrt(values.reduce((total, value) => total + value * value, 0)));
  t.equal(
    product,
    values.reduce((total, value, index) => total + value * (probe[index] ?? 0), 0),
  );
});

t.test("settings that stand in a note are read, and others refused by name", async (t) => {
  const folder = (note: string) =>
    ({ notes: { "train/official": note } }) as unknown as Parameters<typeof readOfficialLoss>[0]; // Only notes are read.
  const start = "training.loss_fns.MultiStepMultiMasksAndIous, weights 5/2/1/0.5";
  const settings = readOfficialLoss(
    folder(
      `${start}, pred_obj_scores, focal_gamma_obj_score 2, focal_alpha_obj_score 0.25, one step, multimask output`,
    ),
  );
  t.match(settings, {
    weights: { mask: 5, dice: 2, iou: 1, object: 0.5 },
    objectGamma: 2,
    objectAlpha: 0.25,
  });
  t.match(settings, { superviseAllIous: false, absoluteIouError: false, scoreObjects: true });
  t.throws(
    () => readOfficialLoss(folder(`${start}, boundary_weight 3, one step, multimask output`)),
    /boundary_weight/,
  );
  t.throws(() => readOfficialLoss(folder(start)), /one step, multimask output/);
});

t.test("a tracking group is its sentence, after the group that it names", async (t) => {
  const notes = {
    "track/point": "frame 0 has the click of prompt/points3 (three points); track_step on every frame",
    "track/gone": "as track/point with head.bias = -30 (object never present)",
    "track/odd": "as track/point, upside down",
  };
  const group = readTrackGroup("gone", notes);
  t.strictSame(group.prompt, { kind: "points", input: "points3" });
  t.strictSame([...group.changed], [["head.bias", -30]]);
  t.throws(() => readTrackGroup("odd", notes), /upsidedown/);
  t.throws(() => readTrackGroup("silent", notes), /no note/);
});

t.test(
  "the command says what failed, and why it ends as it does",
  { skip: missingGolden("unet2d-micro-a") },
  async (t) => {
    const usage = parity();
    t.equal(usage.status, 2);
    t.match(usage.text, /usage: .*--backend/);
    const copy = t.testdir();
    cpSync(join(GOLDENS, "unet2d-micro-a"), copy, { recursive: true });
    const good = parity(copy, "--json");
    t.equal(good.status, 0);
    t.match(JSON.parse(good.text), {
      exitCode: 0,
      cases: [{ comparedCount: 84, toleranceCount: 84, firstFailure: null }],
    });
    const file = join(copy, "tolerances.json");
    const tolerances = JSON.parse(readFileSync(file, "utf8")) as object; // A record of names.
    const strict = { ...tolerances, "encoder/stage2": { tol: 1e-12 }, "encoder/stage9": { tol: 1 } };
    writeFileSync(file, JSON.stringify(strict));
    const bad = parity(copy);
    t.equal(bad.status, 1);
    t.match(bad.text, /first stage that fails: encoder/);
    t.match(bad.text, /encoder\/stage2: [\d.]+ of the tolerance/);
    t.match(bad.text, /not understood: 1\n {2}encoder\/stage9/);
  },
);
