// Recomputes every aggregate of a lineage from the stored updates, with the plain loops instead of the fast kernel, and
// compares the result byte for byte; draws a seeded start model again.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { aggregate, weightOf } from "../aggregation/fedavg.ts";
import { plainKernel, type VectorKernel } from "../aggregation/vector-kernel.ts";
import { exceeds, measure } from "../intake/finite-and-bounded.ts";
import { MemoryArtifactStore } from "../versions/memory-artifact-store.ts";
import { architectureOf, draw } from "../versions/start-model.ts";
import { holdsExactly, TensorReader } from "../versions/tensor-reader.ts";
import { type BundleIndex, lineageOf } from "./bundle.ts";
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
    else if (from.kind === "seeded") {
      const drawn = draw(store, architecture, plan.recipe.config, from.seed);
      if (drawn.sha256 !== weights.sha256)
        throw new Error(`the start model is not the one that seed ${from.seed} gives`);
      facts.push(`the start model was drawn again from seed ${from.seed}`);
    } else {
      const base = checker.manifests.get(from.parent)?.weights.sha256;
      if (!base) throw new Error(`version ${version} has no parent`);
      for (const { delta, site } of from.contributions) {
        const fault = await updateFault(store, delta, check);
        if (fault) throw new Error(`the update of ${site} in round ${from.round} ${fault}`);
      }
      const deltas = from.contributions.map(({ delta, examples }) => ({
        delta,
        weight: weightOf(examples, plan.aggregation.examplesPerSiteMax),
      }));
      const again = await aggregate({ store, base, manifest, deltas, kernel: check.kernel });
      if (again.sha256 !== weights.sha256)
        throw new Error(`the weights of round ${from.round} are not the aggregate of its updates`);
      facts.push(
        `the aggregate of round ${from.round} was recomputed bit for bit from ${deltas.length} updates`,
      );
    }
  }
  return facts;
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
