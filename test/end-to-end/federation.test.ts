// The demo as a newcomer runs it, and what can be done with its results; then the same federation once more while
// processes die without warning: the rounds complete, nothing accepted is lost or counted twice, and the weights are
// those of the demo, in which nothing happened.

import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isSameGrid } from "@consilium/site-agent/data/grid.ts";
import { decodeNiftiLabels } from "@consilium/site-agent/data/nifti-file.ts";
import { encodeVolumeNifti } from "@consilium/site-agent/data/nifti-write.ts";
import t from "tap";
import { PHANTOM_CT_SITES, phantomCase } from "../fixtures/phantom/phantom-sites.ts";
import {
  type SmallFederation,
  smallFederation,
  until,
  verifyLog,
  weightsByRound,
} from "./small-federation.ts";

const hospitals = ["hospital-a", "hospital-b", "hospital-c"];

const words = ["--quick", "--steps", "4", "--backend", "wasm"];

type DemoReport = {
  readonly federation: {
    readonly version: string;
    readonly phases: readonly {
      readonly versions: { round: number; weights: string }[];
      readonly bytes: { readonly perUpdate: number; readonly weights: number };
    }[];
  };
  readonly comparison: readonly {
    readonly site: string;
    readonly federated: { mean: { dice: number } };
    readonly stages: Readonly<Record<"base" | "local" | "federated", Record<string, number>>>;
  }[];
  readonly evidence: { readonly verdict: string };
  readonly sent: readonly { readonly wireBytes: number }[];
  readonly cpuSeconds: number;
};

type Ended = { readonly code: number | null; readonly output: string };

/** A command of package.json, as somebody at a terminal gives it. */
function npmRun(script: string, ...rest: readonly string[]): Promise<Ended> {
  const child = spawn("npm", ["run", "--silent", script, "--", ...rest], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output })));
}

async function disturbed(federation: SmallFederation): Promise<string[]> {
  let coordinator = await federation.startCoordinator();
  await federation.openStudy();
  const trace = join(federation.options.out, "opened.txt");
  const tracer = new URL("../support/trace-opens.mjs", import.meta.url).href;
  let [a, b, c] = hospitals.map((name) =>
    federation.startAgent(
      name,
      name === "hospital-b" ? { NODE_OPTIONS: `--import=${tracer}`, CONSILIUM_TRACE: trace } : {},
    ),
  );
  if (!a || !b || !c) throw new Error("three agents were started");

  // A site in mid-training.
  await until(federation.status, ({ round }) => round === 1);
  await a.kill();
  a = federation.startAgent("hospital-a");
  // The coordinator once it has something to lose.
  await until(federation.status, ({ round, sites }) => round === 1 && sites.some(({ accepted }) => accepted));
  await coordinator.kill();
  coordinator = await federation.startCoordinator();
  // The coordinator and its database together, at whatever moment of the second round.
  await until(federation.status, ({ round }) => round === 2);
  await coordinator.kill();
  killDatabase(federation);
  await c.kill();
  coordinator = await federation.startCoordinator();
  c = federation.startAgent("hospital-c");
  await until(federation.status, ({ phase }) => phase === "finished");

  const weights = await weightsByRound(federation);
  t.match(await verifyLog(federation), { ok: true, faults: [] });
  const accepted = (await federation.records())
    .filter(({ kind }) => kind === "update.accepted")
    .map((record) => `${record["round"]} ${record["site"]}`);
  t.equal(new Set(accepted).size, accepted.length, "nothing is counted twice");
  await Promise.all([a.stop(), b.stop(), c.stop()]);
  await coordinator.stop();
  checkTrace(federation, trace);
  return weights;
}

/** The embedded server runs on when its coordinator is killed; here it goes too. */
function killDatabase({ options }: SmallFederation): void {
  const file = join(options.out, "coordinator/postgres/cluster/postmaster.pid");
  const pid = Number(readFileSync(file, "utf8").split("\n")[0]);
  process.kill(pid, "SIGKILL");
}

/** What the traced hospital opened: images of its own, and none of another's. */
function checkTrace({ options, federation }: SmallFederation, trace: string): void {
  const opened = readFileSync(trace, "utf8").split("\n");
  const images = opened.filter((path) => /\.nii(\.gz)?$/.test(path));
  const own = federation.hospitals.find(({ name }) => name === "hospital-b")?.data ?? "";
  t.ok(images.length > 5, "the tracer sees images being opened");
  t.strictSame(
    images.filter((path) => !path.startsWith(own)),
    [],
    "an agent opens its own volumes only",
  );
  const others = ["hospital-a", "hospital-c", "coordinator"].map((name) =>
    join(options.out, name === "coordinator" ? name : `hospitals/${name}`),
  );
  t.strictSame(
    opened.filter((path) => others.some((folder) => path.startsWith(folder))),
    [],
    "and nothing else of others",
  );
}

const folder = mkdtempSync(join(tmpdir(), "consilium-demo-"));
chmodSync(folder, 0o755); // So that the database can live in it, whoever runs it.
const out = join(folder, "demo");
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const readReport = (): DemoReport => JSON.parse(readFileSync(join(out, "report.json"), "utf8")) as DemoReport; // The demo's own.

t.test("the demo trains, compares, verifies and reports", async (t) => {
  const { code, output } = await npmRun("demo", ...words, "--out", out);
  t.equal(code, 0);
  for (const part of [
    /round 2\/2 {2}hospital-a {2}training/,
    /study demo-adapters opened for the adapters/,
    /hospital-b {2}stage 2( +0\.\d{4}){3}/,
    /hospital-c {2}aorta( +0\.\d{4}){4}/,
    /Offline verifier: VERIFIED/,
    /\d+ CPU seconds over all processes/,
  ])
    t.match(output, part);
  const report = readReport();
  t.equal(report.evidence.verdict, "verified");
  t.equal(report.comparison.length, 3);
  for (const { federated } of report.comparison)
    t.match(output, federated.mean.dice.toFixed(4), "the report has the numbers that were printed");
  for (const { federated, stages } of report.comparison) {
    t.equal(stages.federated["stage-2"], federated.mean.dice, "stage 2 is the answer");
    t.strictSame(Object.keys(stages.base).sort(), ["stage-0", "stage-1", "stage-2", "stage-2-largest-parts"]);
  }
  const [prompter, adapters] = report.federation.phases.map(({ bytes }) => bytes);
  t.ok(
    prompter && adapters && prompter.perUpdate + adapters.perUpdate < prompter.weights,
    "less than a model",
  );
  t.not(prompter?.perUpdate, adapters?.perUpdate, "each phase sends its own part");
  t.ok(report.sent.every(({ wireBytes }) => wireBytes > 0));
  t.ok(report.cpuSeconds < 600);
  const page = readFileSync(join(out, "report.html"), "utf8");
  t.equal(page.match(/data:image\/png;base64/g)?.length, 3, "a picture of each hospital");
  t.notMatch(page, /(src|href)="(?!data:)/, "nothing is loaded from elsewhere");
});

t.test("the demo's evidence is checked offline, and a byte that is changed is found", async (t) => {
  const evidence = join(out, "evidence");
  const trust = ["--keys", join(evidence, "trusted-keys.txt"), "--witness", join(evidence, "witness.txt")];
  const bundle = join(evidence, "bundle.cpio");
  const honest = await npmRun("verify", bundle, ...trust);
  t.match(honest, { code: 0, output: /verified/i });
  const bytes = readFileSync(bundle);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  writeFileSync(`${bundle}.changed`, bytes);
  t.match(await npmRun("verify", `${bundle}.changed`, ...trust), { code: 4 });
});

t.test("the released model labels a volume that no hospital had, on the volume's own grid", async (t) => {
  const [site] = PHANTOM_CT_SITES;
  if (!site) throw new Error("there are phantom sites");
  const { volume } = phantomCase(site, { seed: 77, number: 1 });
  const [image, predicted] = [join(folder, "unseen.nii.gz"), join(folder, "unseen.labels.nii.gz")];
  writeFileSync(image, await encodeVolumeNifti(volume, "int16"));
  const model = ["--model", join(out, "models/federated.safetensors")];
  const home = ["--home", join(folder, "nowhere")];
  const { code } = await npmRun("site", "predict", ...model, "--image", image, "--out", predicted, ...home);
  t.equal(code, 0);
  const { labelmap } = await decodeNiftiLabels(new Uint8Array(readFileSync(predicted)));
  t.ok(isSameGrid(labelmap.grid, volume.grid));
});

t.test("killed sites, a killed coordinator and a killed database change nothing of the result", async (t) => {
  const federation = await smallFederation(words);
  t.teardown(() => federation.close());
  const expected = (readReport().federation.phases[0]?.versions ?? []).map(
    ({ round, weights }) => `${round} ${weights}`,
  );
  t.equal(expected.length, 3, "a start version and two rounds");
  t.strictSame(await disturbed(federation), expected, "the weights of every round are the same bytes");
});
