// What a broken or hostile site sends, and that it has no effect but a coded refusal and its record.

import { request } from "node:http";
import t from "tap";
import {
  openSmallStudy,
  smallDelta,
  startFederation,
  statementFor,
  submitEvaluation,
  submitUpdate,
  type TestFederation,
} from "../support/federation.ts";
import {
  type Document,
  type PlainEnvelope,
  PlainSite,
  type Received,
  safetensors,
  sha256Hex,
} from "../support/plain-site.ts";
import { smallManifest } from "../support/small-study.ts";

async function refusals(federation: TestFederation): Promise<{ kind: string; code: string; site: string }[]> {
  const { body } = await federation.operator("GET", "/v1/audit/entries?from=0&limit=500");
  const records = (body["entries"] as string[]).map(
    (leaf) => (JSON.parse(leaf) as { record: { kind: string; code: string; site: string } }).record,
  ); // EntriesAnswer.
  return records.filter(({ kind }) => kind.endsWith(".refused"));
}

/** Tensors with the manifest's names and shapes, each filled by `value`. */
function tensorsOf(
  value: (index: number) => number,
): Record<string, { shape: readonly number[]; values: Float32Array }> {
  return Object.fromEntries(
    smallManifest.map(({ name, shape }, index) => {
      const count = shape.reduce((product, size) => product * size, 1);
      return [name, { shape, values: new Float32Array(count).fill(value(index)) }];
    }),
  );
}

t.test(
  "tensors that no honest site sends are refused by name, recorded, and the round goes on without them",
  async (t) => {
    const federation = await startFederation();
    t.teardown(() => federation.close());
    const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
    await openSmallStudy(federation, [a, b]);
    const offer = await b.expect("round.offer");
    const submit = async (bytes: Uint8Array, changes: Document = {}): Promise<string> => {
      const delta = await b.upload(bytes);
      await b.send({
        kind: "update.submit",
        envelope: b.seal("update", statementFor(b, offer, delta, changes)),
      });
      return String((await b.expect("update.settled"))["outcome"]);
    };
    const good = tensorsOf(() => 0.001);
    const [first, ...rest] = Object.entries(good);
    const [name, tensor] = first ?? ["", { shape: [], values: new Float32Array(0) }];

    t.equal(await submit(safetensors(tensorsOf((at) => (at === 3 ? Number.NaN : 0)))), "update.not-finite");
    t.equal(
      await submit(safetensors(tensorsOf((at) => (at === 3 ? Number.NEGATIVE_INFINITY : 0)))),
      "update.not-finite",
    );
    t.equal(await submit(safetensors(tensorsOf(() => 1000))), "update.norm-exceeded");
    t.equal(await submit(safetensors(tensorsOf(() => 3e38))), "update.norm-exceeded");
    t.equal(
      await submit(safetensors(Object.fromEntries(rest))),
      "update.manifest-mismatch",
      "a tensor is missing",
    );
    t.equal(
      await submit(safetensors({ ...good, extra: { shape: [1], values: new Float32Array(1) } })),
      "update.manifest-mismatch",
    );
    t.equal(
      await submit(safetensors({ ...good, [name]: { ...tensor, shape: [...tensor.shape, 1] } })),
      "update.manifest-mismatch",
      "another shape",
    );
    t.equal(await submit(Buffer.from("\x80\x04\x95cposix\nsystem\n")), "update.malformed", "a pickle");
    t.equal(await submit(Buffer.from("PK\x03\x04archive/data.pkl")), "update.malformed", "a torch file");
    t.equal(
      await submit(Buffer.concat([Buffer.alloc(8, 0xff), Buffer.from("{}")])),
      "update.malformed",
      "a header of 2^64 bytes",
    );
    t.equal(
      await submit(
        Buffer.from(`\x3c\0\0\0\0\0\0\0${'{"__proto__":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'}`),
      ),
      "update.malformed",
    );
    t.equal(await submit(safetensors(good), { examples: 11 }), "update.examples-exceeded");
    t.equal(await submit(safetensors(good), { round: 2 }), "round.closed", "another round's update");
    t.equal(await submit(safetensors(good), { baseVersion: "0".repeat(64) }), "version.stale");
    t.equal(await submit(safetensors(good), { plan: "0".repeat(64) }), "plan.stale");

    const recorded = await refusals(federation);
    t.equal(recorded.length, 15);
    t.ok(recorded.every(({ kind, site }) => kind === "update.refused" && site === "hospital-b"));
    t.equal(
      await submit(safetensors(tensorsOf(() => Number.NaN))),
      "update.not-finite",
      "the sixteenth is still recorded",
    );
    t.equal(
      await submit(safetensors(tensorsOf(() => 999))),
      "update.refusals-exhausted",
      "and then nothing more is taken",
    );
    t.equal((await refusals(federation)).length, 16, "nor recorded");

    await submitUpdate(a, 0.001);
    await federation.operator("POST", "/v1/studies/small/round/abortion", {});
    t.match(await b.expect("round.offer"), { round: 2 }, "the next round offers the site another chance");
    t.match((await federation.operator("POST", "/v1/audit/verification", {})).body, { ok: true });
  },
);

t.test(
  "documents that are not what they claim are refused on the account of whoever sent them",
  async (t) => {
    const federation = await startFederation();
    t.teardown(() => federation.close());
    const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
    await openSmallStudy(federation, [a, b]);
    const offer = await b.expect("round.offer");
    const delta = await b.upload(smallDelta(0.001));
    const statement = statementFor(b, offer, delta);
    const send = (envelope: PlainEnvelope, kind = "update.submit"): Promise<{ ok: boolean; code?: string }> =>
      b.send({ kind, envelope });

    t.match(
      await send(a.seal("update", statement)),
      { ok: false, code: "envelope.refused" },
      "another site's signature",
    );
    t.match(
      await send(b.seal("plan-approval", statement)),
      { ok: false, code: "envelope.refused" },
      "another kind of document",
    );
    t.match(await send(b.seal("update", { ...statement, site: "hospital-a" })), {
      ok: false,
      code: "document.foreign",
    });
    t.match(await send(b.seal("update", { ...statement, origin: "consilium.log/elsewhere" })), {
      ok: false,
      code: "document.foreign",
    });
    t.match(
      await send(b.seal("update", { ...statement, surprise: 1 })),
      { ok: false, code: "envelope.refused" },
      "an unknown member",
    );
    for (const missing of Object.keys(statement)) {
      const { [missing]: _, ...without } = statement;
      t.match(
        await send(b.seal("update", without)),
        { ok: false, code: "envelope.refused" },
        `without ${missing}`,
      );
    }
    const sealed = b.seal("update", statement);
    const bent = {
      ...sealed,
      signatures: [
        { keyid: sealed.signatures[0]?.keyid ?? "", sig: `A${sealed.signatures[0]?.sig.slice(1)}` },
      ],
    };
    t.match(await send(bent), { ok: false, code: "envelope.refused" }, "a bent signature");
    t.match(await send(b.seal("evaluation", statement), "evaluation.submit"), {
      ok: false,
      code: "envelope.refused",
    });
    t.match(
      await b.send({
        kind: "update.submit",
        envelope: b.seal("update", { ...statement, study: "elsewhere" }),
      }),
      { ok: false, code: "study.unknown" },
    );

    const recorded = await refusals(federation);
    t.ok(recorded.length > 10 && recorded.every(({ site }) => site === "hospital-b"));
    await send(bent);
    t.equal(
      (await refusals(federation)).length,
      recorded.length,
      "the same document again is not recorded again",
    );
    t.match(await send(sealed), { ok: true }, "and the honest document still counts");
    t.match(await b.expect("update.settled"), { outcome: "accepted" });
  },
);

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
