// Checks one log entry after another: may it follow, and does the signed document that it carries say the same, under
// the key that was on record at that moment? Used by fsck on the database and by the offline verifier on a bundle.

import type { ModelVersionId, PublicKey, SiteId, StudyId } from "@consilium/shared/base/brand.ts";
import { documentDigest } from "@consilium/shared/crypto/digest.ts";
import {
  type DocumentType,
  type Envelope,
  envelopeDigest,
  openEnvelope,
} from "@consilium/shared/crypto/envelope.ts";
import type { Json } from "@consilium/shared/encoding/canonical-json.ts";
import {
  planDigest,
  planFaults,
  type StudyPlan,
  StudyPlanDocument,
} from "@consilium/shared/model/study-plan.ts";
import {
  AlarmDocument,
  ApprovalDocument,
  EnrolmentDocument,
  EvaluationDocument,
  InstallationDocument,
  ModelVersionDocument,
  type ModelVersionManifest,
  UpdateDocument,
} from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { illegalities } from "@consilium/shared/protocol/legality.ts";
import {
  isStudyRecord,
  type LogEntry,
  type LogRecord,
  type RecordOf,
} from "@consilium/shared/protocol/records.ts";
import { acceptedInOrder } from "@consilium/shared/protocol/round.ts";
import type { Static, TSchema } from "typebox";
import { partFaults } from "./check-parts.ts";

export class RecordChecker {
  readonly #origin: string;
  readonly #coordinatorKey: PublicKey;
  readonly plans = new Map<StudyId, StudyPlan>();
  readonly manifests = new Map<ModelVersionId, ModelVersionManifest>();

  /** @param coordinatorKey the only key that is trusted; the sites' keys come from the log that it signed */
  constructor(origin: string, coordinatorKey: PublicKey) {
    this.#origin = origin;
    this.#coordinatorKey = coordinatorKey;
  }

  /** What is wrong with `entry` as the next one after `state`; empty when nothing is. */
  check(state: FederationState, entry: LogEntry): string[] {
    const { record } = entry;
    const plan = isStudyRecord(record) ? (this.plans.get(record.study) ?? null) : null;
    const illegal = illegalities(state, entry, plan);
    try {
      return [...illegal, ...this.#documentFaults(state, record)];
    } catch (error) {
      return [...illegal, (error as Error).message]; // An envelope that does not open says why.
    }
  }

  #documentFaults(state: FederationState, record: LogRecord): string[] {
    switch (record.kind) {
      case "log.opened":
        return differences({
          origin: [record.origin, this.#origin],
          key: [record.coordinatorKey, this.#coordinatorKey],
        });
      case "site.enrolled": {
        const { site, invitation, publicKey } = record;
        const request = this.#open(EnrolmentDocument, record.envelope, publicKey);
        return differences({
          site: [request.site, site],
          invitation: [request.invitation, invitation],
          key: [request.publicKey, publicKey],
        });
      }
      case "study.opened":
        return this.#planFaults(record);
      case "version.created":
        return this.#versionFaults(state, record);
      case "update.accepted":
        return this.#updateFaults(state, record);
      case "plan.approved":
      case "evaluation.reported":
      case "version.installed":
      case "witness.alarmed":
        return this.#siteDocumentFaults(state, record);
      default:
        return [];
    }
  }

  #siteDocumentFaults(
    state: FederationState,
    record:
      | RecordOf<"plan.approved">
      | RecordOf<"evaluation.reported">
      | RecordOf<"version.installed">
      | RecordOf<"witness.alarmed">,
  ): string[] {
    const { site, envelope } = record;
    const key = siteKey(state, site);
    switch (record.kind) {
      case "plan.approved": {
        const approval = this.#open(ApprovalDocument, envelope, key);
        const plan = state.plans.get(record.study)?.plan;
        return differences({
          site: [approval.site, site],
          study: [approval.study, record.study],
          plan: [approval.plan, plan],
          examples: [approval.examples, record.examples],
        });
      }
      case "evaluation.reported": {
        const { report, ...statement } = this.#open(EvaluationDocument, envelope, key);
        return differences({
          site: [statement.site, site],
          study: [statement.study, record.study],
          version: [statement.version, record.version],
          dice: [report.meanDice, record.meanDice],
        });
      }
      case "version.installed": {
        const statement = this.#open(InstallationDocument, envelope, key);
        return differences({
          site: [statement.site, site],
          study: [statement.study, record.study],
          version: [statement.version, record.version],
        });
      }
      case "witness.alarmed":
        return differences({
          site: [this.#open(AlarmDocument, envelope, key).site, site],
          alarm: [envelopeDigest(envelope), record.alarm],
        });
    }
  }

  #planFaults(record: RecordOf<"study.opened">): string[] {
    const plan = openEnvelope(StudyPlanDocument, record.envelope, this.#coordinatorKey);
    this.plans.set(record.study, plan);
    const start = this.manifests.get(plan.startVersion);
    return [
      ...planFaults(plan),
      ...differences({
        study: [plan.study, record.study],
        plan: [planDigest(plan), record.plan],
        "start version": [start?.study, record.study],
        "parameter manifest": [start?.parameterManifest, plan.parameterManifest],
      }),
    ];
  }

  #versionFaults(state: FederationState, record: RecordOf<"version.created">): string[] {
    const manifest = this.#open(ModelVersionDocument, record.envelope, this.#coordinatorKey);
    this.manifests.set(record.version, manifest);
    const { study, version, round, weights } = record;
    const common = {
      study: [manifest.study, study],
      version: [documentDigest("model-version", manifest as Json), version], // The schema describes JSON.
      weights: [`${manifest.weights.sha256} ${manifest.weights.bytes}`, `${weights.sha256} ${weights.bytes}`],
    } as const;
    const { from } = manifest;
    const { manifests } = this;
    const parts = partFaults(manifest, { state, manifests, plan: this.plans.get(study) });
    if (from.kind !== "aggregated")
      return [
        ...differences(common),
        ...(round === 0 ? [] : ["a round's version must be aggregated"]),
        ...parts,
      ];
    const studied = state.studies.get(study);
    const accepted = studied ? acceptedInOrder(studied) : [];
    const different = differences({
      ...common,
      round: [from.round, round],
      parent: [from.parent, studied?.baseVersion],
      plan: [manifest.plan, state.plans.get(study)?.plan],
      contributions: [from.contributions.map(contribution).join(), accepted.map(contribution).join()],
    });
    return [...different, ...parts];
  }

  #updateFaults(state: FederationState, record: RecordOf<"update.accepted">): string[] {
    const { study, site, round, delta, update, examples, envelope } = record;
    const statement = this.#open(UpdateDocument, envelope, siteKey(state, site));
    return differences({
      update: [envelopeDigest(envelope), update],
      site: [statement.site, site],
      study: [statement.study, study],
      round: [statement.round, round],
      plan: [statement.plan, state.plans.get(study)?.plan],
      base: [statement.baseVersion, state.studies.get(study)?.baseVersion],
      delta: [statement.delta.sha256, delta],
      examples: [statement.examples, examples],
    });
  }

  /** Opens a document and makes sure that it was made for this federation. */
  #open<T extends TSchema>(type: DocumentType<T>, envelope: Envelope, key: PublicKey): Static<T> {
    const document = openEnvelope(type, envelope, key);
    const { origin } = document as { origin?: string }; // Every document but the plan names the log it was made for.
    if (origin !== this.#origin) throw new Error("the document was made for another federation");
    return document;
  }
}

function siteKey(state: FederationState, site: SiteId): PublicKey {
  const key = state.enrolment.sites.get(site)?.publicKey;
  if (!key) throw new Error("the site is not enrolled");
  return key;
}

function contribution(one: { site: SiteId; delta: string; update: string; examples: number }): string {
  return `${one.site} ${one.delta} ${one.update} ${one.examples}`;
}

/** Fields in which the signed document and the record differ. */
function differences(fields: Record<string, readonly [signed: unknown, recorded: unknown]>): string[] {
  const different = Object.entries(fields).filter(([, [signed, recorded]]) => signed !== recorded);
  return different.map(([name]) => `${name}: the record and the signed document differ`);
}
