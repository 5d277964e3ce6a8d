// `consilium-site check`: everything a hospital wants to know before and during a study: identity, journal, the
// coordinator and its log, the backend and its self-test, the data found and refused, what a plan would do. It changes
// nothing; a fault in one part does not keep the others from being looked at.

import { studyId } from "@consilium/shared/base/brand.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { type ExitReason, exitCodes } from "../exit-codes.ts";
import { exitReasonOf, faultCode, faultSentence } from "../fault.ts";
import { openPlan } from "../work/checked-documents.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { cohortLines, cohortReport } from "./cohort-report.ts";
import { type CommandContext, present } from "./command-context.ts";
import { type Connection, openConnection } from "./connection.ts";
import { dataSelection } from "./data-selection.ts";
import { journalLines, journalSummary, logLines, logSummary } from "./log-check.ts";
import { summarise, summaryLines } from "./plan-summary.ts";
import { fetchStart, startFacts, startLines } from "./start-summary.ts";

export type CheckOptions = { readonly data?: string; readonly split: string; readonly study?: string };

type Part = { readonly result: unknown; readonly lines: readonly string[]; readonly reason: ExitReason };
type Parts = Record<string, Part>;

export async function checkSite(
  options: CheckOptions,
  startBackend: BackendStarter,
  context: CommandContext,
): Promise<ExitReason> {
  const parts: Parts = {};
  const connection = await openConnection(context.home).catch((error: unknown) => {
    parts["identity"] = faultyPart("Identity", error);
    return null;
  });
  let plan: StudyPlan | null = null;
  if (connection) {
    try {
      parts["identity"] = identityPart(connection);
      parts["journal"] = await part("Journal", () => checkJournal(context));
      parts["log"] = await part("Log", () => checkLog(connection, context));
      const { study } = options;
      if (study !== undefined) {
        parts["plan"] = await part("Plan", async () => {
          plan = await fetchedPlan(study, connection);
          const summary = summarise(plan);
          const start = await fetchStart(connection, plan);
          const lines = [...summaryLines(summary), ...startLines(start)];
          return { result: { ...summary, start: startFacts(start) }, lines, reason: "done" };
        });
      }
    } finally {
      await connection.close();
    }
  }
  const { data } = options;
  if (data !== undefined) parts["data"] = await part("Data", () => checkData(data, options.split, plan));
  parts["backend"] = await part("Backend", () => checkBackend(startBackend));
  return verdict(parts, context);
}

function verdict(parts: Parts, context: CommandContext): ExitReason {
  const all = Object.entries(parts);
  present(
    context,
    Object.fromEntries(all.map(([name, { result }]) => [name, result])),
    all.flatMap(([, { lines }]) => lines),
  );
  const faults = all.map(([, { reason }]) => reason).filter((reason) => exitCodes[reason].code !== 0);
  return faults.includes("alarm") ? "alarm" : (faults[0] ?? "done");
}

async function part(title: string, look: () => Promise<Part>): Promise<Part> {
  try {
    return await look();
  } catch (error) {
    return faultyPart(title, error);
  }
}

function faultyPart(title: string, error: unknown): Part {
  return {
    result: { fault: faultCode(error) },
    lines: [`${title.padEnd(10)}${faultSentence(error)}`],
    reason: exitReasonOf(error),
  };
}

function identityPart({ enrolled }: Connection): Part {
  const { site, origin, url, coordinatorKey, publicKey } = enrolled.file;
  return {
    result: { site, origin, url, coordinatorKey, publicKey },
    lines: [
      `Identity  ${site} in ${origin}, key ${publicKey}`,
      `          coordinator ${url}, key ${coordinatorKey}`,
    ],
    reason: "done",
  };
}

async function checkJournal(context: CommandContext): Promise<Part> {
  const summary = await journalSummary(context.home);
  return { result: summary, lines: journalLines(summary), reason: summary.alarm === null ? "done" : "alarm" };
}

async function checkLog(connection: Connection, context: CommandContext): Promise<Part> {
  const summary = await logSummary(connection, context.home);
  return { result: summary, lines: logLines(summary), reason: summary.continues ? "done" : "alarm" };
}

async function fetchedPlan(name: string, { client, enrolled }: Connection): Promise<StudyPlan> {
  const study = studyId(name);
  const expected = { key: enrolled.file.coordinatorKey, site: enrolled.file.site, study, digest: null };
  return openPlan(await client.plan(study), expected);
}

async function checkData(folder: string, split: string, plan: StudyPlan | null): Promise<Part> {
  const report = await cohortReport(await dataSelection(folder, split), plan);
  return { result: report, lines: cohortLines(report), reason: report.isUsable ? "done" : "data" };
}

async function checkBackend(startBackend: BackendStarter): Promise<Part> {
  const backend = await startBackend();
  return {
    result: { ...backend.statement, selfTest: "passed", passedOver: backend.passedOver },
    lines: [...backendLines(backend), "          its gradients passed the self-test"],
    reason: "done",
  };
}
