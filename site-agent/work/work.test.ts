import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Sha256, siteId, studyId } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import { planDigest, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ApprovalDocument } from "@consilium/shared/protocol/documents.ts";
import { initialSiteState, type SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { VersionPart } from "@consilium/shared/protocol/version-parts.ts";
import t, { type Test } from "tap";
import { PHANTOM_CT_SITES } from "../../test/fixtures/phantom/phantom-sites.ts";
import { writePhantomDataset } from "../../test/fixtures/phantom/write-phantom.ts";
import { tinyStudy, tinyVersion } from "../../test/support/tiny-study.ts";
import { dataSelection } from "../commands/data-selection.ts";
import { readPlanFile } from "../commands/plan-file.ts";
import { summarise, summaryLines } from "../commands/plan-summary.ts";
import { startFacts, startLines } from "../commands/start-summary.ts";
import { type Home, homeAt } from "../identity/home.ts";
import type { SiteIdentity } from "../transport/session.ts";
import { ApprovalWatch } from "./approval-watch.ts";
import { listApprovals, readApproval, writeApproval } from "./approvals.ts";
import { openStartVersion } from "./checked-documents.ts";
import { ProgressPace } from "./progress-pace.ts";
import { CohortMemory, selectCases } from "./site-cohort.ts";

const key = generateSigningKey();
const identity: SiteIdentity = { site: siteId("hospital-a"), origin: "consilium.test/work", key };
const study = tinyStudy({ key, origin: identity.origin });
const { plan } = study;
const data = { folder: "/nowhere", cases: null, validation: null };

async function approve(
  home: Home,
  change: Partial<{ site: string; signer: typeof key; study: string }> = {},
): Promise<void> {
  const statement = {
    origin: identity.origin,
    site: siteId(change.site ?? identity.site),
    study: studyId(change.study ?? plan.study),
    plan: planDigest(plan),
    examples: 4,
    approver: "test",
    approvedAtMs: 1,
  };
  const envelope = seal(ApprovalDocument, statement, change.signer ?? key);
  await writeApproval(home, plan.study, { envelope, data });
}

t.test("an approval is this site's own, signed and unchanged, or it is refused", async (t) => {
  const home = homeAt(t.testdir({}));
  await t.rejects(readApproval(home, plan.study, identity), { code: "approval.missing" });
  t.strictSame(await listApprovals(home, identity), { approvals: [], damaged: 0 });
  await approve(home);
  t.match(await readApproval(home, plan.study, identity), { data, statement: { examples: 4 } });
  const damages = [
    () => approve(home, { site: "hospital-b" }),
    () => approve(home, { signer: generateSigningKey() }),
    () => approve(home, { study: "another" }),
    () => writeFile(join(home.approvals, `${plan.study}.json`), "{"),
    () => writeFile(join(home.approvals, `${plan.study}.json`), "{}"),
  ];
  for (const damage of damages) {
    await damage();
    await t.rejects(readApproval(home, plan.study, identity), { code: "approval.damaged" });
    t.match(await listApprovals(home, identity), { approvals: [], damaged: 1 });
  }
});

t.test("an approval written while the agent runs is handed over once", async (t) => {
  const home = homeAt(t.testdir({}));
  const events: SiteEvent[] = [];
  const told: string[] = [];
  let state = initialSiteState;
  const agent = {
    get state() {
      return state;
    },
    post: async (event: SiteEvent) => {
      events.push(event);
      if (event.kind !== "approval") return;
      const { study, plan, examples, envelope } = event;
      state = { ...state, approvals: new Map([[study, { plan, examples, envelope }]]) };
    },
  };
  const watch = new ApprovalWatch({ home, identity, agent, tell: ({ kind }) => void told.push(kind) });
  await watch.look();
  t.equal(events.length, 0);
  await approve(home);
  await watch.look();
  await watch.look();
  t.match(events, [{ kind: "approval", study: plan.study, plan: planDigest(plan), examples: 4 }]);
  await writeFile(join(home.approvals, "broken.json"), "{");
  await watch.look();
  await watch.look();
  t.strictSame(told, ["approval.refused"], "said once");
});

async function phantomFolder(t: Test): Promise<string> {
  const folder = join(t.testdir({}), "data");
  const phantom = PHANTOM_CT_SITES[0];
  if (!phantom) throw new Error("there is a phantom site");
  await writePhantomDataset({ folder, site: phantom, cases: 6, seed: 1 });
  return folder;
}

t.test("cases are chosen and split by list, and an unknown name is refused", async (t) => {
  const folder = await phantomFolder(t);
  const split = join(folder, "..", "split.json");
  const chosen = async (file: unknown): Promise<number[]> => {
    await writeFile(split, JSON.stringify(file));
    const { training, validation } = await selectCases(await dataSelection(folder, split));
    return [training.length, validation.length];
  };
  const all = await selectCases(await dataSelection(folder, "last-fifth"));
  t.strictSame([all.training.length, all.validation.length], [5, 1]);
  const names = [1, 2, 3, 4, 5].map((number) => `phantom_00${number}`);
  t.strictSame(await chosen({ cases: names }), [4, 1]);
  t.strictSame(await chosen({ training: names.slice(0, 2), validation: names.slice(2) }), [2, 3]);
  await t.rejects(chosen({ cases: ["phantom_099"] }), { code: "folder.case.unknown" });
  for (const bad of [{}, { cases: [] }, { training: names }, { cases: names, validation: names }, names]) {
    await t.rejects(chosen(bad), { code: "cohort.split-malformed" });
  }
  await t.rejects(dataSelection(folder, join(folder, "none")), { code: "cohort.split-malformed" });
});

t.test("prepared cases are kept between rounds, for one study, within a bound", async (t) => {
  const folder = await phantomFolder(t);
  const digest = planDigest(plan);
  const wanted = { plan, digest, data: { folder, cases: null, validation: null } };
  const memory = new CohortMemory(2 ** 30);
  let loads = 0;
  const onLoaded = (): void => {
    loads += 1;
  };
  const first = await memory.cohort(wanted, onLoaded);
  t.equal(await memory.cohort(wanted, onLoaded), first);
  t.equal(loads, 1);
  t.match(first, { training: { length: 5 }, validation: { length: 1 }, refused: [] });
  await memory.cohort({ ...wanted, digest: "0".repeat(64) as Sha256 }, onLoaded); // A digest by its form.
  await memory.cohort(wanted, onLoaded);
  t.equal(loads, 3, "another plan takes the place");
  await t.rejects(new CohortMemory(100_000).cohort(wanted, onLoaded), { code: "cohort.too-large" });
});

t.test("a plan is read signed, bare or as a draft, and nothing else", async (t) => {
  const folder = t.testdir({});
  const path = join(folder, "plan.json");
  const read = async (value: unknown): Promise<unknown> => {
    await writeFile(path, JSON.stringify(value));
    return readPlanFile(path);
  };
  const { parameterManifest: _, startVersion: __, ...draft } = plan;
  const envelope = seal(StudyPlanDocument, plan, key);
  t.strictSame(await read(plan), plan);
  t.strictSame(await read(envelope), plan);
  t.strictSame(await read({ envelope }), plan);
  t.match(await read(draft), { parameterManifest: plan.parameterManifest, study: plan.study });
  const bad = [null, {}, [], { ...plan, extra: 1 }, { ...envelope, payload: "e30=" }];
  for (const value of bad) await t.rejects(read(value), { code: "plan.no-file" });
  const unknown = { ...draft, recipe: { ...draft.recipe, id: "sam-9" } };
  await t.rejects(read(unknown), { code: "plan.unsuitable" });
  await t.rejects(readPlanFile(join(folder, "none.json")), { code: "plan.no-file" });
});

t.test(
  "what a plan asks is said in full: what leaves the house, in which form, and what never does",
  async (t) => {
    const text = summaryLines(summarise(plan)).join("\n");
    const parameters = summarise(plan).updateParameters;
    for (const part of [
      /L2 norm is clipped to\s+0.05/,
      /is not differential privacy/,
      /What never leaves: images/,
    ]) {
      t.match(text, part);
    }
    t.match(text, `${parameters} numbers (${parameters * 4} bytes)`);
    t.throws(() => summarise({ ...plan, parameterManifest: planDigest(plan) }), { code: "plan.unsuitable" });
  },
);

t.test("progress is told at the first and the last step, and now and then between", async (t) => {
  const clock = new ManualClock(0);
  const pace = new ProgressPace(clock);
  const due: number[] = [];
  for (let step = 1; step <= 100; step += 1) {
    if (pace.isDue(step, 100)) due.push(step);
    clock.advance(40);
  }
  t.strictSame(due, [1, 26, 51, 76, 100]);
});

t.test("what a study starts from is said of each part, as far as it is signed", async (t) => {
  const expected = { key: key.publicKey, origin: identity.origin, plan };
  const manifest = openStartVersion(study.versionEnvelope, expected);
  t.strictSame(startLines(startFacts(manifest)), [
    "Starts from:",
    `  - model ${manifest.weights.sha256}: drawn from seed 1`,
  ]);
  const { sha256 } = manifest.weights;
  const version = plan.startVersion;
  const parts: VersionPart[] = [
    { part: "prompter", sha256, origin: { kind: "version", study: plan.study, version } },
    { part: "sam2", sha256, origin: { kind: "checkpoint", sha256, name: null, claimedBy: "Dr. Example" } },
    { part: "adapters", sha256, origin: { kind: "unstated" } },
  ];
  t.match(startLines({ ...manifest, parts }), [
    "Starts from:",
    `prompter ${sha256}: taken from version ${version} of study ${plan.study}`,
    `an unpublished checkpoint with SHA-256 ${sha256}, as Dr. Example claims`,
    /origin not stated/,
  ]);
  const other = tinyVersion(study, key, 2).versionEnvelope;
  t.throws(() => openStartVersion(other, expected), { code: "version.other" });
  const elsewhere = { ...expected, origin: "consilium.test/other" };
  t.throws(() => openStartVersion(study.versionEnvelope, elsewhere), { code: "version.other" });
  const stranger = { ...expected, key: generateSigningKey().publicKey };
  t.throws(() => openStartVersion(study.versionEnvelope, stranger), { code: "version.not-signed" });
});
