// `consilium audit …`, and `npm run verify`, which needs no coordinator.

import { readFileSync, statSync } from "node:fs";
import { publicKey } from "@consilium/shared/base/brand.ts";
import { GiB } from "@consilium/shared/base/units.ts";
import { EntriesAnswer, VerificationAnswer } from "@consilium/shared/protocol/http.ts";
import { type Verdict, verifyEvidence } from "../evidence/verify-evidence.ts";
import type { ExitName } from "../exit-codes.ts";
import type { CommandContext } from "./context.ts";
import { save } from "./model-commands.ts";

/** A bundle is read whole; Node reads no larger file at once. */
const bundleBytesMax = 2 * GiB - 1;
const keysMax = 1000;

export async function verifyLog({ client, print, json }: CommandContext): Promise<ExitName> {
  const answer = await client().post("/v1/audit/verification", {}, VerificationAnswer);
  if (json) print(JSON.stringify(answer));
  else if (answer.ok)
    print(
      `verified: ${answer.entries} entries; every hash, signature, rule and table row is as the log says\n\n${answer.checkpoint}`,
    );
  else
    print(
      `NOT VERIFIED, ${answer.faults.length} fault(s):\n${answer.faults.map((fault) => `  ${fault}`).join("\n")}`,
    );
  return answer.ok ? "done" : "notVerified";
}

export async function exportEvidenceOf(version: string, out: string, context: CommandContext): Promise<void> {
  await save(`/v1/versions/${encodeURIComponent(version)}/evidence`, out, context);
}

export async function showEntries(
  { from, limit }: { from: number; limit: number },
  { client, print, json }: CommandContext,
): Promise<void> {
  const { entries } = await client().get(`/v1/audit/entries?from=${from}&limit=${limit}`, EntriesAnswer);
  for (const leaf of entries) {
    if (json) print(leaf);
    else {
      const { index, atMs, record } = JSON.parse(leaf) as {
        index: number;
        atMs: number;
        record: Record<string, unknown>;
      }; // A leaf is a log entry.
      const { kind, envelope: _, ...rest } = record;
      const about = Object.entries(rest).map(([key, value]) => `${key}=${shortened(value)}`);
      print(
        `${String(index).padStart(5)}  ${new Date(atMs).toISOString()}  ${String(kind).padEnd(22)} ${about.join(" ")}`,
      );
    }
  }
}

function shortened(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[0-9a-f]{64}$/.test(text) ? text.slice(0, 12) : text;
}

export type VerifyOptions = { readonly keys: string; readonly witness?: string };

/** The offline verifier. */
export async function verifyBundle(
  bundle: string,
  { keys, witness }: VerifyOptions,
  { print, json }: Pick<CommandContext, "print" | "json">,
): Promise<ExitName> {
  if (statSync(bundle).size > bundleBytesMax)
    throw new RangeError(`a bundle larger than ${bundleBytesMax} bytes is not read`);
  const trusted = readFileSync(keys, "utf8")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line && !line.startsWith("#"));
  if (trusted.length === 0 || trusted.length > keysMax)
    throw new RangeError("--keys names a file with one public key a line");
  const trust = { keys: trusted.map(publicKey), witness: witness ? readFileSync(witness, "utf8") : null };
  const verdict = await verifyEvidence(new Uint8Array(readFileSync(bundle)), trust);
  print(json ? JSON.stringify(verdict) : inWords(verdict));
  const exits: Record<Verdict["verdict"], ExitName> = {
    verified: "done",
    "not-recomputable": "notRecomputable",
    failed: "notVerified",
  };
  return exits[verdict.verdict];
}

function inWords({ verdict, faults, facts }: Verdict): string {
  const headline = {
    verified: "VERIFIED",
    "not-recomputable": "VERIFIED, NOT RECOMPUTABLE",
    failed: "NOT VERIFIED",
  }[verdict];
  return [headline, ...faults.map((fault) => `  fault: ${fault}`), ...facts.map((fact) => `  ${fact}`)].join(
    "\n",
  );
}
