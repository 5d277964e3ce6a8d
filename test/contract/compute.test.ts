import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import t, { type Test } from "tap";
import { startChosenBackend } from "../../site-agent/commands/start-chosen-backend.ts";
import type { ComputeError } from "../../site-agent/compute/compute-error.ts";
import type { ComputeSettings } from "../../site-agent/compute/compute-messages.ts";
import { ComputeProcess, type ComputeProcessOptions } from "../../site-agent/compute/compute-process.ts";
import { LocalCompute } from "../../site-agent/compute/local-compute.ts";
import { PHANTOM_CT_SITES } from "../fixtures/phantom/phantom-sites.ts";
import { writePhantomDataset } from "../fixtures/phantom/write-phantom.ts";
import { tinyStudy } from "../support/tiny-study.ts";
import { type ComputeMaterial, computeContract, trainingOf } from "./compute.ts";

const { plan, weights } = tinyStudy({ key: generateSigningKey(), origin: "consilium.test/compute" });
const settings: ComputeSettings = {
  ...({ backend: "wasm", products: "float32", wasmThreads: 1 } as const),
  preparedBytesMax: 2 ** 30,
};
const program = fileURLToPath(new URL("../../site-agent/commands/compute-child.ts", import.meta.url));
const never = new AbortController().signal;
const hear = (): void => {};

async function material(t: Test): Promise<ComputeMaterial> {
  const folder = t.testdir({});
  const phantom = PHANTOM_CT_SITES[0];
  if (!phantom) throw new Error("there is a phantom site");
  await writePhantomDataset({ folder: join(folder, "data"), site: phantom, cases: 6, seed: 1 });
  mkdirSync(join(folder, "empty"));
  return { plan, weights, folder: join(folder, "data"), empty: join(folder, "empty") };
}

/** A program in the place of the one that computes: it does one thing with every message. */
function processOf(t: Test, act: string, options: Partial<ComputeProcessOptions> = {}): ComputeProcess {
  const stand = join(t.testdir({}), "stand-in.mjs");
  writeFileSync(
    stand,
    `process.on("disconnect", () => process.exit()); process.on("message", (said) => { ${act} });`,
  );
  const compute = new ComputeProcess({ program: stand, settings, ...options });
  t.teardown(() => compute.close());
  return compute;
}

const task = trainingOf({ plan, weights, folder: "/nowhere", empty: "/nowhere" });

t.test("computing in this process keeps the contract", async (t) => {
  const compute = new LocalCompute({
    ...settings,
    startBackend: () => startChosenBackend({ backend: "wasm", products: "float32", wasmThreads: 1 }),
    nowMs: () => performance.now(),
  });
  await computeContract(t, compute, await material(t));
});

t.test("computing in a process of its own keeps the contract, on one thread and on two", async (t) => {
  for (const wasmThreads of [1, 2]) {
    const compute = new ComputeProcess({ program, settings: { ...settings, wasmThreads } });
    t.teardown(() => compute.close());
    await computeContract(t, compute, await material(t));
  }
});

t.test("a process that ends fails its task, and the next task has another one", async (t) => {
  const compute = processOf(
    t,
    `if (said.task.seed === 1) process.kill(process.pid, "SIGKILL"); process.send({ kind: "failed", code: "case.broken" });`,
  );
  const seeded = (seed: number) => compute.train({ ...task, seed }, { hear, signal: never });
  await t.rejects(seeded(1), { code: "compute.ended" });
  await t.rejects(seeded(2), { code: "case.broken" }, "codes come through");
  await t.rejects(seeded(1), { code: "compute.ended" });
});

t.test(
  "a process in a long step is not waited for when its task is given up, and hears of nothing meanwhile",
  async (t) => {
    const step = `process.send({ kind: "news", news: { kind: "step", step: 1, steps: 2, loss: 1 } }, () => { for (;;); });`;
    const compute = processOf(t, step, { abortMsMax: 1 });
    const abort = new AbortController();
    let steps = 0;
    const training = compute.train(task, {
      signal: abort.signal,
      hear: () => {
        steps += 1;
        abort.abort(new Error("no longer wanted"));
      },
    });
    await t.rejects(training, /no longer wanted/);
    t.equal(steps, 1, "what it said before was heard, though it never came to rest");
  },
);

t.test("an answer that is not understood ends the process", async (t) => {
  const result = `{ loss: { first: 1, last: 1 }, cases: 1, backend: { name: "wasm", version: "1", devices: [], isGpu: false }, delta: new Map([["other", new Float32Array(1)]]) }`;
  const answers = [
    "null",
    `{ kind: "trained" }`,
    `{ kind: "scored", result: [] }`,
    `{ kind: "trained", result: ${result} }`,
    `{ kind: "news", news: { kind: "step", step: -1, steps: 2, loss: 1 } }`,
    `{ kind: "failed", code: "/home/somebody" }`,
  ];
  for (const answer of answers) {
    const compute = processOf(t, `process.send(${answer});`);
    await t.rejects(
      compute.train(task, { hear, signal: never }),
      { code: "compute.answer-malformed" },
      answer,
    );
  }
});

t.test("a process is kept for the next task, and ended when none comes", async (t) => {
  const count = `globalThis.tasks = (globalThis.tasks ?? 0) + 1; process.send({ kind: "failed", code: globalThis.tasks === 1 ? "task.first" : "task.later" });`;
  const code = (compute: ComputeProcess): Promise<string> =>
    compute.train(task, { hear, signal: never }).then(
      () => "none",
      (error: ComputeError) => error.code,
    );
  const kept = processOf(t, count);
  t.strictSame([await code(kept), await code(kept)], ["task.first", "task.later"]);
  await kept.close();
  await kept.close();
  t.equal(await code(kept), "task.first", "another one after it was closed");
  const restless = processOf(t, count, { idleMsMax: 1 });
  await code(restless);
  let found = "";
  for (let attempt = 0; attempt < 500 && found !== "task.first"; attempt += 1) {
    await setTimeout(20);
    found = await code(restless);
  }
  t.equal(found, "task.first", "another one after a rest");
});
