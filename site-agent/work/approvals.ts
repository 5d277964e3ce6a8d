// The hospital's approvals: one file a study, with the signed approval and, for this site's own eyes, where its data
// are and which cases validate. The command writes them; the agent picks up what it does not know yet.

import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { StudyId } from "@consilium/shared/base/brand.ts";
import { Envelope, EnvelopeError, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { ApprovalDocument, type PlanApproval } from "@consilium/shared/protocol/documents.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { approvalFile, type Home } from "../identity/home.ts";
import { replaceFile } from "../store/durable-file.ts";
import type { SiteIdentity } from "../transport/session.ts";
import { StudyError } from "./study-error.ts";

const approvalBytesMax = 8 * 2 ** 20;
/** Studies that one site may take part in. */
export const approvalsMax = 256;

const CaseNames = Type.Array(Type.String({ minLength: 1, maxLength: 1000 }), { maxItems: 20_000 });

/** Names as on disk: they stay in this file. */
export const DataSelection = Type.Object(
  {
    folder: Type.String({ minLength: 1, maxLength: 4096 }),
    /** Which cases, in this order; null for all. */
    cases: Type.Union([CaseNames, Type.Null()]),
    /** Which of them validate; null for the last fifth. */
    validation: Type.Union([CaseNames, Type.Null()]),
  },
  { additionalProperties: false },
);
export type DataSelection = Static<typeof DataSelection>;

const ApprovalFile = Type.Object(
  { envelope: Envelope, data: DataSelection },
  { additionalProperties: false },
);

export type Approval = {
  readonly envelope: Envelope;
  readonly statement: PlanApproval;
  readonly data: DataSelection;
};

export async function writeApproval(
  home: Home,
  study: StudyId,
  file: Static<typeof ApprovalFile>,
): Promise<void> {
  await mkdir(home.approvals, { recursive: true, mode: 0o700 });
  await replaceFile(approvalFile(home, study), new TextEncoder().encode(`${JSON.stringify(file)}\n`));
}

/** @throws StudyError `approval.missing`, `approval.damaged` */
export async function readApproval(home: Home, study: StudyId, identity: SiteIdentity): Promise<Approval> {
  const approval = await readApprovalFile(approvalFile(home, study), identity);
  if (approval.statement.study !== study) throw new StudyError("approval.damaged");
  return approval;
}

/** Every approval that can be used; of the others only that there are some. */
export async function listApprovals(
  home: Home,
  identity: SiteIdentity,
): Promise<{ readonly approvals: readonly Approval[]; readonly damaged: number }> {
  const names = await readdir(home.approvals).catch(() => []);
  const approvals: Approval[] = [];
  let damaged = 0;
  for (const name of names.filter((one) => one.endsWith(".json")).slice(0, approvalsMax)) {
    try {
      const approval = await readApprovalFile(join(home.approvals, name), identity);
      if (`${approval.statement.study}.json` !== name) throw new StudyError("approval.damaged");
      approvals.push(approval);
    } catch (error) {
      if (!(error instanceof StudyError)) throw error;
      damaged += 1;
    }
  }
  return { approvals, damaged };
}

async function readApprovalFile(path: string, { origin, site, key }: SiteIdentity): Promise<Approval> {
  const status = await stat(path).catch((cause: unknown) => {
    throw new StudyError("approval.missing", { cause });
  });
  if (status.size > approvalBytesMax) throw new StudyError("approval.damaged");
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (!Value.Check(ApprovalFile, value)) throw new StudyError("approval.damaged");
    const statement = openEnvelope(ApprovalDocument, value.envelope, key.publicKey);
    if (statement.site !== site || statement.origin !== origin) throw new StudyError("approval.damaged");
    return { ...value, statement };
  } catch (cause) {
    if (cause instanceof EnvelopeError || cause instanceof SyntaxError) {
      throw new StudyError("approval.damaged", { cause });
    }
    throw cause;
  }
}
