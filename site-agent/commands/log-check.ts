// What the site's own journal says, and whether the coordinator's log continues the checkpoint that it holds. Reading
// only: an alarm found here is raised by the agent, which signs it.

import { openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { evolveSite, initialSiteState, type SiteState } from "@consilium/shared/protocol/site-session.ts";
import type { Home } from "../identity/home.ts";
import { JournalRecord, journalName } from "../journal-record.ts";
import { readJournal } from "../store/journal.ts";
import { Witness } from "../transport/witness.ts";
import { type Connection, systemClock } from "./connection.ts";

export type JournalSummary = {
  readonly approved: readonly string[];
  readonly unsettledUpdates: number;
  /** By study; null where the last version was taken out of use. */
  readonly installed: Readonly<Record<string, string | null>>;
  readonly witnessedSize: number | null;
  readonly alarm: string | null;
};

export async function journalState(home: Home): Promise<SiteState> {
  const records = await readJournal({ folder: home.folder, name: journalName, schema: JournalRecord });
  return records.reduce(evolveSite, initialSiteState);
}

/** @throws StoreError `log.damaged` */
export async function journalSummary(home: Home): Promise<JournalSummary> {
  const state = await journalState(home);
  return {
    approved: [...state.approvals.keys()],
    unsettledUpdates: [...state.updates.values()].filter(({ settled }) => !settled).length,
    installed: Object.fromEntries([...state.installed].map(([study, { version }]) => [study, version])),
    witnessedSize: state.witnessed?.size ?? null,
    alarm: state.alarm?.reason ?? null,
  };
}

export function journalLines({ approved, unsettledUpdates, witnessedSize, alarm }: JournalSummary): string[] {
  const studies = approved.length > 0 ? approved.join(", ") : "no study yet";
  return [
    `Journal   approved: ${studies}; ${unsettledUpdates} update(s) on the way`,
    `          witnessed ${witnessedSize === null ? "no checkpoint yet" : `the log up to ${witnessedSize} entries`}`,
    ...(alarm === null
      ? []
      : [
          `ALARM     the coordinator's log was altered (${alarm}); the agent does nothing until it is cleared.`,
        ]),
  ];
}

export type LogSummary = {
  readonly size: number;
  readonly witnessedSize: number | null;
  readonly continues: boolean;
};

/** @throws ProtocolError, TransportError, CheckpointError */
export async function logSummary({ client, enrolled }: Connection, home: Home): Promise<LogSummary> {
  const { identity, file } = enrolled;
  const { witnessed } = await journalState(home);
  const note = await client.checkpoint();
  let continues = true;
  const witness = new Witness({
    identity,
    coordinatorKey: file.coordinatorKey,
    clock: systemClock,
    held: () => witnessed,
    consistency: (from, to) => client.consistency(from, to),
    report: async ({ kind }) => {
      continues = kind === "witnessed";
    },
    onUnchecked: () => {
      continues = false;
    },
  });
  await witness.observe(note);
  const { size } = openCheckpoint(note, identity.origin, file.coordinatorKey);
  return { size, witnessedSize: witnessed?.size ?? null, continues };
}

export function logLines({ size, witnessedSize, continues }: LogSummary): string[] {
  if (!continues) {
    return [
      "ALARM     the coordinator's log does not continue the checkpoint that this site holds. Call the operator.",
    ];
  }
  const held =
    witnessedSize === null ? "" : ` and continues the ${witnessedSize} that this site has witnessed`;
  return [`Log       ${size} entries, signed with the pinned key${held}`];
}
