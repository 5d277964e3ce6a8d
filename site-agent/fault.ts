// What may be said of an error: the agent's own coded errors carry sentences written for people; of everything else
// only its kind and place in the code are shown, because its text may hold a path or worse.

import type { ExitReason } from "./exit-codes.ts";

const ownCode = /^[a-z]+(?:[.-][a-z]+)+$/;

/** The code of a coded error, the system's name of a system error, or `internal`. */
export function faultCode(error: unknown): string {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return "internal";
  return ownCode.test(error.code) || /^E[A-Z]{2,30}$/.test(error.code) ? error.code : "internal";
}

/** A sentence for the terminal. */
export function faultSentence(error: unknown): string {
  const code = faultCode(error);
  if (error instanceof Error && ownCode.test(code)) return `${error.message} (${code})`;
  const name = error instanceof Error ? error.name : typeof error;
  return `Something failed that was not foreseen: ${name}, ${code}${placeOf(error)}.`;
}

/** The exit that a command takes for an error. */
export function exitReasonOf(error: unknown): ExitReason {
  const code = faultCode(error);
  const exact = exactReasons[code];
  if (exact) return exact;
  return reasonsByPrefix.find(([prefix]) => code.startsWith(prefix))?.[1] ?? "failed";
}

const exactReasons: Readonly<Record<string, ExitReason>> = {
  "lock.held": "locked",
  "config.invalid": "configuration",
  "transport.insecure": "usage",
  "approval.declined": "notApproved",
};

const reasonsByPrefix: readonly (readonly [string, ExitReason])[] = [
  ["identity.", "identity"],
  ["invitation.malformed", "usage"],
  ["invitation.mismatch", "identity"],
  ["key.", "identity"],
  ["usage.", "usage"],
  ["transport.", "unreachable"],
  ["log.", "damaged"],
  ["blob.", "damaged"],
  ["model.", "damaged"],
  ["checkpoint.", "damaged"],
  ["nifti.", "data"],
  ["case.", "data"],
  ["folder.", "data"],
  ["cohort.", "data"],
  ["backend.", "backend"],
  ["compute.", "backend"],
  ["estimate.", "backend"],
  // Everything else with a code of the protocol's catalogue, signed documents included, is a refusal.
  ["auth.", "refused"],
  ["challenge.", "refused"],
  ["invitation.", "refused"],
  ["site.", "refused"],
  ["study.", "refused"],
  ["plan.", "refused"],
  ["version.", "refused"],
  ["envelope.", "refused"],
  ["request.", "refused"],
  ["protocol.", "refused"],
  ["not-ready", "refused"],
];

/** File and line of the agent's own code, never a message. */
function placeOf(error: unknown): string {
  const frames = error instanceof Error ? (error.stack ?? "").slice(error.message.length) : "";
  const frame = /^\s+at .*?([\w.-]+\.ts:[0-9]+)/m.exec(frames);
  return frame ? `, at ${frame[1]}` : "";
}
