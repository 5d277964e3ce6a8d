// The job of a release: the released version as one model file in the home folder, where `predict` finds it, and a
// signed word that it is there. Where no version is in use any more the file is taken away, and the word says so.

import { mkdir, rm } from "node:fs/promises";
import type { StudyId } from "@consilium/shared/base/brand.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { InstallationDocument } from "@consilium/shared/protocol/documents.ts";
import type { VersionReference } from "@consilium/shared/protocol/messages.ts";
import type { SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { JobControl, Release } from "../agent.ts";
import { modelFile } from "../identity/home.ts";
import { readModelFile, writeModelFile } from "../model-file.ts";
import { replaceFile } from "../store/durable-file.ts";
import { approvedStudy, type SitePorts } from "./site-ports.ts";

export async function installVersion(
  ports: SitePorts,
  { study, released }: Release,
  { signal }: JobControl,
): Promise<Extract<SiteEvent, { kind: "installed" }>> {
  if (released) await putIntoUse(ports, { study, released }, signal);
  else await rm(modelFile(ports.home, study), { force: true });
  const { origin, site, key } = ports.identity;
  const version = released?.version ?? null;
  const statement = { origin, site, study, version, installedAtMs: ports.clock.nowMs() };
  return { kind: "installed", study, version, envelope: seal(InstallationDocument, statement, key) };
}

async function putIntoUse(
  ports: SitePorts,
  { study, released }: { study: StudyId; released: VersionReference },
  signal: AbortSignal,
): Promise<void> {
  const { home, coordinatorKey, materials } = ports;
  const { plan, planEnvelope } = await approvedStudy(ports, study, null);
  const version = await materials.version(plan, released, signal);
  const tensors = [...readTensorBundle(version.weights).tensors.values()];
  const bytes = writeModelFile(tensors, { version: version.envelope, plan: planEnvelope });
  readModelFile(bytes, [coordinatorKey]); // What is put into use is what any reader will accept.
  await mkdir(home.models, { recursive: true, mode: 0o700 });
  await replaceFile(modelFile(home, study), bytes);
}
