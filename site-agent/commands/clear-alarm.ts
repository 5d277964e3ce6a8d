// `consilium-site check --clear-alarm BY`: the documented way back after an alarm. A person puts their name to it. The
// held checkpoint stays, so a log that still does not continue it raises the alarm again, unless the person also says
// that the log as it is now is to be trusted, for instance after the operator restored a backup.

import { openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { evolveSite, initialSiteState } from "@consilium/shared/protocol/site-session.ts";
import type { ExitReason } from "../exit-codes.ts";
import { readEnrolled } from "../identity/site-file.ts";
import { JournalRecord, journalName } from "../journal-record.ts";
import { openJournal } from "../store/journal.ts";
import { type CommandContext, present } from "./command-context.ts";
import { openConnection, systemClock } from "./connection.ts";
import { UsageError } from "./usage-error.ts";

export type ClearAlarmOptions = { readonly by: string; readonly trustCurrentLog: boolean };

export async function clearAlarm(
  { by, trustCurrentLog }: ClearAlarmOptions,
  context: CommandContext,
): Promise<ExitReason> {
  const { home } = context;
  await readEnrolled(home);
  const options = { folder: home.folder, name: journalName, schema: JournalRecord };
  const journal = await openJournal({ ...options, clock: systemClock, pid: process.pid });
  try {
    const { alarm } = journal.records.reduce(evolveSite, initialSiteState);
    if (!alarm) throw new UsageError("usage.alarm-none");
    const trusted = trustCurrentLog ? await currentCheckpoint(context) : null;
    if (trusted) await journal.append({ kind: "checkpoint.witnessed", ...trusted });
    await journal.append({ kind: "alarm.cleared", by });
    present(context, { cleared: alarm.reason, by, witnessedSize: trusted?.size ?? null }, [
      `The alarm (${alarm.reason}) was cleared by ${by}; the journal keeps both.`,
      trusted
        ? `From now on this site is a witness of the log as it is: ${trusted.size} entries.`
        : "The held checkpoint stays: a log that does not continue it raises the alarm again.",
    ]);
    return "done";
  } finally {
    await journal.close();
  }
}

/** @throws CheckpointError when not even the pinned key has signed it */
async function currentCheckpoint({ home }: CommandContext): Promise<{ size: number; note: string }> {
  const connection = await openConnection(home);
  try {
    const { file } = connection.enrolled;
    const note = await connection.client.checkpoint();
    return { size: openCheckpoint(note, file.origin, file.coordinatorKey).size, note };
  } finally {
    await connection.close();
  }
}
