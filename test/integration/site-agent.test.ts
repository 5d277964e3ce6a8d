import { existsSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { siteId } from "@consilium/shared/base/brand.ts";
import { claimedSigner, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { InstallationDocument } from "@consilium/shared/protocol/documents.ts";
import t, { type Test } from "tap";
import { homeAt, modelFile } from "../../site-agent/identity/home.ts";
import { JournalRecord, journalName } from "../../site-agent/journal-record.ts";
import { readModelFile } from "../../site-agent/model-file.ts";
import { readJournal } from "../../site-agent/store/journal.ts";
import { readLedger } from "../../site-agent/transport/ledger-report.ts";
import { PHANTOM_CT_SITES } from "../fixtures/phantom/phantom-sites.ts";
import { writePhantomDataset } from "../fixtures/phantom/write-phantom.ts";
import { ByteCountingProxy } from "../support/byte-counting-proxy.ts";
import { HonestCoordinator } from "../support/honest-coordinator/honest-coordinator.ts";
import { playStudy } from "../support/one-site-study.ts";
import { outboundPayloads } from "../support/outbound-payloads.ts";
import { SiteCommand, siteCommand } from "../support/site-command.ts";

const site = siteId("hospital-a");
/** As it might stand in file names and headers. */
const patient = "MUSTERMANN";

type House = { coordinator: HonestCoordinator; proxy: ByteCountingProxy; home: string; data: string };

/** A coordinator behind a counting proxy, and an enrolled site with a folder of images. */
async function house(
  t: Test,
  environment: Record<string, string> = {},
): Promise<House & { outputs: string[] }> {
  const coordinator = new HonestCoordinator();
  await coordinator.start();
  const proxy = new ByteCountingProxy(() => coordinator.port);
  await proxy.start();
  t.teardown(async () => {
    await coordinator.stop();
    await proxy.stop();
  });
  const folder = t.testdir({});
  const home = join(folder, "home");
  const data = join(folder, `${patient} study`);
  const phantom = PHANTOM_CT_SITES[0];
  if (!phantom) throw new Error("there is a phantom site");
  await writePhantomDataset({ folder: data, site: phantom, cases: 6, seed: 1 });
  await namePatients(data);
  const invitation = coordinator.invite(site, coordinator.url(proxy.port));
  const enrolled = await siteCommand(["enrol", invitation, "--home", home], environment);
  if (enrolled.code !== 0) throw new Error(enrolled.output);
  return { coordinator, proxy, home, data, outputs: [enrolled.output] };
}

/** The patient's name into file names, headers and the description of the data set; one file is broken. */
async function namePatients(data: string): Promise<void> {
  for (let number = 1; number <= 6; number += 1) {
    const name = `phantom_${String(number).padStart(3, "0")}`;
    const image = join(data, "imagesTr", `${name}_0000.nii.gz`);
    const bytes = gunzipSync(await readFile(image));
    bytes.write(patient, 148, "latin1"); // NIfTI-1's field descrip.
    await writeFile(image, number === 2 ? bytes.subarray(0, 400) : gzipSync(bytes));
    await rename(image, join(data, "imagesTr", `${patient}_${number}_0000.nii.gz`));
    await rename(
      join(data, "labelsTr", `${name}.nii.gz`),
      join(data, "labelsTr", `${patient}_${number}.nii.gz`),
    );
  }
  const path = join(data, "dataset.json");
  const description = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>; // Written by the fixture.
  await writeFile(path, JSON.stringify({ ...description, name: patient, description: `${patient}, Erika` }));
}

const approve = (home: string, data: string): string[] => [
  ...["approve", "phantom-ct", "--home", home, "--data", data],
  ...["--approver", "Chief of radiology", "--yes"],
];
const run = (home: string): SiteCommand =>
  new SiteCommand(["run", "--home", home, "--backend", "wasm"], { CONSILIUM_LOG: "debug" });

t.test("a site approves, trains, evaluates and installs, and no name leaves it", async (t) => {
  const { coordinator, proxy, home, data, outputs } = await house(t);
  const { study, candidate, isDone } = playStudy(coordinator, site);
  const said = async (args: string[], code = 0): Promise<string> => {
    const ended = await siteCommand(args, { CONSILIUM_LOG: "debug" });
    outputs.push(ended.output);
    t.equal(ended.code, code, `${args[0]}: ${ended.code === code ? "as expected" : ended.output}`);
    return ended.result;
  };
  const checked = JSON.parse(
    await said(["check", "--home", home, "--data", data, "--study", "phantom-ct", "--json"]),
  );
  t.match(checked, {
    identity: { site },
    data: { caseCount: 6, readableCount: 5, refused: [{ number: 2 }] },
    plan: { study: "phantom-ct", clipNormL2: 0.05 },
    backend: { selfTest: "passed" },
    log: { continues: true },
  });
  t.match(await said(approve(home, data)), /4 training and 1 validation/);

  const agent = run(home);
  await coordinator.until(isDone);
  agent.kill("SIGTERM");
  t.equal(await agent.ended(), 0, "SIGTERM ends it cleanly");
  outputs.push(agent.output);
  t.match(agent.output, /connected to the coordinator[\s\S]*training[\s\S]*update accepted[\s\S]*installed/);

  const update = coordinator.study.messages("update.submit");
  t.equal(new Set(update.map(({ envelope }) => envelope.payload)).size, 1);
  const statement = JSON.parse(Buffer.from(update[0]?.envelope.payload ?? "", "base64").toString());
  t.match(statement, { examples: 4, steps: 3, backend: { name: "wasm", isGpu: false } });
  t.ok(statement.normL2.sent <= 0.05 && statement.normL2.trained > 0.05, "the update was clipped");
  t.ok(coordinator.study.messages("progress").some(({ phase }) => phase === "training"));

  const installed = modelFile(homeAt(home), study.plan.study);
  const model = readModelFile(await readFile(installed), [coordinator.key.publicKey]);
  t.equal(model.version, candidate.start.version);
  const out = join(home, "..", "prediction.nii.gz");
  const image = join(data, "imagesTr", `${patient}_1_0000.nii.gz`);
  await said(["predict", "--model", installed, "--image", image, "--out", out, "--backend", "wasm"]);
  await said(["predict", "--model", installed, "--image", `${image}.gone`, "--out", out], 8);
  await said(["evaluate", "--model", installed, "--data", join(data, patient), "--backend", "wasm"], 8);
  const prediction = gunzipSync(await readFile(out)).toString("latin1");

  await said(["ledger", "--home", home]);
  const report = await readLedger(homeAt(home).ledger);
  t.equal(report.wireBytes, proxy.bytesSeen, "every byte that left is counted");
  t.equal(report.unbalancedProcesses, 0);
  t.ok(report.framingBytes > 0);

  const wire = proxy.streams
    .flatMap((stream) => outboundPayloads(Buffer.concat(stream)))
    .map(({ bytes }) => bytes.toString("latin1"))
    .join("\n");
  const signed = [...wire.matchAll(/"payload":"([A-Za-z0-9+/]+=*)"/g)]
    .map(([, payload = ""]) => Buffer.from(payload, "base64").toString("latin1"))
    .join("\n");
  t.match(wire, /"phase":"training"/, "the websocket's frames are read");
  t.match(signed, /Chief of radiology/, "what stands in signed documents is read");
  for (const [what, text] of Object.entries({
    outputs: outputs.join("\n"),
    wire,
    signed,
    prediction,
    journal: await readFile(join(home, "journal.jsonl"), "utf8"),
    ledger: await readFile(join(home, "ledger", "1", "00000001.jsonl"), "utf8"),
  })) {
    t.notMatch(text, new RegExp(patient, "i"), `no patient's name in: ${what}`);
  }
  t.match(outputs.join("\n"), /Chief|phantom-ct/, "the outputs were looked at");
});

t.test("killed with -9 at every point of a study, the site goes on and shows one update", async (t) => {
  const { coordinator, home, data } = await house(t);
  const { isDone, study } = playStudy(coordinator, site);
  t.equal((await siteCommand(approve(home, data))).code, 0);
  const points = [
    "POST /v1/challenges",
    "POST /v1/sessions",
    "session.hello",
    "plan.approve",
    "GET /v1/versions/",
    "GET /v1/blobs/",
    "progress",
    "HEAD /v1/uploads/",
    "PATCH /v1/uploads/",
    "update.submit",
    "evaluation.submit",
  ];
  for (const point of points) {
    const agent = run(home);
    await diesAt(coordinator, point, agent);
    t.equal(await agent.ended(), null, `killed at ${point}`);
  }
  const survivor = run(home);
  await coordinator.until(isDone);
  const model = modelFile(homeAt(home), study.plan.study);
  t.ok(existsSync(model));
  coordinator.study.owed = () => [{ kind: "version.released", study: study.plan.study, released: null }];
  const words = () =>
    coordinator.study
      .messages("version.installed")
      .map(({ envelope }) => openEnvelope(InstallationDocument, envelope, claimedSigner(envelope)).version);
  await coordinator.until(() => words().at(-1) === null);
  t.notOk(existsSync(model), "what is no longer in use is gone before the site says so");
  survivor.kill("SIGTERM");
  t.equal(await survivor.ended(), 0);
  const shown = coordinator.study.messages("update.submit").map(({ envelope }) => envelope.payload);
  t.equal(new Set(shown).size, 1, "one update, whatever happened");
  const records = await readJournal({ folder: home, name: journalName, schema: JournalRecord });
  for (const kind of ["plan.approved", "update.prepared", "evaluation.prepared"]) {
    t.equal(records.filter((record) => record.kind === kind).length, 1, `one ${kind}`);
  }
  const report = await readLedger(homeAt(home).ledger);
  t.ok(report.entries > 20 && report.unbalancedProcesses > 0, "the ledger survived, and says what it missed");
});

/** Kill the process as soon as the coordinator sees the first bytes of the point, before it answers. */
async function diesAt(coordinator: HonestCoordinator, point: string, agent: SiteCommand): Promise<void> {
  let isDead = false;
  const die = (): "cut" => {
    agent.kill("SIGKILL");
    isDead = true;
    return "cut";
  };
  coordinator.interfere = (request) => (`${request.method} ${request.url}`.startsWith(point) ? die() : null);
  coordinator.interfereSocket = (kind) => (kind === point ? die() : null);
  await coordinator.until(() => isDead);
  coordinator.interfere = () => null;
  coordinator.interfereSocket = () => null;
}
