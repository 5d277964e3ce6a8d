// The federation from nothing to a released version: coordinator, invitations, enrolment, a plan drafted from what the
// sites tell, approvals, agents, rounds, release.

import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type SiteId, siteId, studyId } from "@consilium/shared/base/brand.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { draftPlan } from "@consilium/shared/model/draft-plan.ts";
import type { Federation, Hospital } from "./hospitals.ts";
import type { DemoOptions } from "./options.ts";
import { ask, command, eachOf, type Service, service } from "./processes.ts";
import { watchStudy } from "./progress.ts";

export const studyName = "demo";

export type FederatedRun = {
  readonly url: string;
  readonly version: string;
  readonly startVersion: string;
  readonly labels: readonly { id: number; name: string }[];
  /** Per round and site, as the sites reported it: mean Dice of each label on the fixed slices. */
  readonly rounds: readonly RoundScores[];
  /** The start version and what each round made of it, with the digests of their weights. */
  readonly versions: readonly {
    readonly round: number;
    readonly version: string;
    readonly weights: string;
  }[];
  readonly backends: readonly { site: string; name: string; isGpu: boolean }[];
  /** Bytes of one update's tensors, and of all that were sent. */
  readonly bytes: { readonly perUpdate: number; readonly updates: number; readonly weights: number };
};
export type RoundScores = {
  readonly round: number;
  readonly site: string;
  readonly labels: readonly { label: number; dice: number | null }[];
  readonly meanDice: number | null;
};

type CheckAnswer = {
  data: { fingerprint: CohortFingerprint; labels: { label: number; name: string | null }[] };
};
type DraftSite = {
  readonly site: SiteId;
  readonly fingerprint: CohortFingerprint;
  readonly labels: CheckAnswer["data"]["labels"];
};
type Say = (line: string) => void;

export type Running = {
  readonly run: FederatedRun;
  readonly coordinator: Service;
  readonly operator: readonly string[];
};

export async function runFederation(
  options: DemoOptions,
  federation: Federation,
  say: Say,
): Promise<Running> {
  const { out } = options;
  const logs = join(out, "logs");
  await mkdir(logs, { recursive: true });
  const data = join(out, "coordinator");
  const operator = ["--data", data];
  const log = join(logs, "coordinator.log");
  say("starting the coordinator");
  const coordinator = service("consilium", [...operator, "serve", "--port", "0"], log);
  const url = await Promise.race([untilListening(data), coordinator.ended.then(() => "")]);
  await enrolAll(federation.hospitals, { operator, logs, say });
  const plan = await draft(options, federation, { logs, say });
  const planFile = join(out, "plan.json");
  await writeFile(planFile, `${JSON.stringify(plan, null, 2)}\n`);
  const opened = await ask<{ last: string }>(
    "consilium",
    [...operator, "--json", "study", "open", planFile, "--seed", String(options.seed)],
    log,
  );
  say(
    `study opened: ${plan.training.stepsPerRound} steps a round, ${plan.rounds.count} rounds, labels ${plan.labels.map(({ name }) => name).join(", ")}`,
  );
  const token = readFileSync(join(data, "operator.token"), "utf8").trim();
  const watcher = watchStudy({ url, token, study: studyName, rounds: options.rounds, print: say });
  const agents = await startAgents(federation.hospitals, options, logs);
  await Promise.race([watcher.finished, coordinator.ended, ...agents.map(({ ended }) => ended)]);
  watcher.close();
  const { released } = await ask<{ released: string }>(
    "consilium",
    [...operator, "--json", "model", "release", studyName, "--reason", "best of the demo"],
    log,
  );
  say(`released: version ${released.slice(0, 12)}`);
  await Promise.all(agents.map((agent) => agent.stop()));
  const records = await readLog(operator, log);
  const run = { url, version: released, startVersion: opened.last, labels: plan.labels, ...summary(records) };
  return { run, coordinator, operator };
}

export async function enrolAll(
  hospitals: readonly Hospital[],
  { operator, logs, say }: { operator: readonly string[]; logs: string; say: Say },
): Promise<void> {
  await eachOf(hospitals, async ({ name, home, folder }) => {
    const file = join(folder, "invitation.txt");
    await command("consilium", [...operator, "invite", name, "--out", file], join(logs, "coordinator.log"));
    await command(
      "site",
      ["enrol", readFileSync(file, "utf8").trim(), "--home", home],
      join(logs, `${name}.log`),
    );
    say(`${name} enrolled with a key of its own`);
  });
}

/** Each hospital looks at its own images; only sizes, spacings and intensity statistics go to whoever drafts the plan. */
export async function draft(
  options: DemoOptions,
  { hospitals, labelNames }: Federation,
  { logs, say }: { logs: string; say: Say },
) {
  const checks: DraftSite[] = [];
  await eachOf(hospitals, async ({ name, data, home, split }) => {
    const words = [
      "check",
      "--home",
      home,
      "--data",
      data,
      "--split",
      split,
      "--json",
      ...backendWords(options),
    ];
    const answer = await ask<CheckAnswer>("site", words, join(logs, `${name}.log`));
    checks.push({ site: siteId(name), fingerprint: answer.data.fingerprint, labels: answer.data.labels });
    const { cases, modality } = answer.data.fingerprint;
    say(
      `${name}: ${cases} ${modality === "mixed" ? "CT and MR" : modality} volumes, labels ${answer.data.labels.map(({ label, name: known }) => known ?? labelNames.get(label) ?? label).join(", ")}`,
    );
  });
  const ids = new Set([
    ...labelNames.keys(),
    ...checks.flatMap(({ labels }) => labels.map(({ label }) => label)),
  ]);
  const labels = [...ids]
    .sort((a, b) => a - b)
    .map((id) => ({ id, name: labelNames.get(id) ?? `label ${id}` }));
  return draftPlan({
    study: studyId(studyName),
    title: options.data === null ? "Phantom CT and MR at three hospitals" : "A federation on one machine",
    labels,
    sites: checks
      .map(({ site, fingerprint }) => ({ site, fingerprint }))
      .sort((a, b) => (a.site < b.site ? -1 : 1)),
    size: options.size,
    partialLabels: options.partialLabels,
    rounds: options.rounds,
    stepsPerRound: options.steps,
    batchSize: options.batchSize,
    seed: options.seed,
  });
}

async function startAgents(
  hospitals: readonly Hospital[],
  options: DemoOptions,
  logs: string,
): Promise<Service[]> {
  await approveAll(hospitals, logs);
  return hospitals.map(({ name, home }) =>
    service("site", ["run", "--home", home, ...backendWords(options)], join(logs, `${name}.log`)),
  );
}

/** Every hospital reads the plan and agrees to it. */
export async function approveAll(hospitals: readonly Hospital[], logs: string): Promise<void> {
  await eachOf(hospitals, async ({ name, home, data, split }) => {
    const words = ["--home", home, "--data", data, "--split", split, "--approver", "demo", "--yes"];
    await command("site", ["approve", studyName, ...words], join(logs, `${name}.log`));
  });
}

export function backendWords({ backend }: DemoOptions): string[] {
  return backend === null ? [] : ["--backend", backend];
}

export async function untilListening(data: string): Promise<string> {
  for (;;) {
    try {
      const url = readFileSync(join(data, "coordinator.url"), "utf8").trim();
      if ((await fetch(`${url}/readyz`)).ok) return url;
    } catch {
      // Not yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

type LogRecord = { kind: string; [key: string]: unknown };
const pageEntries = 500;

async function readLog(operator: readonly string[], log: string): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for (;;) {
    const { output } = await command(
      "consilium",
      [
        ...operator,
        "--json",
        "audit",
        "show",
        "--from",
        String(records.length),
        "--limit",
        String(pageEntries),
      ],
      log,
    );
    const page = output
      .split("\n")
      .filter((line) => line)
      .map((line) => (JSON.parse(line) as { record: LogRecord }).record); // Leaves of the log.
    records.push(...page);
    if (page.length < pageEntries) return records;
  }
}

type Payload = {
  report: { labels: { label: number; meanDice: number | null }[]; meanDice: number | null };
  delta: { bytes: number };
  backend: { name: string; isGpu: boolean };
};

function summary(
  records: readonly LogRecord[],
): Pick<FederatedRun, "rounds" | "versions" | "backends" | "bytes"> {
  const of = (kind: string): LogRecord[] => records.filter((record) => record.kind === kind);
  const payload = (record: LogRecord): Payload => {
    const { payload: text } = record["envelope"] as { payload: string }; // These records carry an envelope.
    return JSON.parse(Buffer.from(text, "base64").toString()) as Payload; // Checked when it was recorded.
  };
  const roundOf = new Map(
    of("version.created").map((record) => [record["version"], Number(record["round"])]),
  );
  const rounds = of("evaluation.reported").map((record) => {
    const { labels, meanDice } = payload(record).report;
    return {
      round: roundOf.get(record["version"]) ?? 0,
      site: String(record["site"]),
      labels: labels.map((one) => ({ label: one.label, dice: one.meanDice })),
      meanDice,
    };
  });
  const updates = of("update.accepted").map((record) => ({
    site: String(record["site"]),
    ...payload(record),
  }));
  const backends = new Map(
    updates.map(({ site, backend }) => [site, { site, name: backend.name, isGpu: backend.isGpu }]),
  );
  const versions = of("version.created").map((record) => {
    const { sha256, bytes } = record["weights"] as { sha256: string; bytes: number }; // Of the record's schema.
    return { round: Number(record["round"]), version: String(record["version"]), weights: sha256, bytes };
  });
  return {
    rounds,
    versions: versions.map(({ round, version, weights }) => ({ round, version, weights })),
    backends: [...backends.values()],
    bytes: {
      perUpdate: updates[0]?.delta.bytes ?? 0,
      updates: updates.reduce((sum, { delta }) => sum + delta.bytes, 0),
      weights: versions[0]?.bytes ?? 0,
    },
  };
}
