// `consilium-site enrol`: from an operator's invitation to a home folder with a key and a pinned coordinator.

import { readFile } from "node:fs/promises";
import type { ExitReason } from "../exit-codes.ts";
import { enrol } from "../identity/enrol.ts";
import { parseInvitation } from "../identity/invitation.ts";
import { type CommandContext, present } from "./command-context.ts";
import { systemClock } from "./connection.ts";
import { UsageError } from "./usage-error.ts";

export type EnrolOptions = { readonly insecureHttp: boolean; readonly ca?: string; readonly agent: string };

export async function enrolSite(
  invitation: string,
  { insecureHttp, ca, agent }: EnrolOptions,
  context: CommandContext,
): Promise<ExitReason> {
  const file = await enrol(parseInvitation(invitation), {
    home: context.home,
    insecureHttp,
    ca: ca === undefined ? null : await readAuthority(ca),
    agent,
    clock: systemClock,
    pid: process.pid,
  });
  const { site, origin, url, coordinatorKey, publicKey } = file;
  present(context, { site, origin, url, coordinatorKey, publicKey }, [
    `Enrolled as ${site} in ${origin}.`,
    `Coordinator ${url}, key ${coordinatorKey}. Compare it with what the operator told you.`,
    `This site's key ${publicKey}`,
    "Next: consilium-site check --data DIR, then consilium-site approve STUDY --data DIR",
  ]);
  return "done";
}

async function readAuthority(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new UsageError("usage.ca-unreadable", { cause });
  }
}
