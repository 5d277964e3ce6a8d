// The operator's commands about studies and their versions: open, abort a round, finish, release, roll back.

import type { ModelVersionId, StudyId } from "@consilium/shared/base/brand.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { planDigest, planFaults, StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import type { LogRecord, StudyRecord } from "@consilium/shared/protocol/records.ts";
import { release, rollBack } from "@consilium/shared/protocol/release.ts";
import type { StudyState } from "@consilium/shared/protocol/study-state.ts";
import { Value } from "typebox/value";
import type { AuditLog } from "../audit/audit-log.ts";
import type { RoundRunner } from "../rounds/round-runner.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import { standing } from "../versions/compose-weights.ts";
import { versionId } from "../versions/derive.ts";
import { recordedVersion } from "../versions/recorded-version.ts";
import { architectureOf, createStartVersion, type StartModel } from "../versions/start-model.ts";

const faultsListedMax = 50;

export type StudiesPorts = {
  readonly log: AuditLog;
  readonly runner: RoundRunner;
  readonly artifacts: ArtifactStore;
  readonly key: SigningKey;
};

export class Studies {
  readonly #ports: StudiesPorts;

  constructor(ports: StudiesPorts) {
    this.#ports = ports;
  }

  /**
   * Sign a plan and make it the study's, together with the version that it starts from.
   * @param draft a plan without `startVersion` and `parameterManifest`, which follow from the recipe and `start`
   * @throws ProtocolError plan.invalid or provenance.refused with every fault, study.name-taken, blob.unknown,
   *   version.unknown, version.wrong-state
   */
  async open(draft: Readonly<Record<string, unknown>>, start: StartModel): Promise<StudyPlan> {
    const { log, runner, artifacts, key } = this.#ports;
    await log.refresh(); // A version that another process has recorded may be a part's origin.
    const placeholder = "0".repeat(64);
    const shaped = shapedPlan({ ...draft, startVersion: placeholder, parameterManifest: placeholder });
    architectureOf(shaped.recipe);
    this.#checkSites(shaped, log.state);
    const { origin } = log;
    const manifest = await createStartVersion(artifacts, {
      origin,
      study: shaped.study,
      recipe: shaped.recipe,
      start,
      findVersion: (known) => recordedVersion(log.state, known),
    });
    const version = versionId(manifest);
    const plan = shapedPlan({
      ...draft,
      startVersion: version,
      parameterManifest: manifest.parameterManifest,
    });
    const signedVersion = seal(ModelVersionDocument, manifest, key);
    const signedPlan = seal(StudyPlanDocument, plan, key);
    const { study, rounds } = plan;
    await log.append((state, nowMs): LogRecord[] => {
      if (state.studies.has(study)) throw new ProtocolError("study.name-taken");
      this.#checkSites(plan, state);
      checkOrigins(manifest, state);
      const { weights } = manifest;
      const recruitUntilMs = nowMs + rounds.recruitmentMs;
      return [
        {
          kind: "version.created",
          study,
          round: 0,
          version,
          weights,
          evaluateUntilMs: nowMs,
          envelope: signedVersion,
        },
        { kind: "study.opened", study, plan: planDigest(plan), recruitUntilMs, envelope: signedPlan },
      ];
    });
    await runner.handle(study, { kind: "started" });
    await runner.sitesChanged(); // Connected sites hear of the plan at once.
    return plan;
  }

  async abortRound(study: StudyId): Promise<void> {
    const { phase } = this.#ports.runner.context(study).state;
    if (phase === "waiting" || phase === "finished") throw new ProtocolError("round.none-open");
    await this.#ports.runner.handle(study, { kind: "abort-round" });
  }

  async finish(study: StudyId): Promise<void> {
    if (this.#ports.runner.context(study).state.phase === "finished")
      throw new ProtocolError("study.finished");
    await this.#ports.runner.handle(study, { kind: "finish" });
  }

  async release(
    study: StudyId,
    version: ModelVersionId | null,
    reason: string,
  ): Promise<ModelVersionId | null> {
    await this.#append(study, (state) => release(state, version, reason));
    return this.#offerRelease(study);
  }

  async rollBack(study: StudyId, reason: string): Promise<ModelVersionId | null> {
    await this.#append(study, (state) => rollBack(state, reason));
    return this.#offerRelease(study);
  }

  /** Connected sites hear of it at once; the others when they ask. */
  async #offerRelease(study: StudyId): Promise<ModelVersionId | null> {
    const { plan, state } = this.#ports.runner.context(study);
    for (const site of plan.sites) await this.#ports.runner.handle(study, { kind: "hello", site });
    return state.released.at(-1) ?? null;
  }

  async #append(study: StudyId, decide: (state: StudyState) => StudyRecord[]): Promise<void> {
    await this.#ports.log.append((federation) => {
      const state = federation.studies.get(study);
      if (!state) throw new ProtocolError("study.unknown");
      return decide(state);
    });
  }

  #checkSites(plan: StudyPlan, state: FederationState): void {
    const unknown = plan.sites.filter((site) => state.enrolment.sites.get(site)?.status !== "active");
    if (unknown.length > 0)
      throw new ProtocolError(
        "plan.invalid",
        unknown.map((site) => `sites: ${site} is not an active site`),
      );
  }
}

/** Between the check of a start model and its record a site may have taken its contribution back. */
function checkOrigins({ parts = [] }: ModelVersionManifest, state: FederationState): void {
  for (const { origin } of parts)
    if (origin.kind === "version") standing(recordedVersion(state, origin.version));
}

function shapedPlan(value: unknown): StudyPlan {
  if (!Value.Check(StudyPlan, value)) {
    const faults = [...Value.Errors(StudyPlan, value)].map(
      (error) => `${error.instancePath || "/"}: ${error.message}`,
    );
    throw new ProtocolError("plan.invalid", faults.slice(0, faultsListedMax));
  }
  const faults = planFaults(value);
  if (faults.length > 0) throw new ProtocolError("plan.invalid", faults);
  return value;
}
