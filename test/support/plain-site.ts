// A site written from docs/PROTOCOL.md alone: node's own modules, fetch and socket.io-client, nothing of ours. What it
// can do, any client in any language can do.

import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { io, type Socket } from "socket.io-client";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Document = { [key: string]: Json };

/** RFC 8785 for the documents of this protocol: keys sorted, no white space. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key] ?? null)}`).join(",")}}`;
}

export const sha256Hex = (bytes: Uint8Array | string): string =>
  createHash("sha256").update(bytes).digest("hex");

/** SHA-256("consilium/<domain>/v1" NUL canonical JSON). */
export const documentDigest = (domain: string, document: Json): string =>
  sha256Hex(`consilium/${domain}/v1\0${canonical(document)}`);

export const payloadOf = <T = Document>(envelope: { payload: string }): T =>
  JSON.parse(Buffer.from(envelope.payload, "base64").toString()) as T; // Tests know what they asked for.

export type PlainEnvelope = {
  payload: string;
  payloadType: string;
  signatures: { keyid: string; sig: string }[];
};

/** A safetensors file of float32 tensors. */
export function safetensors(
  tensors: Record<string, { shape: readonly number[]; values: Float32Array }>,
): Uint8Array {
  const header: Record<string, Json> = {};
  let at = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape: [...shape], data_offsets: [at, at + values.byteLength] };
    at += values.byteLength;
  }
  const text = JSON.stringify(header);
  const padded = text.padEnd(Math.ceil(text.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const data = Object.values(tensors).map(({ values }) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  );
  return new Uint8Array(Buffer.concat([length, Buffer.from(padded), ...data]));
}

/** Names and shapes in a safetensors file. */
export function tensorShapes(file: Uint8Array): Record<string, number[]> {
  const length = Number(Buffer.from(file.subarray(0, 8)).readBigUInt64LE());
  const header = JSON.parse(Buffer.from(file.subarray(8, 8 + length)).toString()) as Record<
    string,
    { shape: number[] }
  >; // Written by the coordinator.
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== "__metadata__")
      .map(([name, { shape }]) => [name, shape]),
  );
}

export type Received = { kind: string; study?: string; [key: string]: unknown };

export class PlainSite {
  readonly name: string;
  readonly url: string;
  readonly origin: string;
  readonly publicKey: string;
  readonly received: Received[] = [];
  readonly acknowledgements: { ok: boolean; code?: string; checkpoint?: string }[] = [];
  readonly #key: KeyObject;
  #token = "";
  #socket: Socket | null = null;
  #seq = 0;
  #waiters: (() => void)[] = [];

  constructor(options: { name: string; url: string; origin: string; pem?: string }) {
    this.name = options.name;
    this.url = options.url;
    this.origin = options.origin;
    this.#key = options.pem ? createPrivateKey(options.pem) : generateKeyPairSync("ed25519").privateKey;
    const { x } = this.#key.export({ format: "jwk" });
    this.publicKey = `ed25519:${x}`;
  }

  /** From the text that an operator hands over to an enrolled site. */
  static async enrol(invitation: string): Promise<PlainSite> {
    const token = JSON.parse(
      Buffer.from(invitation.replace("consilium-invitation-v1.", ""), "base64url").toString(),
    ) as Record<string, string>; // As documented.
    const { url = "", origin = "", site: name = "", secret = "" } = token;
    const site = new PlainSite({ name, url, origin });
    const request = {
      origin,
      site: name,
      invitation: sha256Hex(secret),
      publicKey: site.publicKey,
      agent: "plain",
    };
    const answer = await site.http("POST", "/v1/enrolments", {
      secret,
      envelope: site.seal("enrolment", request),
    });
    if (answer.status !== 201) throw new Error(`enrolment: ${JSON.stringify(answer.body)}`);
    return site;
  }

  /** A DSSE envelope over the canonical JSON of a document. */
  seal(type: string, document: Document): PlainEnvelope {
    const payload = Buffer.from(canonical(document));
    const payloadType = `application/vnd.consilium.${type}.v1+json`;
    const message = Buffer.concat([
      Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
      payload,
    ]);
    const sig = sign(null, message, this.#key).toString("base64");
    return { payload: payload.toString("base64"), payloadType, signatures: [{ keyid: this.publicKey, sig }] };
  }

  async openSession(): Promise<void> {
    const { body: challenge } = await this.http("POST", "/v1/challenges", { site: this.name });
    const answer = { origin: this.origin, site: this.name, challenge: String(challenge["challenge"]) };
    const { status, body } = await this.http("POST", "/v1/sessions", {
      envelope: this.seal("session", answer),
    });
    if (status !== 200) throw new Error(`session: ${JSON.stringify(body)}`);
    this.#token = String(body["token"]);
  }

  get token(): string {
    return this.#token;
  }

  async http(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const headers = {
      ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}),
      ...(body ? { "content-type": "application/json" } : {}),
    };
    const response = await fetch(this.url + path, {
      method,
      headers,
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    return {
      status: response.status,
      body: (await response.json().catch(() => ({}))) as Record<string, unknown>,
    }; // Looked at field by field.
  }

  async blob(sha256: string): Promise<Uint8Array> {
    const response = await fetch(`${this.url}/v1/blobs/${sha256}`, {
      headers: { authorization: `Bearer ${this.#token}` },
    });
    if (!response.ok) throw new Error(`blob: ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  }

  async patch(
    sha256: string,
    chunk: { offset: number; length: number; bytes: Uint8Array },
  ): Promise<Response> {
    return fetch(`${this.url}/v1/uploads/${sha256}`, {
      method: "PATCH",
      headers: {
        authorization: `Bearer ${this.#token}`,
        "content-type": "application/octet-stream",
        "upload-offset": String(chunk.offset),
        "upload-length": String(chunk.length),
      },
      body: chunk.bytes as NonNullable<RequestInit["body"]>, // Bytes are a body.
    });
  }

  async upload(bytes: Uint8Array): Promise<{ sha256: string; bytes: number }> {
    const sha256 = sha256Hex(bytes);
    const response = await this.patch(sha256, { offset: 0, length: bytes.length, bytes });
    if (response.status !== 201) throw new Error(`upload: ${response.status} ${await response.text()}`);
    return { sha256, bytes: bytes.length };
  }

  async connect(): Promise<void> {
    const socket = io(`${this.url}/sites`, {
      transports: ["websocket"],
      auth: { token: this.#token },
      forceNew: true,
      reconnection: false,
    });
    this.#socket = socket;
    socket.on("message", (frame: { seq: number; message: Received }) => {
      this.received.push(frame.message);
      for (const wake of this.#waiters.splice(0)) wake();
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
  }

  async send(
    message: Document | { kind: string; envelope: PlainEnvelope },
  ): Promise<{ ok: boolean; code?: string; checkpoint?: string }> {
    const frame = { seq: this.#seq, message };
    this.#seq += 1;
    const answer = (await this.#socket?.timeout(10_000).emitWithAck("message", frame)) as {
      ok: boolean;
      code?: string;
      checkpoint?: string;
    }; // As documented.
    this.acknowledgements.push(answer);
    return answer;
  }

  emitRaw(...anything: unknown[]): Promise<unknown> {
    return this.#socket?.timeout(10_000).emitWithAck("message", ...anything) ?? Promise.resolve(null);
  }

  /** The first message, received already or later, that fits. Taken out, so that the next call finds the next one. */
  async expect(kind: string, fits: (message: Received) => boolean = () => true): Promise<Received> {
    for (;;) {
      const at = this.received.findIndex((message) => message.kind === kind && fits(message));
      const [found] = at >= 0 ? this.received.splice(at, 1) : [];
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  close(): void {
    this.#socket?.close();
  }
}
