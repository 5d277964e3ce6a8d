// `consilium-site ledger`: what has left the house, by kind, and whether it adds up to what the connections carried.

import type { ExitReason } from "../exit-codes.ts";
import { type LedgerReport, readLedger } from "../transport/ledger-report.ts";
import { type CommandContext, present } from "./command-context.ts";

export async function showLedger(context: CommandContext): Promise<ExitReason> {
  const report = await readLedger(context.home.ledger);
  present(context, report, ledgerLines(report));
  return "done";
}

export function ledgerLines(report: LedgerReport): string[] {
  const rows = report.messages.map(({ channel, message, count, bytes }) =>
    row(`${message} (${channel})`, String(count), String(bytes)),
  );
  const { payloadBytes, framingBytes, wireBytes, connections, unbalancedProcesses } = report;
  return [
    row("what was sent", "messages", "bytes"),
    ...rows,
    row("all payloads", "", String(payloadBytes)),
    row(
      "framing: requests, headers, websocket, encryption",
      "",
      framingBytes < 0 ? "not balanced" : String(framingBytes),
    ),
    row(`on the wire, ${connections} connections`, "", String(wireBytes)),
    `${report.entries} entries, chain unbroken${period(report)}.`,
    ...(unbalancedProcesses > 0
      ? [
          `${unbalancedProcesses} process(es) are running or ended without a last balance: the newest of their`,
          "bytes are not yet in the wire total.",
        ]
      : []),
  ];
}

function row(what: string, count: string, bytes: string): string {
  return `${what.padEnd(52)}${count.padStart(9)}${bytes.padStart(16)}`;
}

function period({ firstAtMs, lastAtMs }: LedgerReport): string {
  if (firstAtMs === null || lastAtMs === null) return "";
  return `, from ${new Date(firstAtMs).toISOString()} to ${new Date(lastAtMs).toISOString()}`;
}
