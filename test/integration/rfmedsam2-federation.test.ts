// One federated round of RFMedSAM 2: a plan drafted from what two hospitals tell of their images, their agents as real
// processes, a real coordinator between them.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { siteId, studyId } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import {
  float32Tensor,
  float32Values,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { draftPlan, type PlanDraft } from "@consilium/shared/model/draft-plan.ts";
import { sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { rfmedsam2Trainable } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { initialSam2Weights } from "@consilium/shared/model/sam2-weights.ts";
import { Provenance, provenanceFile } from "@consilium/shared/protocol/version-parts.ts";
import t, { type Test } from "tap";
import { Value } from "typebox/value";
import { exitCodes } from "../../site-agent/exit-codes.ts";
import { homeAt } from "../../site-agent/identity/home.ts";
import { PHANTOM_CT_SITES } from "../fixtures/phantom/phantom-sites.ts";
import { writePhantomDataset } from "../fixtures/phantom/write-phantom.ts";
import { startFederation, type TestFederation } from "../support/federation.ts";
import { tensorShapes } from "../support/plain-site.ts";
import { SiteCommand, siteCommand } from "../support/site-command.ts";
import { smallRfmedsam2 } from "../support/small-rfmedsam2.ts";

const STUDY = "phantom-rfmedsam2";
const labels = [
  { id: 1, name: "liver" },
  { id: 2, name: "spleen" },
];

type Hospital = { readonly name: string; readonly home: string; readonly data: string };

async function ran(args: readonly string[]): Promise<string> {
  const { code, result, output } = await siteCommand([...args]);
  if (code !== 0) throw new Error(`${args[0]}: ${output}`);
  return result;
}

async function hospital(name: string, folder: string, federation: TestFederation): Promise<Hospital> {
  const [home, data] = [join(folder, name, "home"), join(folder, name, "data")];
  const site = PHANTOM_CT_SITES.find((phantom) => phantom.name === name);
  if (!site) throw new Error("there is no such phantom site");
  await writePhantomDataset({ folder: data, site, cases: 5, seed: 1 });
  const { body } = await federation.operator("POST", "/v1/invitations", { site: name });
  await ran(["enrol", String(body["invitation"]), "--home", home]);
  return { name, home, data };
}

/** Small enough for a test: few thick slices, one round of two steps. */
async function draft(hospitals: readonly Hospital[], trains: "adapters" | "joint"): Promise<PlanDraft> {
  const sites = [];
  for (const { name, data } of hospitals) {
    const { result } = await siteCommand(["check", "--data", data, "--json", "--backend", "cpu"]);
    const { data: found } = JSON.parse(result) as { data: { fingerprint: CohortFingerprint } }; // Of our own command.
    sites.push({ site: siteId(name), fingerprint: found.fingerprint });
  }
  const drafted = draftPlan({
    ...{ study: studyId(STUDY), title: "Phantoms", labels, sites, size: "small", partialLabels: "per-site" },
    ...{ rounds: 1, stepsPerRound: 2, batchSize: 1, seed: 1 },
    refinement: { variant: "micro", imageSize: 32, trains },
  });
  return {
    ...drafted,
    recipe: { ...drafted.recipe, config: smallRfmedsam2({ trains }, labels.length + 1) },
    preprocessing: {
      ...drafted.preprocessing,
      ...{ inPlaneSpacingMm: 12, throughPlaneSpacingMm: 30, imageOrder: 1, patch: { height: 32, width: 32 } },
    },
    evaluation: { slicesPerCase: 2 },
  };
}

async function finished(federation: TestFederation): Promise<Record<string, unknown>> {
  for (;;) {
    const { body } = await federation.operator("GET", `/v1/studies/${STUDY}`);
    if (body["phase"] === "finished") return body;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Names and shapes of every update in the blobs of a site. */
async function updatesOf({ home }: Hospital): Promise<Record<string, unknown>[]> {
  const { blobs } = homeAt(home);
  const files = (await readdir(blobs, { recursive: true, withFileTypes: true })).filter((one) =>
    one.isFile(),
  );
  const read = await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name))));
  return read.map((bytes) => tensorShapes(bytes)).filter((shapes) => !("sam2.no_mem_embed" in shapes));
}

/** Start weights with a checkpoint's SAM 2, which here is a drawn one. */
async function startModel(folder: string, plan: string, t: Test): Promise<string> {
  const sam2 = sam2Of(smallRfmedsam2());
  const drawn = initialSam2Weights(sam2, 5);
  const tensors = sam2Parameters(sam2).map(({ name, shape }) =>
    float32Tensor(name, shape, drawn.get(name) ?? new Float32Array(0)),
  );
  const [checkpoint, out] = [join(folder, "sam2.safetensors"), join(folder, "start.safetensors")];
  await writeFile(checkpoint, writeTensorBundle(tensors));
  const words = ["start-model", "--plan", plan, "--checkpoint", checkpoint, "--out", out, "--json"];
  const { sources } = JSON.parse(await ran([...words, "--by", "Dr. Example"]));
  t.match(sources, { prompter: "seed", sam2: /^unknown: SAM 2.1/, adapters: "seed" });
  const { tensors: written } = readTensorBundle(await readFile(out));
  const name = "image_encoder.trunk.patch_embed.proj.weight";
  const taken = written.get(`sam2.${name}`);
  const expected = drawn.get(name) ?? new Float32Array(0);
  t.ok(taken && float32Values(taken).every((value, index) => value === expected[index]), "as it was");
  const sha256 = blobDigest(await readFile(checkpoint));
  const stated: unknown = JSON.parse(await readFile(provenanceFile(out), "utf8"));
  t.ok(Value.Check(Provenance, stated));
  t.match(stated, {
    claimedBy: "Dr. Example",
    weights: { sha256: blobDigest(await readFile(out)) },
    parts: [
      { part: "prompter", origin: { kind: "seeded", seed: 1 } },
      { part: "sam2", sha256, origin: { kind: "checkpoint", sha256, name: null } },
      { part: "adapters", origin: { kind: "seeded", seed: 1 } },
    ],
  });
  await writeFile(checkpoint, writeTensorBundle(tensors.slice(1)));
  const refused = await siteCommand(words);
  t.match(refused.output, /1 missing: maskmem_tpos_enc/);
  t.equal(refused.code, exitCodes.damaged.code);
  return out;
}

t.test("two hospitals federate the adapters, and an update holds exactly the trained tensors", async (t) => {
  const folder = t.testdir({});
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const hospitals = [
    await hospital("hospital-a", folder, federation),
    await hospital("hospital-b", folder, federation),
  ];
  const plan = await draft(hospitals, "adapters");
  await writeFile(join(folder, "plan.json"), JSON.stringify(plan));
  const opened = await federation.operator("POST", "/v1/studies", {
    plan,
    start: { kind: "seeded", seed: 1 },
  });
  t.equal(opened.status, 201, JSON.stringify(opened.body).slice(0, 300));
  for (const { home, data } of hospitals)
    await ran(["approve", STUDY, "--home", home, "--data", data, "--approver", "test", "--yes"]);
  const agents = hospitals.map(({ home }) => new SiteCommand(["run", "--home", home, "--backend", "wasm"]));
  t.teardown(() => {
    for (const agent of agents) agent.kill("SIGKILL");
  });
  const study = await finished(federation);
  t.match(study, { completedRounds: 1 });
  t.type(study["bestMeanDice"], "number");
  const names = rfmedsam2Trainable(smallRfmedsam2({ trains: "adapters" }, 3)).map(({ name }) => name);
  for (const one of hospitals) {
    const updates = await updatesOf(one);
    t.ok(updates.length > 0, one.name);
    for (const shapes of updates) t.strictSame(Object.keys(shapes).sort(), [...names].sort());
  }
  const verification = await federation.operator("POST", "/v1/audit/verification", {});
  t.match(verification.body, { ok: true, faults: [] });
});

t.test("a site alone trains, scores every stage and predicts with the same recipe", async (t) => {
  const folder = t.testdir({});
  const site = PHANTOM_CT_SITES[0];
  if (!site) throw new Error("there is a phantom site");
  const data = join(folder, "data");
  await writePhantomDataset({ folder: data, site, cases: 5, seed: 1 });
  const plan = await draft(
    [
      { name: "hospital-a", home: folder, data },
      { name: "hospital-b", home: folder, data },
    ],
    "joint",
  );
  const [file, model] = [join(folder, "plan.json"), join(folder, "model.safetensors")];
  await writeFile(file, JSON.stringify(plan));
  const start = await startModel(folder, file, t);
  const training = ["--plan", file, "--start", start, "--steps", "2", "--data", data, "--out", model];
  await ran(["train", ...training, "--backend", "wasm"]);
  const scoring = ["--model", model, "--data", data, "--split", "last-fifth", "--json"];
  const scores = JSON.parse(await ran(["evaluate", ...scoring, "--backend", "wasm"]));
  const kinds = new Map<string, string>(
    scores.stages.map(({ stage, kind }: { stage: string; kind: string }) => [stage, kind]),
  );
  t.match(kinds.get("stage-2-largest-parts"), "automatic");
  t.match(kinds.get("truth-boxes-stage-2"), /upper limit/);
  t.match(kinds.get("filled-truth-boxes"), /baseline/);
  const byStage = (name: string) => scores.stages.find(({ stage }: { stage: string }) => stage === name);
  t.equal(byStage("stage-2").mean.dice, scores.mean.dice, "the model's score is its second stage's");
  t.type(byStage("stage-2").objects.shareReplaced, "number");
  t.ok(
    byStage("filled-truth-boxes").mean.dice > 0.4,
    `filled boxes: ${byStage("filled-truth-boxes").mean.dice}`,
  );
  const image = join(data, "imagesTr", "phantom_001_0000.nii.gz");
  const out = join(folder, "out.nii.gz");
  await ran(["predict", "--model", model, "--image", image, "--out", out, "--backend", "wasm"]);
});
