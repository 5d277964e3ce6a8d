// What a hostile or broken site tries beside its updates: others' uploads, floods, huge bodies, stolen invitations.

import { request } from "node:http";
import t from "tap";
import {
  openSmallStudy,
  smallDelta,
  startFederation,
  statementFor,
  submitEvaluation,
  submitUpdate,
} from "../support/federation.ts";
import { PlainSite, type Received, sha256Hex } from "../support/plain-site.ts";

t.test("a site cannot pass off what another has uploaded, nor read it", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  await openSmallStudy(federation, [a, b]);
  const delta = await a.upload(smallDelta(0.005));
  await t.rejects(b.blob(delta.sha256), { message: "blob: 404" });
  const head = await fetch(`${federation.url}/v1/uploads/${delta.sha256}`, {
    method: "HEAD",
    headers: { authorization: `Bearer ${b.token}` },
  });
  t.equal(head.headers.get("upload-offset"), "0", "an offset tells nothing of others' uploads");
  const offer = await b.expect("round.offer");
  await b.send({ kind: "update.submit", envelope: b.seal("update", statementFor(b, offer, delta)) });
  t.match(await b.expect("update.settled"), { outcome: "update.blob-missing" });
  const outsider = await federation.enrol("hospital-c");
  for (const path of [
    "/v1/studies/small/plan",
    `/v1/versions/${(offer["base"] as { version: string }).version}`,
  ]) {
    t.equal(
      (await outsider.http("GET", path)).status,
      404,
      `${path} does not exist for a site that is not part of the study`,
    );
  }
  t.equal(
    (await outsider.patch(sha256Hex("x"), { offset: 0, length: 10, bytes: new Uint8Array(10) })).status,
    413,
    "nor may it upload anything",
  );
});

t.test("uploads go on after a cut, and bytes that are not what they claim are thrown away", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  await openSmallStudy(federation, [a, b]);
  const bytes = smallDelta(0.25);
  const sha256 = sha256Hex(bytes);
  const offset = async (): Promise<number> => {
    const head = await fetch(`${federation.url}/v1/uploads/${sha256}`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${a.token}` },
    });
    return Number(head.headers.get("upload-offset"));
  };
  for (let at = 0; at < bytes.length; ) {
    t.equal(await offset(), at);
    const piece = bytes.subarray(at, at + 37);
    const response = await a.patch(sha256, { offset: at, length: bytes.length, bytes: piece });
    at += piece.length;
    t.equal(response.status, at === bytes.length ? 201 : 204);
    if (at === 37 * 3) {
      await federation.restart();
      Object.assign(a, { url: federation.url });
    }
  }
  t.equal(await offset(), bytes.length);
  t.equal(
    (await a.patch(sha256, { offset: 0, length: bytes.length, bytes })).status,
    201,
    "the same upload again is answered",
  );
  const other = sha256Hex("something else");
  t.equal((await a.patch(other, { offset: 5, length: 10, bytes: new Uint8Array(5) })).status, 409);
  t.equal((await a.patch(other, { offset: 0, length: 10, bytes: new Uint8Array(10) })).status, 422);
  t.equal(
    (await a.patch(other, { offset: 0, length: 10, bytes: new Uint8Array(11) })).status,
    413,
    "more than was announced",
  );
  t.equal(
    (await a.patch(other, { offset: 0, length: 10 * 2 ** 30, bytes: new Uint8Array(10) })).status,
    400,
    "ten gigabytes are beyond what any upload may be",
  );
  t.equal(
    (await a.patch("../../../etc/passwd", { offset: 0, length: 1, bytes: new Uint8Array(1) })).status,
    404,
  );
  t.equal((await a.patch("..%2f..%2fx", { offset: 0, length: 1, bytes: new Uint8Array(1) })).status, 400);
});

t.test("a body of ten gigabytes is refused before it is read", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const a = await federation.enrol("hospital-a");
  const { hostname, port } = new URL(federation.url);
  const attempt = (path: string, headers: Record<string, string>): Promise<number> =>
    new Promise((resolve) => {
      const sent = request(
        {
          hostname,
          port,
          path,
          method: "POST",
          headers: { "content-length": String(10 * 2 ** 30), ...headers },
        },
        (response) => {
          resolve(response.statusCode ?? 0);
          sent.destroy();
        },
      );
      sent.on("error", () => resolve(-1));
      sent.write("{");
    });
  t.equal(await attempt("/v1/challenges", { "content-type": "application/json" }), 413);
  t.equal(
    await attempt("/v1/invitations", {
      "content-type": "application/json",
      authorization: `Bearer ${federation.operatorToken}`,
    }),
    413,
  );
  t.equal(
    await attempt("/v1/invitations", {
      "content-type": "application/json",
      authorization: `Bearer ${a.token}`,
    }),
    403,
  );
  t.equal((await federation.operator("GET", "/v1/sites")).status, 200, "and the coordinator serves on");
});

t.test(
  "frames that are nonsense, or too many, cost their sender the connection and nobody else anything",
  async (t) => {
    const federation = await startFederation();
    t.teardown(() => federation.close());
    const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
    await openSmallStudy(federation, [a, b]);
    for (const nonsense of [
      null,
      1,
      "x",
      [],
      {},
      { seq: 0 },
      { seq: -1, message: { kind: "session.hello", protocol: 1 } },
      { seq: 0, message: { kind: "round.offer" } },
      { seq: 0, message: { kind: "session.hello", protocol: 1, site: "hospital-b" } },
    ]) {
      t.match(await a.emitRaw(nonsense), { ok: false, code: "request.malformed" }, JSON.stringify(nonsense));
    }
    t.match(await a.send({ kind: "session.hello", protocol: 99 }), {
      ok: false,
      code: "protocol.unsupported",
    });
    const flood = Array.from({ length: 700 }, () =>
      a.emitRaw({ seq: 0, message: { kind: "session.hello", protocol: 1 } }).catch(() => "cut"),
    );
    t.ok((await Promise.all(flood)).includes("cut"), "a flood is cut off");
    await submitUpdate(b, 0.001);
    t.match(await b.expect("update.settled"), { outcome: "accepted" });
  },
);

t.test("a suspended site is cut off at once, and comes back when it is resumed", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const sites = [
    await federation.enrol("hospital-a"),
    await federation.enrol("hospital-b"),
    await federation.enrol("hospital-c"),
  ];
  await openSmallStudy(federation, sites);
  const [a, b, c] = sites as [PlainSite, PlainSite, PlainSite]; // Three were enrolled.
  await federation.operator("POST", "/v1/sites/hospital-c/suspension", { reason: "audit" });
  t.match(await c.http("GET", "/v1/studies/small/plan"), { status: 403, body: { code: "site.not-active" } });
  await t.rejects(c.openSession(), /site.not-active/);
  for (const site of [a, b]) await submitUpdate(site, 0.001);
  for (const site of [a, b]) await submitEvaluation(site, 0.5);
  t.match(
    await a.expect("round.offer", (offer: Received) => offer["round"] === 2),
    { round: 2 },
    "the round did not wait for it",
  );
  await federation.operator("POST", "/v1/sites/hospital-c/resumption", { reason: "" });
  await c.openSession();
  await c.connect();
  for (const site of [a, b]) await submitUpdate(site, 0.001, 2);
  await submitEvaluation(c, 0.5);
  t.match(await federation.operator("POST", "/v1/sites/hospital-z/suspension", { reason: "" }), {
    status: 404,
    body: { code: "site.unknown" },
  });
  t.match(await federation.operator("POST", "/v1/sites/hospital-a/resumption", { reason: "" }), {
    status: 409,
    body: { code: "site.wrong-state" },
  });
});

t.test("an enrolment needs an unused invitation and the key it presents", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const { body } = await federation.operator("POST", "/v1/invitations", { site: "hospital-a" });
  const invitation = String(body["invitation"]);
  const site = await PlainSite.enrol(invitation);
  await t.rejects(PlainSite.enrol(invitation), /invitation.refused/, "a second key with the same invitation");
  t.match(await federation.operator("POST", "/v1/invitations", { site: "hospital-a" }), {
    status: 409,
    body: { code: "site.name-taken" },
  });
  const thief = new PlainSite({ name: "hospital-a", url: federation.url, origin: federation.origin });
  await t.rejects(thief.openSession(), /challenge.refused/, "another key under the site's name");
  const { body: challenge } = await site.http("POST", "/v1/challenges", { site: "hospital-a" });
  const answer = {
    envelope: site.seal("session", {
      origin: site.origin,
      site: site.name,
      challenge: String(challenge["challenge"]),
    }),
  };
  t.equal((await site.http("POST", "/v1/sessions", answer)).status, 200);
  t.match(
    await site.http("POST", "/v1/sessions", answer),
    { status: 401, body: { code: "challenge.refused" } },
    "a challenge is answered once",
  );
});
