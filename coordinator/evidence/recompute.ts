// Recomputes every aggregate of a lineage from the stored updates, with the plain loops instead of the fast kernel, and
// compares the result byte for byte; draws a seeded start model again.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { aggregate, weightOf } from "../aggregation/fedavg.ts";
import { plainKernel, type VectorKernel } from "../aggregation/vector-kernel.ts";
import { exceeds, measure } from "../intake/finite-and-bounded.ts";
import { MemoryArtifactStore } from "../versions/memory-artifact-store.ts";
import { architectureOf, draw } from "../versions/start-model.ts";
import { holdsExactly, TensorReader } from "../versions/tensor-reader.ts";
import { type BundleIndex, lineageOf } from "./bundle.ts";
import { checkPartBytes } from "./check-part-bytes.ts";
import type { RecordChecker } from "./check-records.ts";

export type Lineage = {
  readonly index: BundleIndex;
  readonly state: FederationState;
  readonly checker: RecordChecker;
  readonly read: (blob: Sha256) => Uint8Array | undefined;
};

/** @returns what was recomputed, in sentences @throws Error naming what does not come out */
export async function recomputeLineage({ index, state, checker, read }: Lineage): Promise<string[]> {
  const plan = checker.plans.get(index.study);
  const lineage = lineageOf(state, index);
  if (!plan || !lineage) throw new Error("the study has no plan");
  const architecture = architectureOf(plan.recipe);
  const manifest = architecture.trainable(plan.recipe.config);
  const store = new MemoryArtifactStore(read);
  const check = { manifest, bound: plan.protection.normL2, kernel: plainKernel() };
  const facts: string[] = [];
  for (const { version } of lineage) {
    const made = checker.manifests.get(version);
    if (!made) throw new Error(`version ${version} has no manifest`);
    const { from, weights } = made;
    if (from.kind === "imported") facts.push("the start model was imported: its origin is outside this log");
    else if (from.kind === "composed") facts.push("the start model was put together by the coordinator");
    else if (from.kind === "seeded") {
      const drawn = draw(store, architecture, plan.recipe.config, from.seed);
      if (drawn.sha256 !== weights.sha256)
        throw new Error(`the start model is not the one that seed ${from.seed} gives`);
      facts.push(`the start model was drawn again from seed ${from.seed}`);
    } else facts.push(await recomputeRound({ store, checker, plan, ...check }, made, from));
    if (made.parts) await checkPartBytes(store, { architecture, config: plan.recipe.config }, made);
  }
  return facts;
}

/**
 * Where updates were deleted nothing is recomputed, but the weights that are there still have their parts.
 * @throws Error naming the first part that is another
 */
export async function checkCarriedParts({ index, state, checker, read }: Lineage): Promise<void> {
  const plan = checker.plans.get(index.study);
  for (const { version, weights } of lineageOf(state, index) ?? []) {
    const made = checker.manifests.get(version);
    if (!plan || !made?.parts || !read(weights.sha256)) continue;
    const recipe = { architecture: architectureOf(plan.recipe), config: plan.recipe.config };
    await checkPartBytes(new MemoryArtifactStore(read), recipe, made);
  }
}

type Round = UpdateCheck & {
  readonly store: MemoryArtifactStore;
  readonly checker: RecordChecker;
  readonly plan: StudyPlan;
};

async function recomputeRound(
  { store, checker, plan, ...check }: Round,
  { weights }: ModelVersionManifest,
  { round, parent, contributions }: Extract<ModelVersionManifest["from"], { kind: "aggregated" }>,
): Promise<string> {
  const base = checker.manifests.get(parent)?.weights.sha256;
  if (!base) throw new Error(`the version of round ${round} has no parent`);
  for (const { delta, site } of contributions) {
    const fault = await updateFault(store, delta, check);
    if (fault) throw new Error(`the update of ${site} in round ${round} ${fault}`);
  }
  const deltas = contributions.map(({ delta, examples }) => ({
    delta,
    weight: weightOf(examples, plan.aggregation.examplesPerSiteMax),
  }));
  const { manifest, kernel } = check;
  const again = await aggregate({ store, base, manifest, deltas, kernel });
  if (again.sha256 !== weights.sha256)
    throw new Error(`the weights of round ${round} are not the aggregate of its updates`);
  return `the aggregate of round ${round} was recomputed bit for bit from ${deltas.length} updates`;
}

type UpdateCheck = {
  readonly manifest: ParameterManifest;
  readonly bound: number;
  readonly kernel: VectorKernel;
};

/** An honest intake would have refused it. */
async function updateFault(
  store: MemoryArtifactStore,
  delta: Sha256,
  { manifest, bound, kernel }: UpdateCheck,
): Promise<string | null> {
  const reader = TensorReader.open(store, delta);
  if (!holdsExactly(reader, manifest)) return "does not hold the tensors of the manifest";
  const { isFinite: finite, normL2 } = await measure(reader, manifest, kernel);
  if (!finite) return "holds values that are not finite";
  return exceeds(normL2, bound) ? "is larger than the plan's clipping norm" : null;
}
