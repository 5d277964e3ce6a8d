// The log over HTTP: its signed head and proofs for everybody in the federation, its entries for the operator.

import { toBase64 } from "@consilium/shared/encoding/base64url.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import {
  CheckpointAnswer,
  EntriesAnswer,
  InclusionAnswer,
  ProofAnswer,
  VerificationAnswer,
} from "@consilium/shared/protocol/http.ts";
import { entriesPerPageMax } from "@consilium/shared/protocol/limits.ts";
import { Count } from "@consilium/shared/protocol/names.ts";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import type { AuditLog } from "../audit/audit-log.ts";
import type { FsckReport } from "../audit/fsck.ts";
import type { LogStore } from "../persistence/ports.ts";

export type AuditRoutesPorts = {
  readonly log: AuditLog;
  readonly store: LogStore;
  readonly fsck: () => Promise<FsckReport>;
};

const either = { access: "site-or-operator" } as const;
const operator = { access: "operator" } as const;

export function auditRoutes({ log, store, fsck }: AuditRoutesPorts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      "/v1/audit/checkpoint",
      { config: either, schema: { response: { 200: CheckpointAnswer } } },
      async () => {
        await log.refresh();
        return { checkpoint: log.checkpoint };
      },
    );
    app.get(
      "/v1/audit/consistency",
      {
        config: either,
        schema: { querystring: Type.Object({ from: Count, to: Count }), response: { 200: ProofAnswer } },
      },
      async ({ query: { from, to } }) => {
        if (from > to || to > log.size) throw new ProtocolError("proof.out-of-range");
        return { proof: log.tree.consistencyProof(from, to).map(toBase64) };
      },
    );
    app.get(
      "/v1/audit/inclusion",
      {
        config: either,
        schema: {
          querystring: Type.Object({ index: Count, size: Count }),
          response: { 200: InclusionAnswer },
        },
      },
      async ({ query: { index, size } }) => {
        if (index >= size || size > log.size) throw new ProtocolError("proof.out-of-range");
        return {
          leafHash: toBase64(log.tree.leaf(index)),
          proof: log.tree.inclusionProof(index, size).map(toBase64),
        };
      },
    );
    const Page = Type.Object({
      from: Count,
      limit: Type.Integer({ minimum: 1, maximum: entriesPerPageMax, default: 100 }),
    });
    app.get(
      "/v1/audit/entries",
      { config: operator, schema: { querystring: Page, response: { 200: EntriesAnswer } } },
      async ({ query: { from, limit } }) => {
        const entries = await store.read(from, limit);
        return { from, entries: entries.map(({ leaf }) => leaf) };
      },
    );
    app.post(
      "/v1/audit/verification",
      { config: operator, schema: { response: { 200: VerificationAnswer } } },
      async () => {
        const { entries, faults } = await fsck();
        return { ok: faults.length === 0, entries, checkpoint: log.checkpoint, faults: [...faults] };
      },
    );
  };
}
