// `npm run demo`: a coordinator and three hospitals as separate processes on this machine, several federated rounds for
// real, the models compared, the evidence verified, and a report. `npm run demo -- --help` lists the options.

import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { compare, exportModels, savePlans, trainAlone } from "./comparison.ts";
import { comparisonTable } from "./comparison-table.ts";
import { cpuSeconds } from "./cpu-time.ts";
import { type Running, runFederation } from "./federated-run.ts";
import { type Federation, makeHospitals } from "./hospitals.ts";
import { type DemoOptions, DemoUsageError, readOptions, usage } from "./options.ts";
import { drawPictures } from "./pictures.ts";
import { ask, command, killAll } from "./processes.ts";
import { duration } from "./progress.ts";
import { type Report, type Verified, writeReport } from "./report.ts";

/** Says that a folder is a demo's and may be emptied by the next one. */
const marker = ".consilium-demo";
const verifierExits = [0, 4, 5];

async function main(options: DemoOptions): Promise<boolean> {
  const startMs = performance.now();
  const say = (line: string): void =>
    console.log(`${duration(performance.now() - startMs).padStart(11)}  ${line}`);
  await emptyFolder(options.out);
  say(options.data === null ? "drawing phantom CT and MR volumes" : "giving every hospital its volumes");
  const federation = await makeHospitals(options);
  for (const { name, trainingCases, validationCases } of federation.hospitals)
    say(`${name}: ${trainingCases} volumes to train, ${validationCases} to validate`);
  const running = await runFederation(options, federation, say);
  try {
    return await afterwards(options, federation, running, { say, startMs });
  } finally {
    await running.coordinator.stop();
  }
}

type Clock = { readonly say: (line: string) => void; readonly startMs: number };

async function afterwards(
  options: DemoOptions,
  federation: Federation,
  { run, coordinator, operator }: Running,
  { say, startMs }: Clock,
): Promise<boolean> {
  const { hospitals } = federation;
  const comparing = { options, hospitals, run, operator, say };
  const token = readFileSync(join(options.out, "coordinator/operator.token"), "utf8").trim();
  const files = await exportModels(comparing);
  const plans = await savePlans(comparing, token);
  const evidence = await verifyEvidence(options, run.version, operator);
  say(`evidence bundle of ${(evidence.bundleBytes / 1e6).toFixed(2)} MB: ${evidence.verdict}`);
  const log = await command(
    "consilium",
    [...operator, "audit", "verify"],
    join(options.out, "logs/coordinator.log"),
    [0, 4],
  );
  say(
    log.code === 0
      ? "audit verify: the database is what the log says"
      : `audit verify FAILED:\n${log.output}`,
  );
  const sent = await bytesSent(options, federation);
  await coordinator.stop(); // Everything from here on needs no coordinator.
  await trainAlone(comparing, plans, files);
  const comparison = await compare(comparing, files);
  const pictures = await drawPictures(options, hospitals, files.federated);
  const { url: _, ...federated } = run;
  const report: Report = {
    options: {
      recipe: options.recipe,
      seed: options.seed,
      data: options.data === null ? "phantom" : "given",
    },
    federation: federated,
    comparison,
    evidence,
    sent,
    cpuSeconds: cpuSeconds(),
    wallSeconds: (performance.now() - startMs) / 1000,
  };
  await writeReport(options.out, report, pictures);
  console.log(`\n${comparisonTable(comparison)}\n\n${verdictLines(evidence)}\n`);
  if (!run.backends.some(({ isGpu }) => isGpu))
    console.log("NOTE: no GPU took part; the sites trained on their processors.");
  console.log(
    `${report.cpuSeconds.toFixed(0)} CPU seconds over all processes, ${report.wallSeconds.toFixed(0)} seconds on the clock`,
  );
  console.log(`report: ${join(options.out, "report.html")}`);
  return evidence.verdict === "verified" && log.code === 0;
}

/** The offline verifier in a process of its own, with nothing but the bundle, a key and a site's checkpoint. */
async function verifyEvidence(
  options: DemoOptions,
  version: string,
  operator: readonly string[],
): Promise<Verified> {
  const folder = join(options.out, "evidence");
  await mkdir(folder, { recursive: true });
  const [bundle, keys, witness] = [
    join(folder, "bundle.cpio"),
    join(folder, "trusted-keys.txt"),
    join(folder, "witness.txt"),
  ];
  const log = join(options.out, "logs/coordinator.log");
  await command("consilium", [...operator, "audit", "export", version, "--out", bundle], log);
  const journal = await readFile(join(options.out, "hospitals/hospital-a/home/journal.jsonl"), "utf8").catch(
    () => "",
  );
  const notes = journal
    .split("\n")
    .filter((line) => line.includes('"checkpoint.witnessed"'))
    .map((line) => (JSON.parse(line) as { record: { note: string } }).record.note); // Lines of the site's journal.
  const site = JSON.parse(
    await readFile(join(options.out, "hospitals/hospital-a/home/site.json"), "utf8").catch(() => "{}"),
  ) as { coordinatorKey?: string }; // The key that the site pinned when it enrolled.
  await writeFile(keys, `${site.coordinatorKey ?? ""}\n`);
  const note = notes.at(-1);
  if (note) await writeFile(witness, note);
  const words = ["--json", "audit", "check", bundle, "--keys", keys, ...(note ? ["--witness", witness] : [])];
  const { output } = await command("consilium", words, log, verifierExits);
  const verdict = JSON.parse(output) as Omit<Verified, "bundle" | "bundleBytes">; // The verifier's verdict.
  return { ...verdict, bundle: "evidence/bundle.cpio", bundleBytes: (await stat(bundle)).size };
}

async function bytesSent({ out }: DemoOptions, { hospitals }: Federation): Promise<Report["sent"]> {
  const rows: { site: string; wireBytes: number }[] = [];
  for (const { name, home } of hospitals) {
    const ledger = await ask<{ wireBytes: number }>(
      "site",
      ["ledger", "--home", home, "--json"],
      join(out, "logs", `${name}.log`),
    );
    rows.push({ site: name, wireBytes: ledger.wireBytes });
  }
  return rows;
}

function verdictLines({ verdict, facts, faults }: Verified): string {
  return [
    `Offline verifier: ${verdict.toUpperCase()}`,
    ...faults.map((fault) => `  fault: ${fault}`),
    ...facts.map((fact) => `  ${fact}`),
  ].join("\n");
}

async function emptyFolder(out: string): Promise<void> {
  if (existsSync(out) && !existsSync(join(out, marker)))
    throw new DemoUsageError(`${out} exists and is not a demo's folder: choose another --out`);
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await writeFile(join(out, marker), "");
}

if (process.argv.includes("--help")) {
  console.log(usage);
} else {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, killAll);
  process.exitCode = await Promise.resolve()
    .then(() => main(readOptions(process.argv.slice(2))))
    .then((isVerified) => (isVerified ? 0 : 1))
    .catch((error: unknown) => {
      killAll();
      console.error(error instanceof Error ? error.message : String(error));
      return error instanceof DemoUsageError ? 2 : 1;
    });
}
