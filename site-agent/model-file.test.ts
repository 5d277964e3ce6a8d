import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { siteId } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import {
  float32Values,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import { planDigest, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument } from "@consilium/shared/protocol/documents.ts";
import fc from "fast-check";
import t from "tap";
import { tinyConfig, tinyStudy, tinyVersion } from "../test/support/tiny-study.ts";
import { openModelFile, readModelFile, readTrustedKeys, writeModelFile } from "./model-file.ts";
import { openPlan, openVersion } from "./work/checked-documents.ts";
import { canonicalDigest } from "./work/weights-file.ts";

const key = generateSigningKey();
const origin = "consilium.test/models";
const study = tinyStudy({ key, origin });
const made = tinyVersion(study, key, 2);
const tensors = [...readTensorBundle(made.weights).tensors.values()];
const documents = { version: made.versionEnvelope, plan: study.planEnvelope };
const file = writeModelFile(tensors, documents);

t.test("a model file holds a version, its plan and its weights, and says who signed", async (t) => {
  const model = readModelFile(file, null);
  t.equal(model.version, made.start.version);
  t.equal(model.signer, key.publicKey);
  t.strictSame(model.plan, study.plan);
  t.strictSame(
    [...model.weights.values()].map((values) => [...values]),
    tensors.map((tensor) => [...float32Values(tensor)]),
  );
  t.ok(readModelFile(file, [generateSigningKey().publicKey, key.publicKey]));
  const ofStart = [...readTensorBundle(study.weights).tensors.values()];
  const start = writeModelFile(ofStart, { version: study.versionEnvelope, plan: study.planEnvelope });
  t.equal(readModelFile(start, null).manifest.plan, null, "the start version, which is older than its plan");
  t.strictSame(canonicalDigest(tensors), { sha256: blobDigest(made.weights), bytes: made.weights.length });
});

t.test("a file whose parts do not belong together is refused", async (t) => {
  const refuses = (bytes: Uint8Array, code: string, what: string): void => {
    t.throws(() => readModelFile(bytes, null), { code }, what);
  };
  refuses(made.weights, "model.malformed", "weights without documents");
  refuses(new Uint8Array(10), "model.malformed", "no bundle");
  const other = generateSigningKey();
  refuses(
    writeModelFile(tensors, { ...documents, plan: seal(StudyPlanDocument, study.plan, other) }),
    "model.not-signed",
    "two signers",
  );
  const forged = {
    ...made.versionEnvelope,
    payload: seal(ModelVersionDocument, study.manifest, key).payload,
  };
  refuses(writeModelFile(tensors, { ...documents, version: forged }), "model.not-signed", "another payload");
  refuses(
    writeModelFile(tensors, { ...documents, version: study.versionEnvelope }),
    "model.altered",
    "another version's weights",
  );
  const elsewhere = { ...study.plan, title: "Another plan" };
  refuses(
    writeModelFile(tensors, { ...documents, plan: seal(StudyPlanDocument, elsewhere, key) }),
    "model.inconsistent",
    "another plan",
  );
  const wide = { ...study.plan, recipe: { ...study.plan.recipe, config: { ...tinyConfig, classCount: 3 } } };
  const wideManifest = { ...made.manifest, plan: planDigest(wide) };
  const wideDocuments = {
    version: seal(ModelVersionDocument, wideManifest, key),
    plan: seal(StudyPlanDocument, wide, key),
  };
  refuses(writeModelFile(tensors, wideDocuments), "model.inconsistent", "a recipe with other tensors");
  refuses(writeModelFile(tensors.slice(1), documents), "model.altered", "a tensor less");
  refuses(writeModelFile([...tensors].reverse(), documents), "model.altered", "another order");
  t.throws(() => readModelFile(file, [other.publicKey]), { code: "model.not-trusted" });
});

t.test("any changed byte of a model file is refused", async (t) => {
  fc.assert(
    fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (index, flip) => {
      const changed = file.slice();
      changed[index] = (changed[index] ?? 0) ^ flip;
      try {
        readModelFile(changed, null);
        return false;
      } catch (error) {
        return error instanceof Error && error.name === "ModelFileError";
      }
    }),
    { numRuns: 1000, seed: 1 },
  );
  const spaced = writeTensorBundle(tensors, {
    "consilium.version": ` ${JSON.stringify(made.versionEnvelope)}`,
    "consilium.plan": JSON.stringify(study.planEnvelope),
  });
  t.throws(() => readModelFile(spaced, null), { code: "model.malformed" });
});

t.test("trusted keys are read one a line, and anything else is refused", async (t) => {
  const folder = t.testdir({});
  const path = join(folder, "keys.txt");
  await writeFile(path, `# the coordinator\n\n${key.publicKey}\n`);
  t.strictSame(await readTrustedKeys(path), [key.publicKey]);
  await writeFile(path, "not a key\n");
  await t.rejects(readTrustedKeys(path), { code: "model.keys-malformed" });
  await writeFile(path, "# nobody\n");
  await t.rejects(readTrustedKeys(path), { code: "model.keys-malformed" });
  await t.rejects(openModelFile(join(folder, "none"), null), { code: "model.unreadable" });
});

t.test("plans and versions are believed under the pinned key, the digest and the study only", async (t) => {
  const site = siteId("hospital-a");
  const digest = planDigest(study.plan);
  const expected = { key: key.publicKey, site, study: "phantom-ct", digest };
  t.strictSame(openPlan(study.planEnvelope, expected), study.plan);
  t.strictSame(openPlan(study.planEnvelope, { ...expected, digest: null }), study.plan);
  const refuses = (change: Partial<typeof expected>, code: string): void => {
    t.throws(() => openPlan(study.planEnvelope, { ...expected, ...change }), { code });
  };
  refuses({ key: generateSigningKey().publicKey }, "plan.not-signed");
  refuses({ site: siteId("hospital-z") }, "plan.other");
  refuses({ study: "another" }, "plan.other");
  refuses({ digest: blobDigest(new Uint8Array(0)) }, "plan.other");
  const unknown = { ...study.plan, recipe: { ...study.plan.recipe, version: 99 } };
  t.throws(() => openPlan(seal(StudyPlanDocument, unknown, key), { ...expected, digest: null }), {
    code: "plan.unsuitable",
  });
  const twice = { ...study.plan, rounds: { ...study.plan.rounds, quorum: 3 } };
  t.throws(() => openPlan(seal(StudyPlanDocument, twice, key), { ...expected, digest: null }), {
    code: "plan.other",
  });

  const version = { key: key.publicKey, origin, plan: study.plan, reference: made.start };
  t.strictSame(openVersion(made.versionEnvelope, version), made.manifest);
  const wrong = [
    { origin: "consilium.test/other" },
    { plan: { ...study.plan, title: "x" } },
    { reference: study.start },
    { reference: { ...made.start, weights: study.start.weights } },
  ];
  for (const change of wrong) {
    t.throws(() => openVersion(made.versionEnvelope, { ...version, ...change }), { code: "version.other" });
  }
  t.throws(() => openVersion(made.versionEnvelope, { ...version, key: generateSigningKey().publicKey }), {
    code: "version.not-signed",
  });
});
