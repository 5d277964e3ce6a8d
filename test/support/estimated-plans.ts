// A small plan of each recipe whose steps are foretold, and a clock for it.

import { siteId } from "@consilium/shared/base/brand.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { smallRfmedsam2 } from "./small-rfmedsam2.ts";
import { tinyStudy } from "./tiny-study.ts";

/** A clock that counts how often it is asked: time never decides in a test. */
export function ticking(step: number): () => number {
  let passed = 0;
  return () => {
    passed += step;
    return passed;
  };
}

export const { plan: tinyPlan } = tinyStudy({
  key: generateSigningKey(),
  origin: "estimate.test",
  sites: [siteId("hospital-a"), siteId("hospital-b")],
});

/** Of two organs, with prompts from the truth alone. */
export function refinedConfig(changes: Parameters<typeof smallRfmedsam2>[0]) {
  const config = smallRfmedsam2(changes);
  return { ...config, prompts: { ...config.prompts, truthShare: 1 } };
}

export function planRefinedBy(config: ReturnType<typeof refinedConfig>): StudyPlan {
  return {
    ...tinyPlan,
    labels: [10, 20].map((id) => ({ id, name: `organ ${id}` })),
    recipe: { id: "rfmedsam2", version: 1, config },
    preprocessing: { ...tinyPlan.preprocessing, patch: { height: 16, width: 16 } },
    training: { ...tinyPlan.training, batchSize: 1, augmentation: "none", mirrorAxes: [] },
  };
}
