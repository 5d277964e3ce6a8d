// `consilium invite` and `consilium site …`.

import { writeFileSync } from "node:fs";
import { dayMs } from "@consilium/shared/base/units.ts";
import { InvitationAnswer, SitesAnswer, WithdrawalAnswer } from "@consilium/shared/protocol/http.ts";
import { Type } from "typebox";
import type { CommandContext } from "./context.ts";
import { table } from "./table.ts";

const Done = Type.Object({ done: Type.Literal(true) });

export async function inviteSite(
  site: string,
  { days, out }: { days: number; out?: string },
  { client, print, json }: CommandContext,
): Promise<void> {
  const answer = await client().post("/v1/invitations", { site, validForMs: days * dayMs }, InvitationAnswer);
  if (out) writeFileSync(out, `${answer.invitation}\n`, { mode: 0o600 });
  if (json) return print(JSON.stringify(out ? { ...answer, invitation: undefined, file: out } : answer));
  const until = new Date(answer.expiresAtMs).toISOString();
  print(out ? `invitation of ${site} in ${out}, valid until ${until}` : answer.invitation);
  if (!out)
    print(`\nFor ${site} alone, once, until ${until}: the hospital runs  consilium-site enrol INVITATION`);
}

export async function listSites({ client, print, json }: CommandContext): Promise<void> {
  const { sites } = await client().get("/v1/sites", SitesAnswer);
  if (json) return print(JSON.stringify(sites));
  const rows = sites.map((site) => [
    site.site,
    site.status,
    site.connected ? "connected" : "away",
    site.alarmed ? "ALARM" : "",
    new Date(site.enrolledAtMs).toISOString(),
  ]);
  print(
    rows.length > 0
      ? table(["site", "status", "presence", "witness", "enrolled"], rows)
      : "no site is enrolled: invite one with consilium invite SITE",
  );
}

export async function changeSite(
  site: string,
  verb: "suspension" | "resumption" | "retirement",
  { reason, context }: { reason: string; context: CommandContext },
): Promise<void> {
  await context.client().post(`/v1/sites/${encodeURIComponent(site)}/${verb}`, { reason }, Done);
  context.print(context.json ? JSON.stringify({ site, verb }) : `${site}: ${verb} recorded`);
}

export async function withdrawSite(
  site: string,
  study: string,
  { reason, context }: { reason: string; context: CommandContext },
): Promise<void> {
  const { versions, studies } = await context
    .client()
    .post(`/v1/studies/${encodeURIComponent(study)}/withdrawals`, { site, reason }, WithdrawalAnswer);
  if (context.json) return context.print(JSON.stringify({ site, study, versions, studies }));
  context.print(
    versions.length === 0
      ? `the contribution of ${site} had reached no version`
      : `withdrawn with the contribution of ${site}:\n${versions.map((version) => `  ${version}`).join("\n")}`,
  );
  for (const one of studies)
    context.print(
      `study ${one} starts from parts that hold a withdrawn contribution: withdraw there as well, or finish it`,
    );
}
