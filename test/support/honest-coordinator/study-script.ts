// What the test coordinator makes of a site's messages: every document is opened with the site's key and checked
// against the blobs, then answered; what is owed after a hello is what the test says.

import type { PublicKey, SiteId } from "@consilium/shared/base/brand.ts";
import { envelopeDigest, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import {
  AlarmDocument,
  ApprovalDocument,
  EvaluationDocument,
  InstallationDocument,
  UpdateDocument,
} from "@consilium/shared/protocol/documents.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import type { BlobShelf } from "./blob-shelf.ts";
import type { TransparencyLog } from "./transparency-log.ts";

export type Incident = { readonly site: SiteId; readonly message: ToCoordinator };

export class StudyScript {
  /** Every message of a site that was understood, in order. */
  readonly incidents: Incident[] = [];
  /** What a site that says hello still has to do. */
  owed: (site: SiteId) => readonly ToSite[] = () => [];
  readonly #log: TransparencyLog;
  readonly #blobs: BlobShelf;
  readonly #settled = new Map<string, string>();

  constructor(log: TransparencyLog, blobs: BlobShelf) {
    this.#log = log;
    this.#blobs = blobs;
  }

  /** @throws EnvelopeError for a document that is not the site's */
  take(site: SiteId, key: PublicKey, message: ToCoordinator): readonly ToSite[] {
    this.incidents.push({ site, message });
    switch (message.kind) {
      case "session.hello":
        return this.owed(site);
      case "plan.approve": {
        openEnvelope(ApprovalDocument, message.envelope, key);
        this.#record(`approval ${envelopeDigest(message.envelope)}`);
        return this.owed(site);
      }
      case "update.submit": {
        const { study, round, delta } = openEnvelope(UpdateDocument, message.envelope, key);
        const digest = envelopeDigest(message.envelope);
        const isHere = this.#blobs.get(delta.sha256)?.length === delta.bytes;
        const first = this.#settled.get(`${site} ${study} ${round}`) ?? digest;
        if (isHere && first === digest) this.#settle(`${site} ${study} ${round}`, digest);
        const outcome = !isHere ? "update.blob-missing" : first === digest ? "accepted" : "update.duplicate";
        return [{ kind: "update.settled", study, round, outcome }, ...this.owed(site)];
      }
      case "evaluation.submit": {
        const { study, version } = openEnvelope(EvaluationDocument, message.envelope, key);
        this.#settle(`${site} ${study} ${version}`, envelopeDigest(message.envelope));
        return [{ kind: "evaluation.settled", study, version, outcome: "accepted" }, ...this.owed(site)];
      }
      case "version.installed":
        openEnvelope(InstallationDocument, message.envelope, key);
        this.#record(`installation ${envelopeDigest(message.envelope)}`);
        return [];
      case "witness.alarm":
        openEnvelope(AlarmDocument, message.envelope, key);
        return [];
      case "progress":
        return [];
    }
  }

  /** Whether something was settled under this name: `hospital-a liver 1` for a round, with a version for a report. */
  isSettled(what: string): boolean {
    return this.#settled.has(what);
  }

  messages<K extends ToCoordinator["kind"]>(kind: K): Extract<ToCoordinator, { kind: K }>[] {
    return this.incidents.flatMap(
      ({ message }) => (message.kind === kind ? [message as Extract<ToCoordinator, { kind: K }>] : []), // The kind was just compared.
    );
  }

  #settle(what: string, digest: string): void {
    if (this.#settled.has(what)) return;
    this.#settled.set(what, digest);
    this.#record(`settled ${digest}`);
  }

  #record(leaf: string): void {
    this.#log.append(leaf);
  }
}
