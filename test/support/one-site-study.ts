// One round of the tiny study for one site, as the test coordinator plays it: an offer, an evaluation, a release, each
// offered again at every hello until it is settled.

import type { SiteId } from "@consilium/shared/base/brand.ts";
import { planDigest } from "@consilium/shared/model/study-plan.ts";
import type { ToSite } from "@consilium/shared/protocol/messages.ts";
import type { HonestCoordinator } from "./honest-coordinator/honest-coordinator.ts";
import { type TinyStudy, tinyStudy, tinyVersion } from "./tiny-study.ts";

export type OneSiteStudy = {
  readonly study: TinyStudy;
  readonly candidate: ReturnType<typeof tinyVersion>;
  /** Whether the site has done everything. */
  isDone(): boolean;
};

export function playStudy(coordinator: HonestCoordinator, site: SiteId): OneSiteStudy {
  const study = tinyStudy({ key: coordinator.key, origin: coordinator.origin });
  const candidate = tinyVersion(study, coordinator.key, 2);
  const { plan } = study;
  coordinator.plans.set(plan.study, study.planEnvelope);
  for (const version of [study, candidate]) {
    coordinator.versions.set(version.start.version, version.versionEnvelope);
    coordinator.blobs.put(version.weights);
  }
  const digest = planDigest(plan);
  const { script } = { script: coordinator.study };
  const isDone = (): boolean => script.messages("version.installed").length > 0;
  script.owed = (): readonly ToSite[] => {
    const common = { study: plan.study, plan: digest };
    if (script.messages("plan.approve").length === 0) return [{ kind: "study.invitation", ...common }];
    if (!script.isSettled(`${site} ${plan.study} 1`)) {
      const timing = { round: 1, completedRounds: 0, remainingMs: 600_000 };
      return [{ kind: "round.offer", ...common, base: study.start, ...timing }];
    }
    if (!script.isSettled(`${site} ${plan.study} ${candidate.start.version}`)) {
      return [{ kind: "evaluation.offer", ...common, candidate: candidate.start, remainingMs: 600_000 }];
    }
    return [
      { kind: "study.finished", study: plan.study },
      { kind: "version.released", study: plan.study, released: candidate.start },
    ];
  };
  return { study, candidate, isDone };
}
