// Everything that a site asks of its coordinator over HTTP, one method a route. Answers are parsed by their schemas; a
// token that has run out is replaced once. Tensors are handled by upload.ts and download.ts on top of this.

import type { ModelVersionId, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import type { Envelope } from "@consilium/shared/crypto/envelope.ts";
import { fromBase64 } from "@consilium/shared/encoding/base64url.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import {
  CheckpointAnswer,
  EnrolmentAnswer,
  EnvelopeAnswer,
  FederationAnswer,
  ProofAnswer,
} from "@consilium/shared/protocol/http.ts";
import type { Static, TSchema } from "typebox";
import { type Answer, type Exchange, exchange, type Request } from "./exchange.ts";
import { exchangeJson, type JsonRequest } from "./json-exchange.ts";
import type { Session } from "./session.ts";
import { TransportError } from "./transport-error.ts";

export type BlobRange = {
  readonly sha256: Sha256;
  readonly fromByte: number;
  readonly signal?: AbortSignal | undefined;
};
export type UploadChunk = {
  readonly sha256: Sha256;
  readonly offset: number;
  readonly totalBytes: number;
  readonly bytes: Uint8Array;
  readonly signal?: AbortSignal | undefined;
};

/** @throws ProtocolError, TransportError */
export async function readFederation(port: Exchange): Promise<Static<typeof FederationAnswer>> {
  const request = { method: "GET", path: "/v1/federation", message: "federation.read" } as const;
  return exchangeJson(port, FederationAnswer, request);
}

/** @throws ProtocolError, TransportError */
export async function requestEnrolment(
  port: Exchange,
  body: { secret: string; envelope: Envelope },
): Promise<Static<typeof EnrolmentAnswer>> {
  const request = { method: "POST", path: "/v1/enrolments", message: "enrolment.request" } as const;
  return exchangeJson(port, EnrolmentAnswer, { ...request, json: body });
}

export class CoordinatorClient {
  readonly #port: Exchange;
  readonly #session: Session;

  constructor(port: Exchange, session: Session) {
    this.#port = port;
    this.#session = session;
  }

  async plan(study: StudyId): Promise<Envelope> {
    const request = { method: "GET", path: `/v1/studies/${study}/plan`, message: "plan.read" } as const;
    return (await this.#json(EnvelopeAnswer, request)).envelope;
  }

  async version(version: ModelVersionId): Promise<Envelope> {
    const request = { method: "GET", path: `/v1/versions/${version}`, message: "version.read" } as const;
    return (await this.#json(EnvelopeAnswer, request)).envelope;
  }

  async checkpoint(): Promise<string> {
    const request = { method: "GET", path: "/v1/audit/checkpoint", message: "checkpoint.read" } as const;
    return (await this.#json(CheckpointAnswer, request)).checkpoint;
  }

  /** Hashes of an RFC 6962 consistency proof, as the coordinator gives them. */
  async consistency(from: number, to: number): Promise<Uint8Array[]> {
    const path = `/v1/audit/consistency?from=${from}&to=${to}`;
    const request = { method: "GET", path, message: "consistency.read" } as const;
    const { proof } = await this.#json(ProofAnswer, request);
    try {
      return proof.map(fromBase64);
    } catch (cause) {
      throw new TransportError("transport.answer-malformed", { cause });
    }
  }

  /** The bytes of a blob from an offset on. Status 206 says that the offset was heeded, 200 that it was not. */
  async blob(
    { sha256, fromByte, signal }: BlobRange,
    onBody: (chunks: AsyncIterable<Uint8Array>, answer: Answer) => Promise<void>,
  ): Promise<void> {
    const headers = fromByte > 0 ? { Range: `bytes=${fromByte}-` } : {};
    await this.#authorised(headers, (authorised) => {
      const path = `/v1/blobs/${sha256}`;
      const request = { method: "GET", path, message: "blob.read", headers: authorised, signal } as const;
      return exchange(this.#port, request, onBody);
    });
  }

  /** How many bytes of an upload the coordinator holds. */
  async uploadOffset(sha256: Sha256, signal?: AbortSignal): Promise<number> {
    const answer = await this.#authorised({}, (headers) => {
      const path = `/v1/uploads/${sha256}`;
      const request = { method: "HEAD", path, message: "upload.look", headers, signal } as const;
      return exchange(this.#port, request, async () => {});
    });
    return offsetIn(answer);
  }

  /** Send one chunk. @returns the bytes that the coordinator now holds; `isComplete` when that is all. */
  async uploadChunk(chunk: UploadChunk): Promise<{ offset: number; isComplete: boolean }> {
    const { sha256, offset, totalBytes, bytes, signal } = chunk;
    const headers = {
      "Upload-Offset": String(offset),
      "Upload-Length": String(totalBytes),
      "Content-Type": "application/octet-stream",
    };
    const answer = await this.#authorised(headers, (authorised) => {
      const path = `/v1/uploads/${sha256}`;
      const what = { method: "PATCH", path, message: "upload.chunk" } as const;
      return exchange(this.#port, { ...what, headers: authorised, body: bytes, signal }, async () => {});
    });
    if (answer.status === 201) return { offset: totalBytes, isComplete: true };
    return { offset: offsetIn(answer), isComplete: false };
  }

  #json<S extends TSchema>(schema: S, request: JsonRequest): Promise<Static<S>> {
    return this.#authorised({}, (headers) => exchangeJson(this.#port, schema, { ...request, headers }));
  }

  /** With the current token, and once more with a new one when that is refused. */
  async #authorised<T>(
    headers: NonNullable<Request["headers"]>,
    send: (headers: NonNullable<Request["headers"]>) => Promise<T>,
  ): Promise<T> {
    const token = await this.#session.token();
    try {
      return await send({ ...headers, Authorization: `Bearer ${token}` });
    } catch (error) {
      if (!(error instanceof ProtocolError && error.code === "auth.refused")) throw error;
      await this.#session.forget(token);
      return send({ ...headers, Authorization: `Bearer ${await this.#session.token()}` });
    }
  }
}

function offsetIn({ headers }: Answer): number {
  const text = headers["upload-offset"];
  if (typeof text !== "string" || !/^[0-9]{1,15}$/.test(text)) {
    throw new TransportError("transport.answer-malformed");
  }
  return Number(text);
}
