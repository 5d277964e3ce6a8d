// Start versions of a recipe with parts: what each part is, where it comes from, and which claims are refused. Also the
// version of a round, and the rules of the log about both.

import { type ModelVersionId, type Sha256, studyId } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import {
  float32Tensor,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { type FederationState, initialFederationState } from "@consilium/shared/protocol/federation.ts";
import type { PartChoice, Provenance, VersionPart } from "@consilium/shared/protocol/version-parts.ts";
import t from "tap";
import { smallRfmedsam2 } from "../../test/support/small-rfmedsam2.ts";
import { smallConfig } from "../../test/support/small-study.ts";
import { checkPartBytes } from "../evidence/check-part-bytes.ts";
import { partFaults } from "../evidence/check-parts.ts";
import { partFacts } from "../evidence/describe-parts.ts";
import { aggregatedParts } from "./aggregated-parts.ts";
import type { StoredBlob } from "./artifact-store.ts";
import type { FindVersion } from "./compose-weights.ts";
import { versionId } from "./derive.ts";
import { MemoryArtifactStore } from "./memory-artifact-store.ts";
import { architectureOf, createStartVersion, type StartModel } from "./start-model.ts";

const origin = "consilium.log/test";
const recipe = { id: "rfmedsam2", version: 1, config: smallRfmedsam2({ trains: "adapters" }, 2) };
const whole = { id: "unet-prompter", version: 1, config: recipe.config.prompter };
const store = new MemoryArtifactStore();
const digest = (digit: string): Sha256 => digit.repeat(64) as Sha256; // 64 hexadecimal digits.

const known = new Map<ModelVersionId, ModelVersionManifest>();
const withdrawn = new Set<ModelVersionId>();
const findVersion: FindVersion = (version) => {
  const manifest = known.get(version);
  return manifest ? { manifest, isWithdrawn: withdrawn.has(version) } : null;
};

async function start(model: StartModel, study = "phase-1", of: typeof whole | typeof recipe = recipe) {
  const request = { origin, study: studyId(study), recipe: of, start: model, findVersion };
  const manifest = await createStartVersion(store, request);
  const version = versionId(manifest);
  known.set(version, manifest);
  return { manifest, version };
}

function bytesOf({ sha256, bytes }: StoredBlob): Uint8Array {
  const all = new Uint8Array(bytes);
  store.open(sha256).readInto(0, all);
  return all;
}

function put(bytes: Uint8Array): StoredBlob {
  const writer = store.create();
  writer.write(bytes);
  return writer.finish();
}

const first = await start({ kind: "seeded", seed: 1 });
const other = await start({ kind: "seeded", seed: 2 }, "other");
const prompter = await start({ kind: "seeded", seed: 7 }, "prompters", whole);
const digestOf = ({ parts = [] }: ModelVersionManifest, part: string): Sha256 | undefined =>
  parts.find((one) => one.part === part)?.sha256;

/** The first start model as somebody might import it. */
function provenance(
  changes: Partial<Record<string, Provenance["parts"][number]["origin"]>> = {},
): Provenance {
  const { weights, parts = [] } = first.manifest;
  return {
    type: "consilium-provenance/v1",
    claimedBy: "Dr. Example",
    weights,
    parts: parts.map(({ part, sha256 }) => ({
      ...{ part, sha256, origin: changes[part] ?? { kind: "seeded", seed: 1 } },
    })),
  };
}
const imported = (stated: Provenance): StartModel => ({
  ...{ kind: "imported", sha256: first.manifest.weights.sha256, provenance: stated },
});

t.test("a part's digest is that of the canonical file of its own tensors", async (t) => {
  const { tensors } = readTensorBundle(bytesOf(first.manifest.weights));
  t.strictSame(
    first.manifest.parts?.map(({ part }) => part),
    ["prompter", "sam2", "adapters"],
  );
  for (const { part, sha256, origin: from } of first.manifest.parts ?? []) {
    const own = [...tensors.values()]
      .filter(({ name }) => name.startsWith(`${part}.`))
      .map((tensor) => ({ ...tensor, name: tensor.name.slice(part.length + 1) }));
    t.equal(blobDigest(writeTensorBundle(own)), sha256, part);
    t.strictSame(from, { kind: "seeded", seed: 1 });
  }
  const alone = await start({ kind: "seeded", seed: 1 }, "alone", whole);
  t.equal(alone.manifest.weights.sha256, digestOf(first.manifest, "prompter"), "the same in every recipe");
  t.notOk("parts" in alone.manifest, "a recipe of one part names none");
});

t.test("a start model is composed of parts of versions and of seeds", async (t) => {
  const parts: PartChoice[] = [
    { part: "adapters", from: { kind: "seeded", seed: 5 } },
    { part: "prompter", from: { kind: "version", version: prompter.version } },
    { part: "sam2", from: { kind: "version", version: first.version } },
  ];
  const { manifest, version } = await start({ kind: "composed", parts }, "phase-2");
  t.match(manifest, { from: { kind: "composed" }, plan: null });
  t.equal(digestOf(manifest, "prompter"), prompter.manifest.weights.sha256);
  t.equal(digestOf(manifest, "sam2"), digestOf(first.manifest, "sam2"));
  t.match(manifest.parts, [
    { part: "prompter", origin: { kind: "version", study: "prompters", version: prompter.version } },
    { part: "sam2", origin: { kind: "version", study: "phase-1", version: first.version } },
    { part: "adapters", origin: { kind: "seeded", seed: 5 } },
  ]);
  t.match(
    partFacts((one) => known.get(one), version, initialFederationState),
    [
      new RegExp(`: drawn from seed 7; then taken from version ${prompter.version} of study prompters$`),
      new RegExp(`: drawn from seed 1; then taken from version ${first.version} of study phase-1$`),
      /: drawn from seed 5$/,
    ],
  );
  const again = await start({ kind: "composed", parts: parts.map((one) => one) }, "phase-2");
  t.equal(again.version, version, "the same parts are the same version");
});

t.test("a composition that cannot be is refused by code", async (t) => {
  const from = (version: ModelVersionId): PartChoice["from"] => ({ kind: "version", version });
  const with1 = (prompterFrom: PartChoice["from"], more: PartChoice[] = []): StartModel => ({
    kind: "composed",
    parts: [
      { part: "prompter", from: prompterFrom },
      { part: "sam2", from: from(first.version) },
      { part: "adapters", from: from(first.version) },
      ...more,
    ],
  });
  const unknown = digest("0") as string as ModelVersionId; // The digest of a manifest that there is not.
  await t.rejects(start(with1(from(unknown))), { code: "version.unknown" });
  const strange = await start({ kind: "seeded", seed: 1 }, "strange", { ...whole, config: smallConfig });
  await t.rejects(start(with1(from(strange.version))), { code: "plan.invalid", message: /other tensors/ });
  const twice: PartChoice[] = [{ part: "sam2", from: { kind: "seeded", seed: 1 } }];
  await t.rejects(start(with1(from(first.version), twice)), { code: "plan.invalid", message: /each of/ });
  await t.rejects(start({ kind: "composed", parts: [] }, "whole", whole), { code: "plan.invalid" });
  withdrawn.add(other.version);
  await t.rejects(start(with1(from(other.version))), { code: "version.wrong-state" });
  withdrawn.clear();
});

t.test("an imported start model keeps what is said of it, told from what was checked", async (t) => {
  const checkpoint = { kind: "checkpoint", sha256: digest("c"), name: null } as const;
  const { version } = first;
  const here = { kind: "version", log: origin, study: studyId("phase-1"), version } as const;
  const elsewhere = { ...here, log: "consilium.log/elsewhere" };
  const stated = provenance({ sam2: checkpoint, prompter: here, adapters: elsewhere });
  const { manifest } = await start(imported(stated), "imported");
  t.strictSame(
    manifest.parts?.map((one) => one.origin),
    [
      { kind: "version", study: "phase-1", version },
      { ...checkpoint, claimedBy: "Dr. Example" },
      { ...elsewhere, kind: "foreign", claimedBy: "Dr. Example" },
    ],
  );
  const { manifest: silent } = await start(
    { kind: "imported", sha256: first.manifest.weights.sha256 },
    "silent",
  );
  t.ok(silent.parts?.every((one) => one.origin.kind === "unstated"));
});

t.test("what is said of an imported start model is refused where it does not hold", async (t) => {
  const refused = async (stated: Provenance, message: RegExp): Promise<void> => {
    await t.rejects(start(imported(stated)), { code: "provenance.refused", message });
  };
  const { version } = first;
  const here = { kind: "version", log: origin, study: studyId("phase-1"), version } as const;
  await refused(provenance({ adapters: { kind: "seeded", seed: 2 } }), /adapters: seed 2 draws another/);
  await refused(provenance({ sam2: { ...here, version: other.version } }), /no version .* of study phase-1/);
  const foreign = { ...here, study: studyId("other"), version: other.version };
  await refused(provenance({ sam2: foreign }), /has another sam2/);
  withdrawn.add(first.version);
  await refused(provenance({ sam2: here }), /was withdrawn/);
  withdrawn.clear();
  const named = { kind: "checkpoint", sha256: digest("c"), name: "sam2.1_hiera_tiny" } as const;
  await refused(provenance({ sam2: named }), /no published checkpoint/);
  const stated = provenance();
  await refused({ ...stated, weights: { ...stated.weights, bytes: 1 } }, /of another file/);
  await refused({ ...stated, parts: stated.parts.slice(1) }, /not exactly prompter, sam2, adapters/);
  const altered = stated.parts.map((one) => ({ ...one, sha256: digest("1") }));
  await refused({ ...stated, parts: altered }, /prompter: the file's tensors have another digest/);
  await t.rejects(start({ ...imported(stated) }, "whole", whole), {
    code: "plan.invalid",
    message: /no parts/,
  });
});

/** The weights with one value of one tensor moved. */
function moved(weights: StoredBlob, name: string): StoredBlob {
  const tensors = [...readTensorBundle(bytesOf(weights)).tensors.values()].map((tensor) => {
    if (tensor.name !== name) return tensor;
    const values = new Float32Array(tensor.bytes.slice().buffer);
    values[0] = (values[0] ?? 0) + 1;
    return float32Tensor(name, tensor.shape, values);
  });
  return put(writeTensorBundle(tensors));
}
const nameIn = (part: string): string =>
  [...readTensorBundle(bytesOf(first.manifest.weights)).tensors.keys()].find((name) =>
    name.startsWith(`${part}.`),
  ) ?? "";

function roundVersion(weights: StoredBlob, parts: VersionPart[]): ModelVersionManifest {
  const from = { round: 1, rule: "fedavg", parent: first.version, contributions: [] } as const;
  const made = { ...first.manifest, weights, parts, plan: digest("a") };
  return { ...made, from: { kind: "aggregated", ...from, contributions: [] } };
}

t.test("a round's version has its parent's frozen parts, or is none", async (t) => {
  const { weights } = first.manifest;
  const trained = moved(weights, nameIn("adapters"));
  const parts =
    (await aggregatedParts(store, recipe, { parent: first.manifest, weights: trained.sha256 })) ?? [];
  t.strictSame(parts.slice(0, 2), first.manifest.parts?.slice(0, 2));
  t.strictSame(parts[2]?.origin, { kind: "trained", base: digestOf(first.manifest, "adapters") });
  t.not(parts[2]?.sha256, digestOf(first.manifest, "adapters"));
  for (const part of ["sam2", "prompter"]) {
    const altered = moved(trained, nameIn(part)).sha256;
    await t.rejects(aggregatedParts(store, recipe, { parent: first.manifest, weights: altered }), {
      code: "version.frozen-part-changed",
    });
  }
  t.equal(await aggregatedParts(store, whole, { parent: undefined, weights: trained.sha256 }), null);

  const plan = { recipe } as unknown as StudyPlan; // The rules look at its recipe alone.
  const faults = (manifest: ModelVersionManifest): string =>
    partFaults(manifest, { state: initialFederationState, manifests: known, plan }).join("; ");
  const made = roundVersion(trained, parts);
  t.equal(faults(made), "");
  const without = (index: number, change: Partial<VersionPart>): VersionPart[] =>
    parts.map((one, at) => (at === index ? { ...one, ...change } : one));
  t.match(faults({ ...made, parts: without(1, { sha256: digest("1") }) }), /sam2: frozen/);
  t.match(faults({ ...made, parts: without(1, { origin: { kind: "unstated" } }) }), /sam2: frozen/);
  const wrongBase = { kind: "trained", base: digest("1") } as const;
  t.match(faults({ ...made, parts: without(2, { origin: wrongBase }) }), /adapters: trained/);
  t.match(faults({ ...made, parts: parts.slice(1) }), /does not name exactly the parts/);
  t.match(faults({ ...prompter.manifest, parts }), /does not name exactly the parts/);
});

t.test("the verifier takes no manifest's word for the bytes of a part", async (t) => {
  const architecture = architectureOf(recipe);
  const check = (manifest: ModelVersionManifest): Promise<void> =>
    checkPartBytes(store, { architecture, config: recipe.config }, manifest);
  const { manifest } = first;
  await check(manifest);
  const weights = moved(manifest.weights, nameIn("sam2"));
  await t.rejects(check({ ...manifest, weights }), /sam2 of the start model is not the one/);
  const parts = manifest.parts ?? [];
  await t.rejects(check(roundVersion(weights, parts)), /sam2 of the version of round 1 is not the one/);
  const claimed = parts.map((one) => ({ ...one, origin: { kind: "seeded", seed: 2 } as const }));
  const from = { kind: "imported" } as const;
  await t.rejects(check({ ...manifest, from, parts: claimed }), /prompter .* not the one that seed 2 gives/);
  await t.rejects(check({ ...manifest, weights: prompter.manifest.weights }), /exactly the recipe's tensors/);
});

t.test(
  "the rules of the log refuse a start version whose parts are not what they are said to be",
  async (t) => {
    const faults = (
      manifest: ModelVersionManifest,
      state: FederationState = initialFederationState,
    ): string => partFaults(manifest, { state, manifests: known, plan: undefined }).join("; ");
    const { manifest } = first;
    t.equal(faults(manifest), "");
    const origins = (sam2: VersionPart["origin"]): VersionPart[] =>
      (manifest.parts ?? []).map((one) => (one.part === "sam2" ? { ...one, origin: sam2 } : one));
    const from = { kind: "imported" } as const;
    const version = { kind: "version", study: studyId("phase-1"), version: first.version } as const;
    t.equal(faults({ ...manifest, from, parts: origins(version) }), "");
    t.match(faults({ ...manifest, parts: origins({ kind: "seeded", seed: 2 }) }), /another seed/);
    t.match(faults({ ...manifest, parts: origins({ kind: "unstated" }) }), /no part of origin unstated/);
    const composed = { kind: "composed" } as const;
    t.match(
      faults({ ...manifest, from: composed, parts: origins({ kind: "unstated" }) }),
      /no part of origin/,
    );
    const wrong = { ...version, study: studyId("other"), version: other.version };
    t.match(faults({ ...manifest, from, parts: origins(wrong) }), /not the sam2 of the version/);
    const named = {
      kind: "checkpoint",
      sha256: digest("c"),
      name: "sam2.1_hiera_tiny",
      claimedBy: "",
    } as const;
    t.match(faults({ ...manifest, from, parts: origins(named) }), /no published checkpoint/);
    const study = { versions: new Map([[first.version, { withdrawn: true }]]) };
    const state = { ...initialFederationState, studies: new Map([["phase-1", study]]) };
    const later = state as unknown as FederationState; // The rules look at the version's standing alone.
    t.match(faults({ ...manifest, from, parts: origins(version) }, later), /withdrawn before/);
  },
);
