// `consilium-site approve STUDY`: fetch the plan, check it, say what it asks and what a training step takes here, and
// sign it once a person agrees. A plan whose step cannot fit is refused. The approval is a file that the running agent,
// or the next one, picks up; this command never touches the journal.

import { createInterface } from "node:readline/promises";
import { type StudyId, studyId } from "@consilium/shared/base/brand.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { planDigest } from "@consilium/shared/model/study-plan.ts";
import { ApprovalDocument } from "@consilium/shared/protocol/documents.ts";
import type { ExitReason } from "../exit-codes.ts";
import { type DataSelection, writeApproval } from "../work/approvals.ts";
import { openPlan } from "../work/checked-documents.ts";
import { StudyError } from "../work/study-error.ts";
import { keepPlan } from "../work/study-materials.ts";
import type { BackendStarter } from "./backend-choice.ts";
import { type CohortReport, cohortLines, cohortReport } from "./cohort-report.ts";
import { type CommandContext, present } from "./command-context.ts";
import { type Connection, openConnection, systemClock } from "./connection.ts";
import { dataSelection } from "./data-selection.ts";
import { type PlanSummary, summarise, summaryLines } from "./plan-summary.ts";
import { expectFits, measuredStep, type StepReport, type StepReporter, stepLines } from "./step-report.ts";
import { UsageError } from "./usage-error.ts";

export type ApproveOptions = {
  readonly data: string;
  readonly split: string;
  readonly approver: string;
  readonly yes: boolean;
};

export async function approveStudy(
  name: string,
  options: ApproveOptions,
  startBackend: BackendStarter,
  context: CommandContext,
  reportStep = measuredStep,
): Promise<ExitReason> {
  const study = studyId(name);
  const data = await dataSelection(options.data, options.split);
  const connection = await openConnection(context.home);
  try {
    return await approve(study, { ...options, data, connection, startBackend, reportStep, context });
  } finally {
    await connection.close();
  }
}

type Approving = Omit<ApproveOptions, "data"> & {
  readonly data: DataSelection;
  readonly connection: Connection;
  readonly startBackend: BackendStarter;
  readonly reportStep: StepReporter;
  readonly context: CommandContext;
};

async function approve(
  study: StudyId,
  { data, approver, yes, connection, startBackend, reportStep, context }: Approving,
): Promise<ExitReason> {
  const { enrolled, client } = connection;
  const { identity, file } = enrolled;
  const planEnvelope = await client.plan(study);
  const expected = { key: file.coordinatorKey, site: identity.site, study, digest: null };
  const plan = openPlan(planEnvelope, expected);
  const summary = summarise(plan);
  const cohort = await cohortReport(data, plan);
  for (const line of [...summaryLines(summary), ...cohortLines(cohort)]) context.remark(line);
  if (!cohort.isUsable || cohort.training === 0) throw new StudyError("cohort.empty");
  const step = await reportStep((await startBackend()).statement.name, plan);
  for (const line of stepLines(step, plan)) context.remark(line);
  expectFits(step);
  if (!yes && !(await isConfirmed(study))) throw new StudyError("approval.declined");
  const statement = {
    origin: identity.origin,
    site: identity.site,
    study,
    plan: planDigest(plan),
    examples: cohort.training,
    approver,
    approvedAtMs: systemClock.nowMs(),
  };
  await keepPlan(context.home, statement.plan, planEnvelope);
  await writeApproval(context.home, study, {
    envelope: seal(ApprovalDocument, statement, identity.key),
    data,
  });
  present(context, approvalResult(summary, cohort, step), [
    `Approved ${study} with ${cohort.training} training and ${cohort.validation} validation cases.`,
    "A running agent picks it up within seconds; otherwise start one: consilium-site run",
  ]);
  return "done";
}

function approvalResult(
  summary: PlanSummary,
  { training, validation, refused }: CohortReport,
  step: StepReport,
): unknown {
  return { approved: true, ...summary, training, validation, refused, step };
}

/** The name of the study, typed, is the signature's pen. */
async function isConfirmed(study: StudyId): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError("usage.confirmation");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(`Type ${study} to approve this plan: `)).trim() === study;
  } finally {
    terminal.close();
  }
}
