// The federation from nothing to a released version: coordinator, invitations, enrolment, and for every phase a plan
// drafted from what the sites tell, approvals, rounds, a release from which the next phase starts.

import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { DraftOptions } from "@consilium/shared/model/draft-plan.ts";
import type { Federation, Hospital } from "./hospitals.ts";
import { backendWords, type DemoOptions, type DemoPhase } from "./options.ts";
import { draftPhase, openPhase, type SiteFacts, siteFacts } from "./phases.ts";
import { ask, command, eachOf, type Service, service } from "./processes.ts";
import { watchStudy } from "./progress.ts";
import { type PhaseRecords, phaseRecords, readLog } from "./records.ts";

export type PhaseRun = PhaseRecords &
  Pick<DemoPhase, "study" | "trains"> & {
    readonly stepsPerRound: number;
    readonly startVersion: string;
    readonly released: string;
  };

export type FederatedRun = {
  readonly url: string;
  readonly labels: DraftOptions["labels"];
  readonly phases: readonly PhaseRun[];
  /** Released by the last phase. */
  readonly version: string;
  readonly backends: readonly { site: string; name: string; isGpu: boolean }[];
};

type Say = (line: string) => void;

/** First start included: the database is initialised in it. */
const listenMsMax = 180_000;

export type Running = {
  readonly run: FederatedRun;
  readonly coordinator: Service;
  readonly operator: readonly string[];
};

/** What a phase is opened and watched with. */
type Consortium = {
  readonly options: DemoOptions;
  readonly federation: Federation;
  readonly facts: readonly SiteFacts[];
  readonly operator: readonly string[];
  readonly url: string;
  readonly token: string;
  readonly say: Say;
  /** Ends where a process ends that should not. */
  readonly broken: Promise<unknown>;
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
  const token = readFileSync(join(data, "operator.token"), "utf8").trim();
  await enrolAll(federation.hospitals, { operator, logs, say });
  const facts = await siteFacts(options, federation, { logs, say });
  const agents = federation.hospitals.map(({ name, home }) =>
    service("site", ["run", "--home", home, ...backendWords(options)], join(logs, `${name}.log`)),
  );
  const broken = Promise.race([coordinator.ended, ...agents.map(({ ended }) => ended)]);
  const consortium = { options, federation, facts, operator, url, token, say, broken };
  const ended: Omit<PhaseRun, keyof PhaseRecords>[] = [];
  let labels: DraftOptions["labels"] = [];
  for (const phase of options.phases) {
    const { run, plan } = await runPhase(phase, consortium);
    labels = plan.labels;
    ended.push(run);
  }
  await Promise.all(agents.map((agent) => agent.stop()));
  const records = await readLog(operator, log);
  const phases = ended.map((phase) => ({ ...phase, ...phaseRecords(records, phase.study) }));
  const version = expectDefined(phases.at(-1), "a phase").released;
  const backends = new Map(phases.flatMap((phase) => phase.backends.map((one) => [one.site, one])));
  const run = { url, labels, phases, version, backends: [...backends.values()] };
  return { run, coordinator, operator };
}

async function runPhase(phase: DemoPhase, consortium: Consortium) {
  const { options, federation, facts, operator, url, token, say, broken } = consortium;
  const { study, trains, rounds, steps } = phase;
  const logs = join(options.out, "logs");
  const plan = draftPhase(phase, options, federation, facts);
  const file = join(options.out, `plan-${study}.json`);
  await writeFile(file, `${JSON.stringify(plan, null, 2)}\n`);
  const startVersion = await openPhase(phase, options, { operator, logs, file });
  const what = options.recipe === "unet-prompter" ? "the network" : `the ${trains} of RFMedSAM 2`;
  say(
    `study ${study} opened for ${what}: ${rounds} rounds of ${steps} steps, labels ${plan.labels.map(({ name }) => name).join(", ")}`,
  );
  const watcher = watchStudy({ url, token, study, rounds, print: say });
  await approveAll(federation.hospitals, logs, study);
  await Promise.race([watcher.finished, broken]);
  watcher.close();
  const { released } = await ask<{ released: string }>(
    "consilium",
    [...operator, "--json", "model", "release", study, "--reason", "best of the demo"],
    join(logs, "coordinator.log"),
  );
  say(`released: version ${released.slice(0, 12)}`);
  return { plan, run: { study, trains, stepsPerRound: steps, startVersion, released } };
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

/** Every hospital reads the plan and agrees to it. */
export async function approveAll(hospitals: readonly Hospital[], logs: string, study: string): Promise<void> {
  await eachOf(hospitals, async ({ name, home, data, split }) => {
    const words = ["--home", home, "--data", data, "--split", split, "--approver", "demo", "--yes"];
    await command("site", ["approve", study, ...words], join(logs, `${name}.log`));
  });
}

export async function untilListening(data: string): Promise<string> {
  for (let waitedMs = 0; waitedMs < listenMsMax; waitedMs += 100) {
    try {
      const url = readFileSync(join(data, "coordinator.url"), "utf8").trim();
      if ((await fetch(`${url}/readyz`)).ok) return url;
    } catch {
      // Not yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the coordinator did not begin to listen; its log says why");
}
