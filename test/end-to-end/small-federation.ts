// Three hospitals as real processes on drawn volumes, small enough to be run several times in a test.

import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { approveAll, enrolAll, untilListening } from "../demo/federated-run.ts";
import { type Federation, makeHospitals } from "../demo/hospitals.ts";
import { type DemoOptions, type DemoPhase, readOptions } from "../demo/options.ts";
import { draftPhase, openPhase, siteFacts } from "../demo/phases.ts";
import { ask, command, type Service, service } from "../demo/processes.ts";

type StudyStatus = {
  readonly phase: string;
  readonly round: number;
  readonly last: string;
  readonly sites: readonly { readonly site: string; readonly accepted: boolean }[];
};

export type SmallFederation = {
  readonly options: DemoOptions;
  readonly federation: Federation;
  readonly operator: readonly string[];
  readonly log: string;
  startCoordinator(): Promise<Service>;
  startAgent(name: string, environment?: Readonly<Record<string, string>>): Service;
  openStudy(): Promise<void>;
  status(): Promise<StudyStatus>;
  /** Records of the log, oldest first. */
  records(): Promise<{ kind: string; [key: string]: unknown }[]>;
  close(): void;
};

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

/** Far above what a round needs on a slow machine, far below the test's own limit. */
const waitMsMax = 300_000;

/** Asks until the answer fits. @throws Error with the last answer when it never does */
export async function until<T>(look: () => Promise<T>, fits: (answer: T) => boolean): Promise<T> {
  const deadline = Date.now() + waitMsMax;
  let last: T | null = null;
  while (Date.now() < deadline) {
    last = await look().catch(() => null);
    if (last !== null && fits(last)) return last;
    await tick();
  }
  throw new Error(`waited in vain; the last answer was ${JSON.stringify(last)}`);
}

export async function smallFederation(words: readonly string[]): Promise<SmallFederation> {
  const out = mkdtempSync(join(tmpdir(), "consilium-end-to-end-"));
  chmodSync(out, 0o755); // So that the database can live in it, whoever runs it.
  const options = { ...readOptions(words), out };
  const federation = await makeHospitals(options);
  const [logs, data] = [join(out, "logs"), join(out, "coordinator")];
  await mkdir(logs, { recursive: true });
  const operator = ["--data", data];
  const log = join(logs, "coordinator.log");
  let port = "0";
  const home = (name: string): string => join(out, "hospitals", name, "home");
  return {
    options,
    federation,
    operator,
    log,
    async startCoordinator() {
      const coordinator = service("consilium", [...operator, "serve", "--port", port], log);
      const url = await Promise.race([untilListening(data), coordinator.ended.then(() => "")]);
      port = new URL(url).port; // The sites know it under this address.
      return coordinator;
    },
    startAgent: (name, environment) =>
      service(
        "site",
        ["run", "--home", home(name), "--backend", "wasm"],
        join(logs, `${name}.log`),
        environment,
      ),
    async openStudy() {
      const say = (): void => {};
      await enrolAll(federation.hospitals, { operator, logs, say });
      const phase = firstPhase(options);
      const facts = await siteFacts(options, federation, { logs, say });
      const file = join(out, "plan.json");
      await writeFile(file, JSON.stringify(draftPhase(phase, options, federation, facts)));
      await openPhase(phase, options, { operator, logs, file });
      await approveAll(federation.hospitals, logs, phase.study);
    },
    status: () => studyStatus(data, firstPhase(options).study),
    async records() {
      const { output } = await command(
        "consilium",
        [...operator, "--json", "audit", "show", "--limit", "500"],
        log,
      );
      return output
        .split("\n")
        .filter((line) => line)
        .map((line) => (JSON.parse(line) as { record: { kind: string } }).record); // Leaves of the log.
    },
    close: () => rmSync(out, { recursive: true, force: true }),
  };
}

function firstPhase({ phases }: DemoOptions): DemoPhase {
  return expectDefined(phases[0], "a phase");
}

/** What the coordinator says of the study to its operator. */
async function studyStatus(data: string, study: string): Promise<StudyStatus> {
  const url = readFileSync(join(data, "coordinator.url"), "utf8").trim();
  const token = readFileSync(join(data, "operator.token"), "utf8").trim();
  const response = await fetch(`${url}/v1/studies/${study}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  if (!response.ok) throw new Error(String(response.status));
  return (await response.json()) as StudyStatus; // Part of a StudyAnswer.
}

/** The digests of all weights that the study made, round by round. */
export async function weightsByRound(federation: SmallFederation): Promise<string[]> {
  const created = (await federation.records()).filter(({ kind }) => kind === "version.created");
  return created.map((record) => `${record["round"]} ${(record["weights"] as { sha256: string }).sha256}`); // Of the record's schema.
}

export async function verifyLog({
  operator,
  log,
}: SmallFederation): Promise<{ ok: boolean; faults: string[] }> {
  return ask("consilium", [...operator, "--json", "audit", "verify"], log);
}
