// What the coordinator's log says of a study, for the report: scores round by round, versions, bytes.

import { command } from "./processes.ts";

export type RoundScores = {
  readonly round: number;
  readonly site: string;
  readonly labels: readonly { label: number; dice: number | null }[];
  readonly meanDice: number | null;
};

export type PhaseRecords = {
  /** Per round and site, as the sites reported it: mean Dice of each label on the fixed slices. */
  readonly rounds: readonly RoundScores[];
  /** The start version and what each round made of it, with the digests of their weights. */
  readonly versions: readonly {
    readonly round: number;
    readonly version: string;
    readonly weights: string;
  }[];
  readonly backends: readonly { site: string; name: string; isGpu: boolean }[];
  /** Bytes of one update's tensors, of all that were sent, and of a whole model in float32. */
  readonly bytes: { readonly perUpdate: number; readonly updates: number; readonly weights: number };
};

export type LogRecord = { kind: string; [key: string]: unknown };
const pageEntries = 500;

export async function readLog(operator: readonly string[], log: string): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for (;;) {
    const page = ["--from", String(records.length), "--limit", String(pageEntries)];
    const { output } = await command("consilium", [...operator, "--json", "audit", "show", ...page], log);
    const entries = output
      .split("\n")
      .filter((line) => line)
      .map((line) => (JSON.parse(line) as { record: LogRecord }).record); // Leaves of the log.
    records.push(...entries);
    if (entries.length < pageEntries) return records;
  }
}

type Payload = {
  report: { labels: { label: number; meanDice: number | null }[]; meanDice: number | null };
  delta: { bytes: number };
  backend: { name: string; isGpu: boolean };
};

export function phaseRecords(records: readonly LogRecord[], study: string): PhaseRecords {
  const of = (kind: string): LogRecord[] =>
    records.filter((record) => record.kind === kind && record["study"] === study);
  const versions = of("version.created").map((record) => {
    const { sha256, bytes } = record["weights"] as { sha256: string; bytes: number }; // Of the record's schema.
    return { round: Number(record["round"]), version: String(record["version"]), weights: sha256, bytes };
  });
  const roundOf = new Map(versions.map(({ version, round }) => [version, round]));
  const rounds = of("evaluation.reported").map((record) => {
    const { labels, meanDice } = payload(record).report;
    return {
      round: roundOf.get(String(record["version"])) ?? 0,
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

function payload(record: LogRecord): Payload {
  const { payload: text } = record["envelope"] as { payload: string }; // These records carry an envelope.
  return JSON.parse(Buffer.from(text, "base64").toString()) as Payload; // Checked when it was recorded.
}
