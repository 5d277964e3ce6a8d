// The operator's command line speaks to the coordinator over its own HTTP routes, with the token from its file.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { Readable as NodeReadable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { Problem } from "@consilium/shared/protocol/http.ts";
import type { Static, TSchema } from "typebox";
import { Value } from "typebox/value";
import { readSecretFile } from "../key-files.ts";

const requestMsMax = 120_000;

/** The coordinator answered with a problem document. */
export class RefusedError extends Error {
  override name = "RefusedError";
  readonly code: string;
  constructor(problem: Problem) {
    super(
      [`${problem.code}: ${problem.title}`, ...(problem.errors ?? []).map((fault) => `  ${fault}`)].join(
        "\n",
      ),
    );
    this.code = problem.code;
  }
}

export class UnreachableError extends Error {
  override name = "UnreachableError";
}

export type ConnectionOptions = { readonly data: string; readonly url?: string; readonly tokenFile?: string };

export class OperatorClient {
  readonly url: string;
  readonly token: string;

  /** URL and token come from the coordinator's data folder unless they are given. */
  constructor({ data, url, tokenFile }: ConnectionOptions) {
    const address = join(data, "coordinator.url");
    if (!url && !existsSync(address)) {
      throw new UnreachableError(
        `no coordinator has run in ${data}: start one with consilium serve, or give --url and --token-file`,
      );
    }
    this.url = (url ?? readFileSync(address, "utf8").trim()).replace(/\/$/, "");
    this.token = readSecretFile(tokenFile ?? join(data, "operator.token")).trim();
  }

  async get<T extends TSchema>(path: string, schema: T): Promise<Static<T>> {
    return this.#json(await this.#request("GET", path), schema);
  }

  async post<T extends TSchema>(path: string, body: unknown, schema: T): Promise<Static<T>> {
    const headers = { "content-type": "application/json" };
    return this.#json(await this.#request("POST", path, { headers, body: JSON.stringify(body) }), schema);
  }

  /** The body of a download. */
  async download(path: string): Promise<Readable> {
    const response = await this.#request("GET", path);
    return NodeReadable.fromWeb(response.body as ReadableStream); // A successful download has a body.
  }

  async uploadChunk(
    sha256: string,
    { offset, length, bytes }: { offset: number; length: number; bytes: Uint8Array },
  ): Promise<void> {
    const headers = {
      "content-type": "application/octet-stream",
      "upload-offset": String(offset),
      "upload-length": String(length),
    };
    await this.#request("PATCH", `/v1/uploads/${sha256}`, { headers, body: bytes });
  }

  async #request(
    method: string,
    path: string,
    { headers = {}, body }: { headers?: Record<string, string>; body?: string | Uint8Array } = {},
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${this.token}`, ...headers },
        signal: AbortSignal.timeout(requestMsMax),
        ...(body === undefined ? {} : { body: body as NonNullable<RequestInit["body"]> }), // Text and bytes both are bodies.
      });
    } catch (cause) {
      throw new UnreachableError(`no answer from ${this.url}: is the coordinator running?`, { cause });
    }
    if (response.ok) return response;
    const problem: unknown = await response.json().catch(() => null);
    if (Value.Check(Problem, problem)) throw new RefusedError(problem);
    throw new UnreachableError(`${this.url} answered ${response.status} and is not a coordinator`);
  }

  async #json<T extends TSchema>(response: Response, schema: T): Promise<Static<T>> {
    const answer: unknown = await response.json();
    if (!Value.Check(schema, answer))
      throw new UnreachableError(`${this.url} gave an answer that this version does not understand`);
    return answer;
  }
}
