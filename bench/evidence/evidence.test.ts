import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { smallRfmedsam2, smallRfmedsam2Weights } from "../../test/support/small-rfmedsam2.ts";
import type { EvidenceStudy } from "./study.ts";
import { type EvidenceResult, mergedResults } from "./summary.ts";
import { claimFolder } from "./training.ts";

t.test("a folder keeps the results of one plan and one start alone", async (t) => {
  const out = t.testdir({});
  const config = smallRfmedsam2();
  const plans = { prompter: { recipe: { config } }, adapters: { recipe: { config } } };
  const study = { plans, hospitals: [] } as unknown as EvidenceStudy; // All that is looked at.
  const start = smallRfmedsam2Weights(config);
  await claimFolder(out, study, start);
  await writeFile(join(out, "scores-pooled.json"), "[]");
  await t.resolves(claimFolder(out, study, start), "and is found again");
  const other = new Map(start);
  other.set(
    "sam2.no_mem_embed",
    Float32Array.from(start.get("sam2.no_mem_embed") ?? [], (value) => value + 1),
  );
  await t.rejects(claimFolder(out, study, other), /holds results of other/);
  const longer = { ...study, hospitals: [{ site: "hospital-a", training: ["case"], validation: [] }] };
  await t.rejects(claimFolder(out, longer, start), /holds results of other/);
  const unclaimed = join(out, "older");
  await mkdir(unclaimed);
  await writeFile(join(unclaimed, "scores-pooled.json"), "[]");
  await t.rejects(claimFolder(unclaimed, study, start), /holds results of other/);
});

t.test("results of earlier runs stay beside new ones under the same settings only", (t) => {
  const result = (set: string, seed: number, steps: number, mark = ""): EvidenceResult =>
    ({ set, seed, settings: { steps }, backend: mark }) as unknown as EvidenceResult; // All that is looked at.
  const earlier = [result("one", 1, 240), result("one", 2, 240), result("two", 1, 50)];
  const merged = (fresh: EvidenceResult[]) =>
    mergedResults(earlier, fresh).map(({ set, seed, backend }) => `${set} ${seed}${backend}`);
  t.strictSame(merged([result("one", 2, 240, " new"), result("one", 3, 240)]), [
    ...["one 1", "one 2 new", "one 3", "two 1"],
  ]);
  t.strictSame(merged([result("one", 3, 480)]), ["one 3", "two 1"]);
  t.end();
});
