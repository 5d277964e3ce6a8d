// The protocol as docs/PROTOCOL.md tells it, spoken by sites that import nothing of ours.

import t from "tap";
import {
  openSmallStudy,
  runSmallStudy,
  smallDelta,
  startFederation,
  statementFor,
  submitEvaluation,
  submitUpdate,
} from "../support/federation.ts";
import { documentDigest, payloadOf, sha256Hex, tensorShapes } from "../support/plain-site.ts";

t.test("two sites train two rounds, and every document they are given checks out", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const sites = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  const open = await openSmallStudy(federation, sites);
  const version = await runSmallStudy(open, 2);

  const [site] = sites;
  if (!site) throw new Error("two sites were enrolled");
  const { body } = await site.http("GET", `/v1/versions/${version}`);
  const manifest = payloadOf<Record<string, unknown>>(body["envelope"] as { payload: string }); // EnvelopeAnswer.
  t.equal(documentDigest("model-version", manifest as never), version, "a version is named by its manifest");
  const weights = manifest["weights"] as { sha256: string; bytes: number }; // As documented.
  const file = await site.blob(weights.sha256);
  t.equal(sha256Hex(file), weights.sha256);
  t.equal(file.length, weights.bytes);
  t.ok(Object.keys(tensorShapes(file)).length > 5);

  const study = await federation.operator("GET", "/v1/studies/small");
  t.match(study.body, {
    phase: "finished",
    completedRounds: 2,
    last: version,
    best: version,
    bestMeanDice: 0.7,
  });
  const verification = await federation.operator("POST", "/v1/audit/verification", {});
  t.match(verification.body, { ok: true, faults: [] });
});

t.test("a message that is repeated is answered and changes nothing", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  await openSmallStudy(federation, [a, b]);
  const offer = await a.expect("round.offer");
  const envelope = a.seal("update", statementFor(a, offer, await a.upload(smallDelta(0.001))));
  for (let times = 0; times < 10; times += 1) await a.send({ kind: "update.submit", envelope });
  for (let times = 0; times < 10; times += 1)
    t.match(await a.expect("update.settled"), { outcome: "accepted" });
  await a.send({ kind: "session.hello", protocol: 1 });
  t.match(
    await a.expect("update.settled"),
    { outcome: "accepted" },
    "a site that forgot is told that its update is here",
  );
  const entries = await federation.operator("GET", "/v1/audit/entries?from=0&limit=500");
  const accepted = (entries.body["entries"] as string[]).filter((leaf) =>
    leaf.includes('"kind":"update.accepted"'),
  ); // EntriesAnswer.
  t.equal(accepted.length, 1);
});

t.test("a coordinator that was stopped in mid-round goes on where it stood", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  const open = await openSmallStudy(federation, [a, b], { changes: {} });
  await submitUpdate(a, 0.001);
  await a.expect("update.settled");
  await federation.restart();
  for (const site of [a, b]) {
    Object.assign(site, { url: federation.url });
    await site.openSession();
    await site.connect();
    await site.send({ kind: "session.hello", protocol: 1 });
  }
  t.match(await a.expect("update.settled"), { outcome: "accepted" }, "what was accepted stays accepted");
  await submitUpdate(b, 0.002, 1);
  for (const site of [a, b]) await submitEvaluation(site, 0.5);
  t.match(await a.expect("round.offer"), { round: 2 });
  t.equal(open.study, "small");
});
