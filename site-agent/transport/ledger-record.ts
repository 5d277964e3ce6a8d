// What the outbound ledger writes down: every message that leaves the house by kind, size and digest, and the bytes
// that the connections to the coordinator carried in all. It never holds content.

import { Digest } from "@consilium/shared/protocol/names.ts";
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false } as const;
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** `upload.chunk`, `progress`, `plan.read`: what was said, never about whom. */
const MessageKind = Type.String({ pattern: "^[a-z]+(?:[.-][a-z]+)*$", maxLength: 64 });

export const Channel = Type.Union([Type.Literal("http"), Type.Literal("socket")]);
export type Channel = Static<typeof Channel>;

/** Sums since the first entry of a ledger. */
export const LedgerTotals = Type.Object(
  {
    messages: Type.Array(
      Type.Object({ channel: Channel, message: MessageKind, count: Bytes, bytes: Bytes }, strict),
      { maxItems: 256 },
    ),
    wireBytes: Bytes,
    connections: Bytes,
    /** Processes that began, and those of them that ended with a last balance. */
    opened: Bytes,
    closed: Bytes,
  },
  strict,
);
export type LedgerTotals = Static<typeof LedgerTotals>;

export const LedgerRecord = Type.Union([
  /** First record of a file: the head of the file before, and the sums up to there. */
  Type.Object(
    { kind: Type.Literal("carried"), previousHead: Type.Union([Digest, Type.Null()]), totals: LedgerTotals },
    strict,
  ),
  Type.Object({ kind: Type.Literal("opened") }, strict),
  /** Written before the message leaves. */
  Type.Object(
    { kind: Type.Literal("message"), channel: Channel, message: MessageKind, bytes: Bytes, sha256: Digest },
    strict,
  ),
  /** Bytes that all connections have carried since the balance before, framing and encryption included. */
  Type.Object({ kind: Type.Literal("wire"), bytes: Bytes, connections: Bytes }, strict),
  Type.Object({ kind: Type.Literal("closed") }, strict),
]);
export type LedgerRecord = Static<typeof LedgerRecord>;

export const emptyTotals: LedgerTotals = { messages: [], wireBytes: 0, connections: 0, opened: 0, closed: 0 };

export function addToTotals(totals: LedgerTotals, record: LedgerRecord): LedgerTotals {
  switch (record.kind) {
    case "carried":
      return record.totals;
    case "opened":
      return { ...totals, opened: totals.opened + 1 };
    case "closed":
      return { ...totals, closed: totals.closed + 1 };
    case "wire":
      return {
        ...totals,
        wireBytes: totals.wireBytes + record.bytes,
        connections: totals.connections + record.connections,
      };
    case "message":
      return { ...totals, messages: addMessage(totals.messages, { ...record, count: 1 }) };
  }
}

type MessageTotal = LedgerTotals["messages"][number];

function addMessage(
  totals: readonly MessageTotal[],
  { channel, message, count, bytes }: MessageTotal,
): MessageTotal[] {
  const isSame = (one: MessageTotal): boolean => one.channel === channel && one.message === message;
  const known = totals.find(isSame) ?? { channel, message, count: 0, bytes: 0 };
  const added = { ...known, count: known.count + count, bytes: known.bytes + bytes };
  return [...totals.filter((one) => !isSame(one)), added];
}

/** The sums of several ledgers in one. */
export function mergeTotals(all: readonly LedgerTotals[]): LedgerTotals {
  return all.reduce(
    (sum, one) => ({
      messages: one.messages.reduce<MessageTotal[]>(addMessage, sum.messages),
      wireBytes: sum.wireBytes + one.wireBytes,
      connections: sum.connections + one.connections,
      opened: sum.opened + one.opened,
      closed: sum.closed + one.closed,
    }),
    emptyTotals,
  );
}
