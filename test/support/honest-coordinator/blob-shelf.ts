// The blobs of the test coordinator: in memory, with ranges and resumable uploads as the protocol describes them.

import type { IncomingMessage, ServerResponse } from "node:http";
import { type Sha256, sha256 } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { errorCatalogue, type ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import { uploadChunkBytesMax } from "@consilium/shared/protocol/limits.ts";

export class BlobShelf {
  readonly #blobs = new Map<Sha256, Uint8Array>();
  readonly #uploads = new Map<Sha256, Buffer>();

  put(bytes: Uint8Array): Sha256 {
    const digest = blobDigest(bytes);
    this.#blobs.set(digest, bytes);
    return digest;
  }

  get(digest: Sha256): Uint8Array | undefined {
    return this.#blobs.get(digest);
  }

  /** `GET /v1/blobs/:sha256` */
  serve(request: IncomingMessage, response: ServerResponse, name: string): void {
    const blob = this.#blobs.get(sha256(name));
    if (!blob) {
      sendProblem(response, "blob.unknown");
      return;
    }
    const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const isPartial = request.headers.range !== undefined;
    response.writeHead(isPartial ? 206 : 200, {
      "Content-Type": "application/octet-stream",
      "Content-Length": blob.length - from,
      ...(isPartial && { "Content-Range": `bytes ${from}-${blob.length - 1}/${blob.length}` }),
    });
    response.end(blob.subarray(from));
  }

  /** `HEAD /v1/uploads/:sha256` */
  look(response: ServerResponse, name: string): void {
    const digest = sha256(name);
    const offset = this.#blobs.get(digest)?.length ?? this.#uploads.get(digest)?.length ?? 0;
    response.writeHead(200, { "Upload-Offset": offset }).end();
  }

  /** `PATCH /v1/uploads/:sha256`; what arrived before a cut is kept. */
  async take(request: IncomingMessage, response: ServerResponse, name: string): Promise<void> {
    const digest = sha256(name);
    const held = this.#uploads.get(digest) ?? Buffer.alloc(0);
    const length = Number(request.headers["upload-length"]);
    if (Number(request.headers["upload-offset"]) !== held.length) {
      return sendProblem(response, "upload.offset-mismatch");
    }
    let upload = held;
    try {
      for await (const chunk of request) {
        upload = Buffer.concat([upload, chunk]);
        if (upload.length - held.length > uploadChunkBytesMax)
          return sendProblem(response, "upload.too-large");
      }
    } finally {
      this.#uploads.set(digest, upload);
    }
    if (upload.length < length) {
      response.writeHead(204, { "Upload-Offset": upload.length }).end();
      return;
    }
    this.#uploads.delete(digest);
    if (blobDigest(upload) !== digest) return sendProblem(response, "upload.digest-mismatch");
    this.#blobs.set(digest, upload);
    response.writeHead(201, { "Upload-Offset": upload.length }).end();
  }
}

/** RFC 9457 */
export function sendProblem(response: ServerResponse, code: ProtocolErrorCode): void {
  const { status, retryable, sentence } = errorCatalogue[code];
  const problem = {
    type: `https://consilium.invalid/problems/${code}`,
    title: sentence,
    status,
    code,
    retryable,
    correlation: "test",
  };
  response.writeHead(status, { "Content-Type": "application/problem+json" });
  response.end(JSON.stringify(problem));
}
