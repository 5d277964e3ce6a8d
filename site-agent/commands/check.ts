// `consilium-site check`: everything a hospital wants to know before and during a study: identity, journal, the
// coordinator and its log, the backend and its self-test, the data found and refused, what a plan would do and what a
// training step of it takes here. It changes nothing; a fault in one part does not keep the others from being looked at.
// With a plan from a file it looks at the plan, the data and the machine alone: no site need be enrolled.

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
import { readPlanFile } from "./plan-file.ts";
import { summarise, summaryLines } from "./plan-summary.ts";
import { fetchStart, startFacts, startLines } from "./start-summary.ts";
import { type StepReporter, stepLines } from "./step-report.ts";
import { UsageError } from "./usage-error.ts";

export type CheckOptions = {
  readonly data?: string;
  readonly split: string;
  readonly study?: string;
  /** A file, in the place of a study's plan. */
  readonly plan?: string;
};

type Part = { readonly result: unknown; readonly lines: readonly string[]; readonly reason: ExitReason };
type Parts = Record<string, Part>;

export async function checkSite(
  options: CheckOptions,
  startBackend: BackendStarter,
  context: CommandContext,
  reportStep: StepReporter,
): Promise<ExitReason> {
  const { data, plan: file } = options;
  if (file !== undefined && options.study !== undefined) throw new UsageError("usage.plan-and-study");
  const parts: Parts = {};
  const plan = await (file === undefined
    ? lookAtFederation(parts, options, context)
    : lookAtPlan(parts, () => readPlanFile(file), null));
  if (data !== undefined) parts["data"] = await part("Data", () => checkData(data, options.split, plan));
  parts["backend"] = await part("Backend", () => checkBackend(startBackend));
  if (plan !== null && parts["backend"].reason === "done")
    parts["step"] = await part("Step", () => checkStep(startBackend, plan, reportStep));
  return verdict(parts, context);
}

/** Identity, journal and log, and the plan of a study that is asked about. */
async function lookAtFederation(
  parts: Parts,
  { study }: CheckOptions,
  context: CommandContext,
): Promise<StudyPlan | null> {
  const connection = await openConnection(context.home).catch((error: unknown) => {
    parts["identity"] = faultyPart("Identity", error);
    return null;
  });
  if (!connection) return null;
  try {
    parts["identity"] = identityPart(connection);
    parts["journal"] = await part("Journal", () => checkJournal(context));
    parts["log"] = await part("Log", () => checkLog(connection, context));
    return study === undefined
      ? null
      : await lookAtPlan(parts, () => fetchedPlan(study, connection), connection);
  } finally {
    await connection.close();
  }
}

/** @param connection to where what the study starts from can be asked */
async function lookAtPlan(
  parts: Parts,
  read: () => Promise<StudyPlan>,
  connection: Connection | null,
): Promise<StudyPlan | null> {
  let plan: StudyPlan | null = null;
  parts["plan"] = await part("Plan", async () => {
    plan = await read();
    const summary = summarise(plan);
    if (!connection) return { result: summary, lines: summaryLines(summary), reason: "done" };
    const start = await fetchStart(connection, plan);
    const lines = [...summaryLines(summary), ...startLines(start)];
    return { result: { ...summary, start: startFacts(start) }, lines, reason: "done" };
  });
  return plan;
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

async function checkStep(
  startBackend: BackendStarter,
  plan: StudyPlan,
  reportStep: StepReporter,
): Promise<Part> {
  const report = await reportStep((await startBackend()).statement.name, plan);
  const reason = report.exceeded.length > 0 ? "tooLarge" : "done";
  return { result: report, lines: stepLines(report, plan), reason };
}
