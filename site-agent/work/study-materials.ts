// What a job needs from the coordinator, fetched once, checked, and kept: the plan, a version's manifest, its weights.
// Nothing is handed on that has not been checked against what the hospital approved and what was offered.

import { mkdir, readFile } from "node:fs/promises";
import type { PublicKey, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { Envelope } from "@consilium/shared/crypto/envelope.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { VersionReference } from "@consilium/shared/protocol/messages.ts";
import { Value } from "typebox/value";
import { type Home, planFile } from "../identity/home.ts";
import type { BlobStore } from "../store/blobs.ts";
import { replaceFile } from "../store/durable-file.ts";
import type { CoordinatorClient } from "../transport/coordinator-client.ts";
import { download } from "../transport/download.ts";
import type { Patience } from "../transport/patience.ts";
import type { SiteIdentity } from "../transport/session.ts";
import { openPlan, openVersion } from "./checked-documents.ts";

export type MaterialsPorts = {
  readonly home: Home;
  readonly identity: SiteIdentity;
  readonly coordinatorKey: PublicKey;
  readonly client: CoordinatorClient;
  readonly blobs: BlobStore;
  readonly patience: Patience;
};

export type CheckedVersion = {
  readonly manifest: ModelVersionManifest;
  readonly envelope: Envelope;
  readonly weights: Uint8Array;
};

export class StudyMaterials {
  readonly #ports: MaterialsPorts;

  constructor(ports: MaterialsPorts) {
    this.#ports = ports;
  }

  /** The plan with this digest, and its envelope. @throws StudyError, ProtocolError, TransportError */
  async plan(study: StudyId, digest: Sha256): Promise<{ plan: StudyPlan; envelope: Envelope }> {
    const { home, identity, coordinatorKey, client } = this.#ports;
    const expected = { key: coordinatorKey, site: identity.site, study, digest };
    const kept = await readKept(planFile(home, digest));
    if (kept) return { plan: openPlan(kept, expected), envelope: kept };
    const envelope = await client.plan(study);
    const plan = openPlan(envelope, expected);
    await keepPlan(home, digest, envelope);
    return { plan, envelope };
  }

  /** A version of the study with its weights. @throws StudyError, StoreError, ProtocolError, TransportError */
  async version(plan: StudyPlan, reference: VersionReference, signal: AbortSignal): Promise<CheckedVersion> {
    const { identity, coordinatorKey, client, blobs, patience } = this.#ports;
    const envelope = await client.version(reference.version);
    const manifest = openVersion(envelope, {
      key: coordinatorKey,
      origin: identity.origin,
      plan,
      reference,
    });
    await download(client, { blobs, reference: reference.weights }, { ...patience, signal });
    return { manifest, envelope, weights: await blobs.read(reference.weights.sha256) };
  }
}

export async function keepPlan(home: Home, digest: Sha256, envelope: Envelope): Promise<void> {
  await mkdir(home.plans, { recursive: true, mode: 0o700 });
  await replaceFile(planFile(home, digest), new TextEncoder().encode(JSON.stringify(envelope)));
}

/** A kept plan that cannot be read is fetched again. */
async function readKept(path: string): Promise<Envelope | null> {
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(Envelope, value) ? value : null;
  } catch {
    return null;
  }
}
