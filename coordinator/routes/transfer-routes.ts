// Tensors in and out, and the documents that describe them. A site reads the weights of its own studies and nothing
// that another site has sent.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { EnvelopeAnswer } from "@consilium/shared/protocol/http.ts";
import { blobBytesMax } from "@consilium/shared/protocol/limits.ts";
import { Digest, StudyName, VersionId } from "@consilium/shared/protocol/names.ts";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { AuditLog } from "../audit/audit-log.ts";
import type { Uploads } from "../intake/uploads.ts";
import type { Identity } from "../plugins/access.ts";
import type { PlanBook } from "../rounds/plan-book.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";

/** Room that a header and its metadata may take beside the numbers themselves. */
const headerBytesMax = 1 << 20;

export type TransferRoutesPorts = {
  readonly log: AuditLog;
  readonly plans: PlanBook;
  readonly artifacts: ArtifactStore;
  readonly uploads: Uploads;
};

const either = { access: "site-or-operator" } as const;
const DigestParams = Type.Object({ sha256: Digest });
const UploadHeaders = Type.Object({
  "upload-offset": Type.Integer({ minimum: 0, maximum: blobBytesMax }),
  "upload-length": Type.Integer({ minimum: 1, maximum: blobBytesMax }),
});

export function transferRoutes(ports: TransferRoutesPorts): FastifyPluginAsyncTypebox {
  const { log, plans, artifacts, uploads } = ports;
  return async (app) => {
    // Handed over as a stream: the length is counted while it is written, never held in memory.
    app.addContentTypeParser("application/octet-stream", (_request, payload, done) => done(null, payload));
    app.get(
      "/v1/studies/:study/plan",
      {
        config: either,
        schema: { params: Type.Object({ study: StudyName }), response: { 200: EnvelopeAnswer } },
      },
      async (request) => {
        const { plan } = plans.find(log.state, request.params.study);
        const record = log.state.plans.get(request.params.study);
        if (!record || !isPartOf(request.identity, plan.sites)) throw new ProtocolError("study.unknown");
        return { envelope: record.envelope };
      },
    );
    app.get(
      "/v1/versions/:version",
      {
        config: either,
        schema: { params: Type.Object({ version: VersionId }), response: { 200: EnvelopeAnswer } },
      },
      async (request) => {
        const record = log.state.versions.get(request.params.version);
        if (!record || !isPartOf(request.identity, plans.find(log.state, record.study).plan.sites)) {
          throw new ProtocolError("version.unknown");
        }
        return { envelope: record.envelope };
      },
    );
    app.get(
      "/v1/blobs/:sha256",
      { config: either, schema: { params: DigestParams } },
      async (request, reply) =>
        sendBlob(request, reply, {
          artifacts,
          mayRead: mayRead(log.state, plans, request.identity, request.params.sha256),
        }),
    );
    app.head(
      "/v1/uploads/:sha256",
      { config: either, schema: { params: DigestParams } },
      async (request, reply) => {
        const { offset } = uploads.state(senderOf(request.identity), request.params.sha256);
        return reply.header("upload-offset", offset).send();
      },
    );
    app.patch(
      "/v1/uploads/:sha256",
      { config: either, schema: { params: DigestParams, headers: UploadHeaders }, bodyLimit: blobBytesMax },
      async (request, reply) => {
        const { sha256 } = request.params;
        const { "upload-offset": offset, "upload-length": length } = request.headers;
        const lengthMax = uploadBytesMax(log.state, plans, request.identity);
        const chunk = { sender: senderOf(request.identity), sha256, offset, length, lengthMax };
        const state = await uploads.append(chunk, request.raw);
        return reply
          .code(state.complete ? 201 : 204)
          .header("upload-offset", state.offset)
          .send();
      },
    );
  };
}

function isPartOf(identity: Identity, sites: readonly string[]): boolean {
  return identity.kind === "operator" || (identity.kind === "site" && sites.includes(identity.site.site));
}

/** The operator's folder has a name that no site can have. */
function senderOf(identity: Identity): string {
  return identity.kind === "site" ? identity.site.site : "_operator";
}

/** A site may read weights of versions of its studies; the operator also the updates, for evidence. */
function mayRead(state: FederationState, plans: PlanBook, identity: Identity, sha256: Sha256): boolean {
  if (identity.kind === "operator") return true;
  for (const study of state.studies.values()) {
    if (!state.plans.has(study.study)) continue;
    if (!isPartOf(identity, plans.find(state, study.study).plan.sites)) continue;
    for (const version of study.versions.values()) if (version.weights.sha256 === sha256) return true;
  }
  return false;
}

/** What the largest open plan of this identity can need; nothing for a site that takes part in none. */
function uploadBytesMax(state: FederationState, plans: PlanBook, identity: Identity): number {
  if (identity.kind === "operator") return blobBytesMax;
  let bytesMax = 0;
  for (const study of state.studies.values()) {
    if (study.phase === "finished" || !state.plans.has(study.study)) continue;
    const { plan, manifest } = plans.find(state, study.study);
    if (!isPartOf(identity, plan.sites)) continue;
    const elements = manifest.reduce(
      (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1),
      0,
    );
    bytesMax = Math.max(bytesMax, 4 * elements + headerBytesMax);
  }
  return bytesMax;
}

type Sending = { readonly artifacts: ArtifactStore; readonly mayRead: boolean };

function sendBlob(
  request: FastifyRequest<{ Params: { sha256: Sha256 } }>,
  reply: FastifyReply,
  { artifacts, mayRead: allowed }: Sending,
) {
  const { sha256 } = request.params;
  const size = allowed ? artifacts.size(sha256) : null;
  if (size === null) throw new ProtocolError("blob.unknown");
  const from = rangeStart(request.headers.range, size);
  const partial = from > 0;
  return reply
    .code(partial ? 206 : 200)
    .headers({
      "content-type": "application/octet-stream",
      "content-length": size - from,
      "accept-ranges": "bytes",
      etag: `"${sha256}"`,
      ...(partial ? { "content-range": `bytes ${from}-${size - 1}/${size}` } : {}),
    })
    .send(artifacts.stream(sha256, from));
}

/** Only the form that resuming needs: from an offset to the end. Anything else is answered with the whole blob. */
function rangeStart(header: string | undefined, size: number): number {
  const match = /^bytes=(\d{1,15})-$/.exec(header ?? "");
  const from = match ? Number(match[1]) : 0;
  return from < size ? from : 0;
}
