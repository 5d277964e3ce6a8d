// What a broken or hostile site sends, and that it has no effect but a coded refusal and its record.

import t from "tap";
import {
  openSmallStudy,
  smallDelta,
  startFederation,
  statementFor,
  submitUpdate,
  type TestFederation,
} from "../support/federation.ts";
import { type Document, type PlainEnvelope, safetensors } from "../support/plain-site.ts";
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
    const { keyid = "", sig = "" } = sealed.signatures[0] ?? {};
    const bent = {
      ...sealed,
      signatures: [{ keyid, sig: `${sig.startsWith("A") ? "B" : "A"}${sig.slice(1)}` }],
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
