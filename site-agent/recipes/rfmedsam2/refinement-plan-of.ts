// The numbers of refinement that a model of the recipe asks with: those of its record, and what SAM 2's own record adds.

import type { RefinementPlan } from "../../refinement/refinement-plan.ts";
import type { Rfmedsam2 } from "./model.ts";

export function refinementPlanOf({
  config,
  sam2Config,
}: Pick<Rfmedsam2, "config" | "sam2Config">): RefinementPlan {
  return { ...config.refinement, memoryFrameCount: sam2Config.tracking.memoryFrameCount };
}
