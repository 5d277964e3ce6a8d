// Downloads for the operator: a version as a model file, and the evidence of how it came to be.

import { Readable } from "node:stream";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { VersionId } from "@consilium/shared/protocol/names.ts";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { type EvidencePorts, exportEvidence } from "../evidence/export-evidence.ts";
import { exportModel } from "../versions/export-model.ts";

export type ExportRoutesPorts = EvidencePorts;

const config = { access: "operator" } as const;
const schema = { params: Type.Object({ version: VersionId }) };

export function exportRoutes(ports: ExportRoutesPorts): FastifyPluginAsyncTypebox {
  const { log, artifacts } = ports;
  return async (app) => {
    app.get("/v1/versions/:version/model", { config, schema }, async (request, reply) => {
      const record = log.state.versions.get(request.params.version);
      const plan = record && log.state.plans.get(record.study);
      if (!record || !plan) throw new ProtocolError("version.unknown");
      if (log.state.studies.get(record.study)?.versions.get(record.version)?.withdrawn)
        throw new ProtocolError("version.wrong-state");
      const pieces = exportModel(artifacts, record.weights.sha256, {
        version: record.envelope,
        plan: plan.envelope,
      });
      return reply.header("content-type", "application/octet-stream").send(Readable.from(pieces));
    });
    app.get("/v1/versions/:version/evidence", { config, schema }, async (request, reply) => {
      const record = log.state.versions.get(request.params.version);
      if (!record) throw new ProtocolError("version.unknown");
      const pieces = exportEvidence(ports, { study: record.study, version: record.version });
      // The first piece is made before the answer begins, so that a refusal still is one.
      const first = await pieces.next();
      return reply.header("content-type", "application/x-cpio").send(Readable.from(continued(first, pieces)));
    });
  };
}

async function* continued(
  first: IteratorResult<Uint8Array>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (!first.done) yield first.value;
  yield* rest;
}
