// A coordinator on a free port with plain sites around it, and the steps that most tests begin with.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Coordinator, startCoordinator } from "@consilium/coordinator/coordinator.ts";
import { createLogger } from "@consilium/coordinator/logger.ts";
import { MemoryLogStore, MemorySessionStore } from "@consilium/coordinator/persistence/memory-stores.ts";
import type { LogStore, SessionStore } from "@consilium/coordinator/persistence/ports.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import {
  type Document,
  documentDigest,
  PlainSite,
  payloadOf,
  type Received,
  safetensors,
} from "./plain-site.ts";
import { smallManifest, smallPlan } from "./small-study.ts";

export type TestFederation = {
  readonly folder: string;
  readonly url: string;
  readonly origin: string;
  readonly logStore: LogStore;
  readonly operator: (
    method: string,
    path: string,
    body?: unknown,
  ) => Promise<{ status: number; body: Record<string, unknown> }>;
  readonly operatorToken: string;
  /** Stop the coordinator and start another on the same folder and stores. */
  restart(): Promise<void>;
  enrol(name: string): Promise<PlainSite>;
  close(): Promise<void>;
};

type Stores = { logStore: LogStore; sessionStore: SessionStore };

export async function startFederation(
  stores: Stores = { logStore: new MemoryLogStore(), sessionStore: new MemorySessionStore() },
  clock: Clock = { nowMs: () => Date.now() },
): Promise<TestFederation> {
  const folder = mkdtempSync(join(tmpdir(), "consilium-federation-"));
  const config = {
    dataFolder: folder,
    host: "127.0.0.1",
    port: 0,
    publicUrl: null,
    tls: null,
    logLevel: "silent",
  } as const;
  const ports = { ...stores, clock, logger: createLogger("silent") };
  let coordinator: Coordinator = await startCoordinator(config, ports);
  const sites: PlainSite[] = [];
  const operatorToken = readFileSync(coordinator.operatorTokenFile, "utf8").trim();
  const operator: TestFederation["operator"] = async (method, path, body) => {
    const headers = {
      authorization: `Bearer ${operatorToken}`,
      ...(body ? { "content-type": "application/json" } : {}),
    };
    const response = await fetch(coordinator.url + path, {
      method,
      headers,
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    return {
      status: response.status,
      body: (await response.json().catch(() => ({}))) as Record<string, unknown>,
    }; // Looked at field by field.
  };
  return {
    folder,
    get url() {
      return coordinator.url;
    },
    get origin() {
      return coordinator.origin;
    },
    logStore: stores.logStore,
    operator,
    operatorToken,
    async restart() {
      await coordinator.stop();
      coordinator = await startCoordinator(config, ports);
    },
    async enrol(name) {
      const { body } = await operator("POST", "/v1/invitations", { site: name });
      const site = await PlainSite.enrol(String(body["invitation"]));
      await site.openSession();
      sites.push(site);
      return site;
    },
    async close() {
      for (const site of sites) site.close();
      await coordinator.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export type OpenStudy = {
  readonly study: string;
  readonly plan: string;
  readonly sites: readonly PlainSite[];
};

/** Open a small study and have every site approve it. */
export async function openSmallStudy(
  federation: TestFederation,
  sites: readonly PlainSite[],
  {
    study = "small",
    examples = 10,
    changes = {},
    start = { kind: "seeded", seed: 1 },
  }: {
    study?: string;
    examples?: number;
    changes?: Record<string, unknown>;
    start?: Record<string, unknown>;
  } = {},
): Promise<OpenStudy> {
  const plan = smallPlan(
    study,
    sites.map(({ name }) => name),
    changes,
  );
  const { status, body } = await federation.operator("POST", "/v1/studies", { plan, start });
  if (status !== 201) throw new Error(JSON.stringify(body));
  const digest = String(body["plan"]);
  for (const site of sites) {
    await site.connect();
    await site.send({ kind: "session.hello", protocol: 1 });
    await site.expect("study.invitation");
    const { body: answer } = await site.http("GET", `/v1/studies/${study}/plan`);
    const { envelope } = answer as { envelope: { payload: string } }; // EnvelopeAnswer.
    if (documentDigest("plan", payloadOf(envelope)) !== digest)
      throw new Error("the plan has another digest");
    const approval = {
      origin: federation.origin,
      site: site.name,
      study,
      plan: digest,
      examples,
      approver: "test",
      approvedAtMs: 1,
    };
    await site.send({ kind: "plan.approve", envelope: site.seal("plan-approval", approval) });
  }
  return { study, plan: digest, sites };
}

/** Tensors of an update, all of one value. */
export function smallDelta(value: number, manifest: ParameterManifest = smallManifest): Uint8Array {
  const tensors = manifest.map(({ name, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return [name, { shape: [...shape], values: new Float32Array(count).fill(value) }] as const;
  });
  return safetensors(Object.fromEntries(tensors));
}

/** The statement of an update that answers an offer. */
export function statementFor(
  site: PlainSite,
  offer: Received,
  delta: { sha256: string; bytes: number },
  changes: Document = {},
): Document {
  const { version } = offer["base"] as { version: string }; // VersionReference.
  return {
    origin: site.origin,
    site: site.name,
    study: String(offer.study),
    plan: String(offer["plan"]),
    round: Number(offer["round"]),
    baseVersion: version,
    delta,
    examples: 10,
    steps: 1,
    normL2: { trained: 1, sent: 1 },
    loss: { first: 1, last: 0.5 },
    backend: { name: "none", version: "1", devices: [], isGpu: false },
    ...changes,
  };
}

/** Answer the next round offer with an update of one value. */
export async function submitUpdate(site: PlainSite, value: number, round?: number): Promise<void> {
  const offer = await site.expect(
    "round.offer",
    (message) => round === undefined || message["round"] === round,
  );
  const delta = await site.upload(smallDelta(value));
  await site.send({ kind: "update.submit", envelope: site.seal("update", statementFor(site, offer, delta)) });
}

/** Answer the next evaluation offer with a mean Dice. */
export async function submitEvaluation(site: PlainSite, meanDice: number): Promise<string> {
  const offer = await site.expect("evaluation.offer");
  const { version } = offer["candidate"] as { version: string }; // VersionReference.
  const report = { scope: "slices", cases: 0, labels: [], meanDice };
  const statement = {
    origin: site.origin,
    site: site.name,
    study: String(offer.study),
    plan: String(offer["plan"]),
    version,
    report,
  };
  await site.send({ kind: "evaluation.submit", envelope: site.seal("evaluation", statement) });
  return version;
}

/** All rounds of a small study; returns the last version. */
export async function runSmallStudy({ sites }: OpenStudy, rounds: number): Promise<string> {
  let version = "";
  for (let round = 1; round <= rounds; round += 1) {
    for (const [at, site] of sites.entries()) await submitUpdate(site, 0.001 * (at + 1), round);
    for (const site of sites) version = await submitEvaluation(site, 0.5 + round / 10);
  }
  for (const site of sites) await site.expect("study.finished");
  return version;
}
