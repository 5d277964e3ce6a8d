import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import t, { type Test } from "tap";
import { tinyStudy } from "../../test/support/tiny-study.ts";
import { readConfig } from "../config.ts";
import { estimateInChild } from "../estimate/estimate-in-child.ts";
import type { StepEstimate } from "../estimate/step-estimate.ts";
import { homeAt } from "../identity/home.ts";
import type { BackendStarter } from "./backend-choice.ts";
import { checkSite } from "./check.ts";
import type { CommandContext } from "./command-context.ts";
import { stepLines, stepReport } from "./step-report.ts";

const { plan } = tinyStudy({ key: generateSigningKey(), origin: "step.test" });
const MiB = 2 ** 20;
const some = { calls: 100, flops: 5e8, bytes: 1e9 };
const estimate: StepEstimate = {
  ...{ backend: "wasm", seconds: 1.25, hostSeconds: 0.25, timedShare: 1 },
  ...{ memoryBytes: 700 * MiB, tensorBytes: 500 * MiB, hostBytes: 200 * MiB },
  work: { products: some, convolutions: some, depthwise: some, elementwise: some },
};
const startBackend: BackendStarter = async () => ({
  statement: { name: "wasm", version: "test", devices: [], isGpu: false },
  passedOver: [],
});

/** What `check` prints for a plan file on a machine with so much memory, and how it ends. */
async function checked(t: Test, availableBytes: number, json: boolean, content: unknown = plan) {
  const folder = await mkdtemp(join(tmpdir(), "step-report-"));
  const file = join(folder, "plan.json");
  await writeFile(file, JSON.stringify(content));
  const printed: string[] = [];
  const context: CommandContext = {
    ...{ home: homeAt(join(folder, "not-enrolled")), config: readConfig({}), json },
    print: (line) => void printed.push(line),
    remark: () => t.fail("check has no remarks"),
  };
  const report = async () => stepReport(estimate, availableBytes);
  const reason = await checkSite({ split: "last-fifth", plan: file }, startBackend, context, report);
  return { reason, text: printed.join("\n") };
}

t.test("check says what a step of a plan from a file takes, without a coordinator", async (t) => {
  const { reason, text } = await checked(t, 2048 * MiB, false);
  t.equal(reason, "done");
  t.match(text, /Step {6}about 1\.3 s of processor time and 700 MiB of memory on wasm/);
  t.match(text, /tensors 500 MiB of 3072 MiB, the rest of the process 200 MiB; available here 2048 MiB/);
  t.match(text, /2 GFLOP in 400 calls of kernels; 0\.25 s outside of them/);
  t.notMatch(text, /Identity|DOES NOT FIT|inferred/);
});

t.test("check gives the same as JSON", async (t) => {
  const { reason, text } = await checked(t, 2048 * MiB, true);
  t.equal(reason, "done");
  const { plan: summary, backend, step, ...others } = JSON.parse(text);
  t.match(summary, { study: "phantom-ct" });
  t.match(backend, { name: "wasm" });
  t.strictSame(step, { ...estimate, availableBytes: 2048 * MiB, exceeded: [] });
  t.strictSame(others, {}, "nothing was asked of a coordinator");
});

t.test("check refuses a plan that cannot fit, with the numbers", async (t) => {
  const lines = await checked(t, 512 * MiB, false);
  t.equal(lines.reason, "tooLarge");
  t.match(lines.text, "DOES NOT FIT: memory of the process: 700 MiB needed, 512 MiB available");
  t.match(lines.text, /smaller batch, patch or image size or for recomputation/);
  const json = await checked(t, 512 * MiB, true);
  t.equal(json.reason, "tooLarge");
  t.match(JSON.parse(json.text).step.exceeded, [{ neededBytes: 700 * MiB, availableBytes: 512 * MiB }]);
});

t.test("what was not timed is said to be inferred", async (t) => {
  const lines = stepLines(stepReport({ ...estimate, timedShare: 0.5 }, 4000 * MiB), plan);
  t.match(lines.join("\n"), /only 50 % of the kernels' time was timed here; the rest is inferred/);
});

t.test("a plan file and a study are not asked about together, and no plan is no estimate", async (t) => {
  const context = {
    home: homeAt("nowhere"),
    config: readConfig({}),
    json: true,
    print: () => {},
    remark: () => {},
  };
  const both = { split: "last-fifth", plan: "plan.json", study: "organs" };
  const report = async () => stepReport(estimate, 0);
  await t.rejects(checkSite(both, startBackend, context, report), { code: "usage.plan-and-study" });
  const { reason, text } = await checked(t, 512 * MiB, true, { no: "plan" });
  t.equal(reason, "refused");
  t.match(JSON.parse(text), { plan: { fault: "plan.no-file" } });
  t.notMatch(text, /"step"/);
});

t.test("a process that cannot estimate says why", async (t) => {
  const unknown = { ...plan, recipe: { ...plan.recipe, version: 99 } };
  await t.rejects(estimateInChild({ backend: "wasm" }, unknown), {
    code: "estimate.unavailable",
    message: /RecipeError/,
  });
});
