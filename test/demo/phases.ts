// The studies of the demo: what each trains, the plan that is drafted for it from what the hospitals say of their
// images, and what it starts from.

import { join } from "node:path";
import { type SiteId, siteId, studyId } from "@consilium/shared/base/brand.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { draftPlan, type PlanDraft } from "@consilium/shared/model/draft-plan.ts";
import type { Federation } from "./hospitals.ts";
import { backendWords, type DemoOptions, type DemoPhase } from "./options.ts";
import { ask, command, eachOf } from "./processes.ts";

type CheckAnswer = {
  data: { fingerprint: CohortFingerprint; labels: { label: number; name: string | null }[] };
};

/** What a hospital tells whoever drafts the plan: sizes, spacings, intensity statistics, labels. */
export type SiteFacts = {
  readonly site: SiteId;
  readonly fingerprint: CohortFingerprint;
  readonly labels: CheckAnswer["data"]["labels"];
};

/** Each hospital looks at its own images. */
export async function siteFacts(
  options: DemoOptions,
  { hospitals, labelNames }: Federation,
  { logs, say }: { readonly logs: string; readonly say: (line: string) => void },
): Promise<SiteFacts[]> {
  const facts: SiteFacts[] = [];
  await eachOf(hospitals, async ({ name, data, home, split }) => {
    const words = ["--home", home, "--data", data, "--split", split, "--json", ...backendWords(options)];
    const answer = await ask<CheckAnswer>("site", ["check", ...words], join(logs, `${name}.log`));
    const { fingerprint, labels } = answer.data;
    facts.push({ site: siteId(name), fingerprint, labels });
    const { cases, modality } = fingerprint;
    const named = labels.map(({ label, name: known }) => known ?? labelNames.get(label) ?? label);
    say(
      `${name}: ${cases} ${modality === "mixed" ? "CT and MR" : modality} volumes, labels ${named.join(", ")}`,
    );
  });
  return facts.sort((a, b) => (a.site < b.site ? -1 : 1));
}

export function draftPhase(
  { study, trains, rounds, steps, batchSize }: DemoPhase,
  options: DemoOptions,
  { labelNames }: Federation,
  facts: readonly SiteFacts[],
): PlanDraft {
  const ids = new Set([
    ...labelNames.keys(),
    ...facts.flatMap(({ labels }) => labels.map(({ label }) => label)),
  ]);
  const labels = [...ids]
    .sort((a, b) => a - b)
    .map((id) => ({ id, name: labelNames.get(id) ?? `label ${id}` }));
  const title =
    options.data === null ? "Phantom CT and MR at three hospitals" : "A federation on one machine";
  return draftPlan({
    ...{ study: studyId(study), title, labels, rounds, batchSize },
    ...{ size: options.size, partialLabels: options.partialLabels, seed: options.seed },
    sites: facts.map(({ site, fingerprint }) => ({ site, fingerprint })),
    stepsPerRound: steps,
    ...(options.recipe === "rfmedsam2" && {
      refinement: { variant: "pretrained-micro", imageSize: options.imageSize, trains },
    }),
  });
}

type Opening = { readonly operator: readonly string[]; readonly logs: string; readonly file: string };

/**
 * The first phase starts from the SAM 2.1 that comes with the project and from a seed, the second from the version that
 * the first released. @param file the plan @returns the start version
 */
export async function openPhase(
  { study, trains }: DemoPhase,
  { recipe, seed, out, phases }: DemoOptions,
  { operator, logs, file }: Opening,
): Promise<string> {
  const start = join(out, "start.safetensors");
  const drawn = ["--seed", String(seed)];
  const log = join(logs, "coordinator.log");
  if (recipe === "rfmedsam2" && trains === "prompter") {
    const words = ["--plan", file, ...drawn, "--by", "demo", "--out", start, "--home", out];
    await command("site", ["start-model", ...words], log);
  }
  const from =
    recipe === "unet-prompter"
      ? drawn
      : trains === "prompter"
        ? ["--start", start]
        : ["--part", ...partsOf(phases[0]?.study ?? study, seed)];
  const words = [...operator, "--json", "study", "open", file, ...from];
  return (await ask<{ last: string }>("consilium", words, log)).last;
}

/** The prompter that was federated, the same base, and adapters that change nothing yet. */
function partsOf(study: string, seed: number): string[] {
  return [`prompter=${study}`, `sam2=${study}`, `adapters=seed:${seed}`];
}
