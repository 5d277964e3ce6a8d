import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { siteId } from "@consilium/shared/base/brand.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import type { ToSite } from "@consilium/shared/protocol/messages.ts";
import t, { type Test } from "tap";
import { protect } from "../../site-agent/privacy/protect.ts";
import { framesPerMinuteMax } from "../../site-agent/transport/control-channel.ts";
import { readFederation } from "../../site-agent/transport/coordinator-client.ts";
import { download } from "../../site-agent/transport/download.ts";
import { exchangeWhole } from "../../site-agent/transport/exchange.ts";
import { ledgerEntries, readLedger } from "../../site-agent/transport/ledger-report.ts";
import { type SealedUpdate, sealUpdate } from "../../site-agent/transport/seal.ts";
import { upload } from "../../site-agent/transport/upload.ts";
import { ByteCountingProxy } from "../support/byte-counting-proxy.ts";
import { HonestCoordinator } from "../support/honest-coordinator/honest-coordinator.ts";
import { outboundPayloads } from "../support/outbound-payloads.ts";
import { selfSignedCertificate } from "../support/self-signed-certificate.ts";
import { patience, type SiteLine, siteLine } from "../support/site-line.ts";

const bytesOf = (seed: number, length: number): Uint8Array => {
  const prng = new Prng(seed);
  return Uint8Array.from({ length }, () => prng.int(0, 255));
};

async function coordinatorWithProxy(t: Test, options?: ConstructorParameters<typeof HonestCoordinator>[0]) {
  const coordinator = new HonestCoordinator(options);
  await coordinator.start();
  const proxy = new ByteCountingProxy(() => coordinator.port);
  await proxy.start();
  t.teardown(async () => {
    await coordinator.stop();
    await proxy.stop();
  });
  return { coordinator, proxy };
}

function sealedUpdate({ identity }: SiteLine, elements: number): SealedUpdate {
  const prng = new Prng(5);
  const values = new Map([["w", Float32Array.from({ length: elements }, () => prng.normal())]]);
  const manifest = [{ name: "w", shape: [elements], dtype: "F32" as const }];
  const account = {
    study: "liver" as never, // A slug.
    plan: blobDigest(Uint8Array.of(1)),
    round: 1,
    baseVersion: "a".repeat(64) as never, // A digest.
    examples: 3,
    steps: 10,
    loss: { first: 1, last: 0.5 },
    backend: { name: "test", version: "1", devices: [], isGpu: false },
  };
  return sealUpdate(protect(values, manifest, { kind: "clip", normL2: 1 }), account, identity);
}

t.test("a blob cut off at every few bytes arrives whole, each byte asked for once", async (t) => {
  const { coordinator, proxy } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}), port: proxy.port });
  const bytes = bytesOf(1, 300_000);
  const reference = { sha256: coordinator.blobs.put(bytes), bytes: bytes.length };
  await line.session.token();
  proxy.cutAnswerAfterBytes = 40_000;
  await download(line.client, { blobs: line.blobs, reference }, patience);
  t.strictSame(new Uint8Array(await line.blobs.read(reference.sha256)), bytes);
  const reads = coordinator.requests.filter((one) => one.includes("/blobs/"));
  t.ok(reads.length >= 8, `${reads.length} requests`);
  await line.close();
});

t.test("a coordinator that ignores the offset costs time, not correctness", async (t) => {
  const bytes = bytesOf(2, 5000);
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(0, 3000);
    yield bytes.subarray(3000);
  };
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  const sha256 = blobDigest(bytes);
  const begun = await line.blobs.arrive(sha256, bytes.length);
  await begun.append(bytes.subarray(0, 4000));
  const source = {
    blob: (_: unknown, onBody: (all: AsyncIterable<Uint8Array>, answer: never) => Promise<void>) =>
      onBody(chunks(), { status: 200, headers: {} } as never), // An answer to a request without a range.
  };
  await download(source, { blobs: line.blobs, reference: { sha256, bytes: bytes.length } }, patience);
  t.strictSame(new Uint8Array(await line.blobs.read(sha256)), bytes);
  await line.close();
});

t.test("other bytes than announced are never kept", async (t) => {
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  const sha256 = coordinator.blobs.put(bytesOf(3, 1000));
  const fetch = (bytes: number): Promise<void> =>
    download(line.client, { blobs: line.blobs, reference: { sha256, bytes } }, patience);
  await t.rejects(fetch(999), { code: "blob.too-large" });
  await t.rejects(fetch(1001), { code: "blob.digest-mismatch" });
  await fetch(1000);
  const missing = { sha256: blobDigest(bytesOf(4, 1)), bytes: 1 };
  await t.rejects(download(line.client, { blobs: line.blobs, reference: missing }, patience), {
    code: "blob.unknown",
  });
  await line.close();
});

t.test("an upload cut off again and again is completed from where it stopped", async (t) => {
  const { coordinator, proxy } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}), port: proxy.port });
  const { tensors } = sealedUpdate(line, 100_000);
  await line.session.token();
  proxy.cutAfterBytes = 90_000;
  await upload(line.client, tensors, { ...patience, chunkBytes: 50_000 });
  t.strictSame(new Uint8Array(coordinator.blobs.get(tensors.sha256) ?? []), tensors.bytes);
  const sent = proxy.bytesSeen;
  t.ok(sent < tensors.bytes.length * 1.2, `${sent} bytes sent for ${tensors.bytes.length}`);
  await upload(line.client, tensors, patience);
  t.ok(proxy.bytesSeen - sent < 1000, "what the coordinator holds is not sent again");
  await line.close();
});

t.test("a session that was forgotten is replaced once, a refusal that stays is an error", async (t) => {
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  await line.client.checkpoint();
  coordinator.forgetSessions();
  t.match(await line.client.checkpoint(), /^consilium.test/);
  t.equal(coordinator.requests.filter((one) => one === "POST /v1/sessions").length, 2);
  coordinator.interfere = (request) => (request.url?.includes("audit") ? "auth.refused" : null);
  await t.rejects(line.client.checkpoint(), { code: "auth.refused" });
  coordinator.interfere = () => "site.not-active";
  await t.rejects(line.client.checkpoint(), { code: "site.not-active" });
  await line.close();
});

t.test("answers that are too large, no JSON, or never come are given up with a code", async (t) => {
  const coordinator = new HonestCoordinator();
  const strange = createServer((request, response) => {
    if (request.url === "/v1/federation") response.end("<html>a proxy's login page</html>");
    else if (request.url === "/large") response.end(Buffer.alloc(100_000));
    else if (request.url === "/broken") response.writeHead(500).end("oops");
    else if (request.url === "/proxy-down") response.writeHead(503).end("oops");
    else response.flushHeaders(); // And nothing more.
  });
  strange.listen(0, "127.0.0.1");
  await once(strange, "listening");
  t.teardown(() => void strange.closeAllConnections());
  t.teardown(() => void strange.close());
  const { port } = strange.address() as AddressInfo; // A TCP server that listens has a port.
  const line = await siteLine(Object.assign(coordinator, { url: () => `http://127.0.0.1:${port}` }), {
    folder: t.testdir({}),
    noProgressMs: 50,
  });
  const get = (path: string): Promise<unknown> =>
    exchangeWhole(line.port, { method: "GET", path, message: "test.read" }, 1000);
  await t.rejects(readFederation(line.port), { code: "transport.answer-malformed" });
  await t.rejects(get("/large"), { code: "transport.answer-too-large" });
  await t.rejects(get("/broken"), { code: "transport.answer-malformed" });
  await t.rejects(get("/proxy-down"), { code: "transport.unreachable" });
  await t.rejects(get("/silent"), { code: "transport.no-progress" });
  strange.closeAllConnections();
  strange.close();
  await t.rejects(get("/gone"), { code: "transport.unreachable" });
  await line.close();
});

const study = "liver" as never; // A slug.
const invitation: ToSite = { kind: "study.invitation", study, plan: blobDigest(Uint8Array.of(1)) };

t.test("messages pass both ways, a gap is noticed, nonsense is dropped", async (t) => {
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  const { site } = line.identity;
  const heard: string[] = [];
  const channel = line.channel({
    onConnected: () => heard.push("connected"),
    onMessage: ({ kind }) => heard.push(kind),
    onGap: () => heard.push("gap"),
    onRefused: (code) => heard.push(code),
    onCheckpoint: () => heard.push("checkpoint"),
  });
  await channel.send({ kind: "session.hello", protocol: 1 });
  t.equal(coordinator.study.incidents.length, 0, "without a connection nothing is sent or entered");
  channel.start();
  await coordinator.until(() => coordinator.isConnected(site));
  await heardUntil(heard, 1);
  coordinator.study.owed = () => [invitation];
  await channel.send({ kind: "session.hello", protocol: 1 });
  await heardUntil(heard, 3);
  coordinator.lose(site);
  coordinator.push(site, invitation);
  await heardUntil(heard, 5);
  coordinator.pushRaw(site, { seq: 3, message: { kind: "round.offer", study: "../../etc" } });
  await heardUntil(heard, 6);
  t.strictSame(heard.slice(0, 3).sort(), ["checkpoint", "connected", "study.invitation"]);
  t.strictSame(heard.slice(3), ["study.invitation", "gap", "request.malformed"]);
  await channel.close();
  await line.close();
});

t.test("a coordinator that floods the site is listened to up to a bound", async (t) => {
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  const heard: string[] = [];
  const channel = line.channel({
    onConnected: () => heard.push("connected"),
    onMessage: ({ kind }) => heard.push(kind),
    onCheckpoint: () => heard.push("checkpoint"),
  });
  channel.start();
  await heardUntil(heard, 1);
  for (let frame = 0; frame < 2 * framesPerMinuteMax; frame += 1)
    coordinator.push(line.identity.site, invitation);
  await heardUntil(heard, 1 + framesPerMinuteMax);
  await channel.send({ kind: "session.hello", protocol: 1 });
  while (!heard.includes("checkpoint")) await new Promise((resolve) => setImmediate(resolve));
  t.equal(heard.filter((one) => one === "study.invitation").length, framesPerMinuteMax);
  await channel.close();
  await line.close();
});

t.test("the channel comes back after a cut, and with a new session after a refusal", async (t) => {
  const { coordinator } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}) });
  const { site } = line.identity;
  const heard: string[] = [];
  const channel = line.channel({
    onConnected: () => heard.push("connected"),
    onDisconnected: () => heard.push("disconnected"),
  });
  channel.start();
  await heardUntil(heard, 1);
  coordinator.hangUp(site);
  await heardUntil(heard, 3);
  coordinator.forgetSessions();
  coordinator.hangUp(site);
  await heardUntil(heard, 6);
  t.strictSame(heard, [
    "connected",
    "disconnected",
    "connected",
    "disconnected",
    "disconnected",
    "connected",
  ]);
  t.equal(coordinator.requests.filter((one) => one === "POST /v1/sessions").length, 2);
  await channel.close();
  await line.close();
});

async function heardUntil(heard: readonly unknown[], count: number): Promise<void> {
  while (heard.length < count) await new Promise((resolve) => setImmediate(resolve));
}

async function talkedThrough(line: SiteLine, coordinator: HonestCoordinator): Promise<void> {
  const { tensors, envelope } = sealedUpdate(line, 20_000);
  const blob = bytesOf(9, 10_000);
  const reference = { sha256: coordinator.blobs.put(blob), bytes: blob.length };
  const checkpoints: string[] = [];
  const channel = line.channel({ onCheckpoint: (note) => checkpoints.push(note) });
  channel.start();
  await coordinator.until(() => coordinator.isConnected(line.identity.site));
  while (!channel.isConnected) await new Promise((resolve) => setImmediate(resolve));
  await channel.send({ kind: "session.hello", protocol: 1 });
  await download(line.client, { blobs: line.blobs, reference }, patience);
  await upload(line.client, tensors, { ...patience, chunkBytes: 30_000 });
  const progress = {
    study,
    round: 1,
    phase: "training",
    step: 3,
    steps: 10,
    loss: 0.25,
    dice: null,
  } as const;
  await channel.send({ kind: "progress", ...progress });
  await channel.send({ kind: "update.submit", envelope });
  await t.rejects(line.client.plan(siteId("nowhere") as never), { code: "study.unknown" });
  await heardUntil(checkpoints, 3);
  await channel.close();
}

t.test("the ledger holds every payload byte, and its wire total is what a proxy saw", async (t) => {
  const { coordinator, proxy } = await coordinatorWithProxy(t);
  const folder = t.testdir({});
  const line = await siteLine(coordinator, { folder, port: proxy.port });
  await talkedThrough(line, coordinator);
  await line.close();

  const report = await readLedger(line.ledgerFolder);
  t.equal(report.wireBytes, proxy.bytesSeen, "every byte on the wire is counted");
  t.equal(report.connections, proxy.streams.length);
  t.equal(report.unbalancedProcesses, 0);

  const booked = new Map<string, number>();
  for await (const { record } of ledgerEntries(join(line.ledgerFolder, "1"))) {
    if (record.kind === "message") booked.set(record.sha256, (booked.get(record.sha256) ?? 0) + 1);
  }
  const take = (bytes: Uint8Array, what: string): void => {
    const digest = blobDigest(bytes);
    const left = booked.get(digest) ?? 0;
    if (left === 0) t.fail(`not in the ledger: ${what}`);
    if (left <= 1) booked.delete(digest);
    else booked.set(digest, left - 1);
  };
  let payloadBytes = 0;
  for (const stream of proxy.streams) {
    for (const { channel, bytes } of outboundPayloads(Buffer.concat(stream))) {
      const payload = channel === "http" ? bytes : socketPayload(bytes.toString());
      if (payload === null) continue;
      payloadBytes += payload.length;
      take(payload, `${channel} payload of ${payload.length} bytes`);
    }
  }
  t.equal(payloadBytes, report.payloadBytes);
  t.strictSame([...booked], [], "the ledger claims nothing that was not sent");
  t.match(
    new Set(report.messages.map(({ message }) => message)),
    new Set(["upload.chunk", "progress", "update.submit", "session.hello", "socket.connect", "plan.read"]),
  );
});

/** The payload inside a socket.io packet; heartbeats and the farewell carry none. */
function socketPayload(text: string): Buffer | null {
  const connect = /^40\/sites,(\{.*\})$/.exec(text)?.[1];
  const event = /^42\/sites,[0-9]+\["message",(.*)\]$/.exec(text)?.[1];
  const payload = connect ?? event;
  if (payload === undefined && !/^(3|2|41\/sites,?|1)$/.test(text)) throw new Error(`unknown packet ${text}`);
  return payload === undefined ? null : Buffer.from(payload);
}

t.test("a message sent past the ledger is missing from its entries, not from the wire total", async (t) => {
  const { coordinator, proxy } = await coordinatorWithProxy(t);
  const line = await siteLine(coordinator, { folder: t.testdir({}), port: proxy.port });
  await readFederation(line.port);
  await readFederation({ ...line.port, book: { book: async () => {} } });
  await line.close();
  const { wireBytes, messages } = await readLedger(line.ledgerFolder);
  t.equal(wireBytes, proxy.bytesSeen);
  t.equal(messages[0]?.count, 1);
  t.equal(coordinator.requests.length, 2);
});

t.test("over TLS every encrypted byte is counted, and only the named authority is trusted", async (t) => {
  const tls = selfSignedCertificate();
  const { coordinator, proxy } = await coordinatorWithProxy(t, { tls });
  const trusting = await siteLine(coordinator, { folder: t.testdir({}), port: proxy.port, ca: tls.cert });
  await talkedThrough(trusting, coordinator);
  await trusting.close();
  const report = await readLedger(trusting.ledgerFolder);
  t.equal(report.wireBytes, proxy.bytesSeen);
  t.ok(report.framingBytes > 0);

  const wary = await siteLine(coordinator, { folder: join(t.testdirName, "wary"), port: proxy.port });
  await t.rejects(wary.client.checkpoint(), { code: "transport.certificate" });
  const other = selfSignedCertificate().cert;
  const wrong = await siteLine(coordinator, {
    folder: join(t.testdirName, "wrong"),
    port: proxy.port,
    ca: other,
  });
  await t.rejects(wrong.client.checkpoint(), { code: "transport.certificate" });
  await wary.close();
  await wrong.close();
});
