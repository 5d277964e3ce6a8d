// `consilium model …`: list, release, roll back, export.

import { createWriteStream, renameSync, rmSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { claimedSigner, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { EnvelopeAnswer, VersionsAnswer } from "@consilium/shared/protocol/http.ts";
import { originWords } from "@consilium/shared/protocol/version-parts.ts";
import { Type } from "typebox";
import type { CommandContext } from "./context.ts";
import { table } from "./table.ts";

const Released = Type.Object({ released: Type.Union([Type.String(), Type.Null()]) });

export async function listVersions(study: string, { client, print, json }: CommandContext): Promise<void> {
  const { versions } = await client().get(
    `/v1/studies/${encodeURIComponent(study)}/versions`,
    VersionsAnswer,
  );
  if (json) return print(JSON.stringify(versions));
  const rows = versions.map((one) => [
    one.version,
    String(one.round),
    one.round === 0 ? "start" : one.withdrawn ? "WITHDRAWN" : one.judged,
    one.meanDice?.toFixed(4) ?? "-",
    one.released ? "released" : "",
    one.contributors.join(","),
    ...one.parts.map(({ sha256 }) => sha256.slice(0, 12)),
  ]);
  const parts = versions[0]?.parts.map(({ part }) => part) ?? [];
  print(table(["version", "round", "judged", "mean Dice", "", "contributors", ...parts], rows));
}

/** The manifest of one version; who has signed it is shown, not checked against a list. */
export async function showVersion(version: string, { client, print, json }: CommandContext): Promise<void> {
  const { envelope } = await client().get(`/v1/versions/${encodeURIComponent(version)}`, EnvelopeAnswer);
  const signer = claimedSigner(envelope);
  const manifest = openEnvelope(ModelVersionDocument, envelope, signer);
  if (json) return print(JSON.stringify({ version, signer, manifest }));
  const { study, recipe, weights, from, parts = [] } = manifest;
  const lines = [
    `version   ${version}`,
    `study     ${study}, recipe ${recipe.id} ${recipe.version}`,
    `weights   ${weights.sha256}, ${weights.bytes} bytes`,
    `from      ${fromWords(from)}`,
    ...parts.map(({ part, sha256, origin }) => `${part.padEnd(9)} ${sha256}: ${originWords(origin)}`),
    `signed by ${signer}`,
  ];
  print(lines.join("\n"));
}

function fromWords(from: ModelVersionManifest["from"]): string {
  switch (from.kind) {
    case "seeded":
      return `seed ${from.seed}`;
    case "imported":
      return "a file that the operator brought";
    case "composed":
      return "parts that the coordinator put together";
    case "aggregated":
      return `round ${from.round}, parent ${from.parent}, by ${from.contributions.map(({ site }) => site).join(", ")}`;
  }
}

export async function releaseVersion(
  study: string,
  version: string | null,
  { reason, context }: { reason: string; context: CommandContext },
): Promise<void> {
  const { released } = await context
    .client()
    .post(`/v1/studies/${encodeURIComponent(study)}/release`, { version, reason }, Released);
  context.print(context.json ? JSON.stringify({ study, released }) : `released: ${released}`);
}

export async function rollBackVersion(
  study: string,
  { reason, context }: { reason: string; context: CommandContext },
): Promise<void> {
  const { released } = await context
    .client()
    .post(`/v1/studies/${encodeURIComponent(study)}/rollback`, { reason }, Released);
  context.print(
    context.json
      ? JSON.stringify({ study, released })
      : released
        ? `back to ${released}`
        : "no version is in use any more",
  );
}

export async function exportVersion(version: string, out: string, context: CommandContext): Promise<void> {
  await save(`/v1/versions/${encodeURIComponent(version)}/model`, out, context);
}

/** Written beside the target first: a download that was cut leaves nothing that looks whole. */
export async function save(
  path: string,
  out: string,
  { client, print, json }: CommandContext,
): Promise<void> {
  const partial = `${out}.part`;
  try {
    await pipeline(await client().download(path), createWriteStream(partial));
    renameSync(partial, out);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
  print(json ? JSON.stringify({ file: out }) : `written: ${out}`);
}
