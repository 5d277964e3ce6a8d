import t from "tap";
import type { ModelVersionId, Sha256, SiteId } from "../base/brand.ts";
import { generateSigningKey } from "../crypto/keys.ts";
import * as enrolment from "./enrolment.ts";
import { errorCatalogue, isProtocolErrorCode, ProtocolError } from "./errors.ts";
import { judge, meanOfSites, type Standing } from "./promotion.ts";
import type { FederationRecord, StudyRecord } from "./records.ts";
import { release, rollBack, withdrawContribution } from "./release.ts";
import { evolve, initialStudyState, type StudyState, versionsWith } from "./study-state.ts";

const digest = (digit: string): Sha256 => digit.repeat(64) as Sha256; // 64 hexadecimal digits.
const version = (digit: string): ModelVersionId => digit.repeat(64) as ModelVersionId; // 64 hexadecimal digits.
const a = "hospital-a" as SiteId; // A slug.
const b = "hospital-b" as SiteId; // A slug.
const c = "hospital-c" as SiteId; // A slug.
const fold = (state: enrolment.EnrolmentState, record: FederationRecord): enrolment.EnrolmentState =>
  enrolment.evolveEnrolment(state, record, 7);
const weights = { sha256: digest("b"), bytes: 1 };
const envelope = { payload: "", payloadType: "", signatures: [] };

t.test("the error catalogue gives every code a status, and a sentence that ends", async (t) => {
  for (const [code, entry] of Object.entries(errorCatalogue)) {
    t.ok(entry.status >= 400 && entry.status < 600, code);
    t.match(entry.sentence, /^[A-Z].*[.]$/, code);
  }
  t.ok(isProtocolErrorCode("round.closed"));
  t.notOk(isProtocolErrorCode("toString"));
  t.match(
    new ProtocolError("plan.invalid", ["labels: a name occurs twice"]).message,
    /every fault is listed. labels/,
  );
});

t.test("an invitation serves one site, once, until it expires", async (t) => {
  const key = generateSigningKey().publicKey;
  const command = { site: a, invitation: digest("1"), publicKey: key, envelope };
  const invited = enrolment
    .invite(enrolment.initialEnrolmentState, { site: a, invitation: digest("1"), expiresAtMs: 100 }, 0)
    .reduce(fold, enrolment.initialEnrolmentState);

  t.throws(() => enrolment.invite(invited, { site: a, invitation: digest("2"), expiresAtMs: 200 }, 50), {
    code: "site.name-taken",
  });
  t.equal(
    enrolment.invite(invited, { site: a, invitation: digest("2"), expiresAtMs: 200 }, 150).length,
    1,
    "an expired invitation can be replaced",
  );
  t.throws(() => enrolment.enrol(invited, command, 100), { code: "invitation.refused" }, "expired");
  t.throws(
    () => enrolment.enrol(invited, { ...command, site: b }, 0),
    { code: "invitation.refused" },
    "another site's",
  );
  t.throws(
    () => enrolment.enrol(invited, { ...command, invitation: digest("9") }, 0),
    { code: "invitation.refused" },
    "unknown",
  );

  const enrolled = enrolment.enrol(invited, command, 0).reduce(fold, invited);
  t.equal(enrolled.sites.get(a)?.status, "active");
  t.strictSame(
    enrolment.enrol(enrolled, command, 50),
    [],
    "the same request again is answered, not recorded",
  );
  const other = { ...command, publicKey: generateSigningKey().publicKey };
  t.throws(() => enrolment.enrol(enrolled, other, 50), { code: "invitation.refused" }, "another key");
  t.throws(() => enrolment.invite(enrolled, { site: a, invitation: digest("3"), expiresAtMs: 999 }, 500), {
    code: "site.name-taken",
  });
});

t.test("a site is suspended and resumed, and retired for good", async (t) => {
  const state: enrolment.EnrolmentState = {
    invitations: new Map(),
    sites: new Map([
      [
        a,
        {
          site: a,
          publicKey: generateSigningKey().publicKey,
          status: "active",
          invitation: digest("1"),
          enrolledAtMs: 0,
          refusedDocuments: [],
          alarm: null,
        },
      ],
    ]),
  };
  const change = (from: enrolment.EnrolmentState, to: enrolment.SiteStatus): enrolment.EnrolmentState =>
    enrolment.changeStatus(from, { site: a, to, reason: "test" }).reduce(fold, from);
  const suspended = change(state, "suspended");
  t.equal(suspended.sites.get(a)?.status, "suspended");
  t.throws(() => change(suspended, "suspended"), { code: "site.wrong-state" });
  const retired = change(change(suspended, "active"), "retired");
  t.throws(() => change(retired, "active"), { code: "site.wrong-state" });
  t.throws(() => enrolment.changeStatus(state, { site: b, to: "retired", reason: "" }), {
    code: "site.unknown",
  });
});

t.test("a site cannot fill the log with nonsense", async (t) => {
  const site = {
    site: a,
    publicKey: generateSigningKey().publicKey,
    status: "active",
    invitation: digest("1"),
    enrolledAtMs: 0,
    refusedDocuments: [],
    alarm: null,
  } as const;
  let state: enrolment.EnrolmentState = { invitations: new Map(), sites: new Map([[a, site]]) };
  let recorded = 0;
  for (let at = 0; at < 200; at += 1) {
    const document = at.toString(16).padStart(64, "0") as Sha256; // 64 hexadecimal digits.
    const refusal = { site: a, code: "envelope.refused", document };
    const records = enrolment.refuseDocument(state, refusal);
    recorded += records.length;
    state = records.reduce(fold, state);
    t.strictSame(enrolment.refuseDocument(state, refusal), [], "the same document again is not recorded");
  }
  t.equal(recorded, 64);
});

t.test("the acceptance rule promotes what is better on the whole and worse nowhere", async (t) => {
  const rule = { metric: "mean-dice", minGain: 0.01, siteDropMax: 0.05 } as const;
  const best: Standing = {
    version: version("1"),
    meanDice: 0.8,
    scores: new Map([
      [a, 0.9],
      [b, 0.7],
    ]),
  };
  const scores = (x: number | null, y: number | null): Map<SiteId, number | null> =>
    new Map([
      [a, x],
      [b, y],
    ]);
  t.strictSame(judge(scores(0.5, 0.7), null, rule), { promoted: true, meanDice: 0.6, reason: "first" });
  t.strictSame(judge(scores(0.9, 0.8), best, rule), { promoted: true, meanDice: 0.85, reason: "better" });
  t.strictSame(judge(scores(0.9, 0.715), best, rule), {
    promoted: false,
    meanDice: 0.8075,
    reason: "not-better",
  });
  t.strictSame(judge(scores(0.84, 0.98), best, rule), {
    promoted: false,
    meanDice: 0.91,
    reason: "site-dropped",
  });
  t.strictSame(judge(scores(null, null), best, rule), {
    promoted: false,
    meanDice: null,
    reason: "no-reports",
  });
  t.strictSame(judge(new Map(), null, rule), { promoted: false, meanDice: null, reason: "no-reports" });
  t.equal(judge(scores(0.9, 0.72), best, rule).reason, "better", "a gain of exactly the minimum is enough");
  t.equal(
    meanOfSites(
      new Map([
        [b, 0.3],
        [a, 0.1],
        [c, null],
      ]),
    ),
    meanOfSites(
      new Map([
        [a, 0.1],
        [c, null],
        [b, 0.3],
      ]),
    ),
  );
});

/** Two rounds by a and b, a third by a and c, each version judged as given. */
function threeRounds(): StudyState {
  const study = "study" as never; // A slug.
  const records: StudyRecord[] = [
    {
      kind: "version.created",
      study,
      round: 0,
      version: version("0"),
      weights,
      evaluateUntilMs: 0,
      envelope,
    },
    { kind: "study.opened", study, plan: digest("f"), recruitUntilMs: 0, envelope },
    ...[a, b, c].map((site): StudyRecord => ({ kind: "plan.approved", study, site, examples: 1, envelope })),
  ];
  const sites = [
    [a, b],
    [a, b],
    [a, c],
  ];
  sites.forEach((cohort, at) => {
    const [round, made] = [at + 1, version(String(at + 1))];
    records.push({
      kind: "round.opened",
      study,
      round,
      baseVersion: version(String(at)),
      deadlineMs: 1,
      sites: cohort,
    });
    for (const site of cohort)
      records.push({
        kind: "update.accepted",
        study,
        round,
        site,
        delta: digest("d"),
        update: digest("e"),
        examples: 1,
        envelope,
      });
    records.push({ kind: "round.closed", study, round, accepted: [], missing: [] });
    records.push({
      kind: "version.created",
      study,
      round,
      version: made,
      weights,
      evaluateUntilMs: 1,
      envelope,
    });
    records.push({
      kind: "version.judged",
      study,
      version: made,
      promoted: at < 2,
      meanDice: 0.5 + at / 10,
      reason: "better",
    });
  });
  return records.reduce(evolve, initialStudyState(study));
}

t.test("release takes the best by default, and rolling back goes to the release before", async (t) => {
  const state = threeRounds();
  t.equal(state.best?.version, version("2"));
  const first = release(state, version("1"), "").reduce(evolve, state);
  const second = release(first, null, "").reduce(evolve, first);
  t.equal(second.released.at(-1), version("2"));
  t.throws(() => release(second, version("2"), ""), { code: "version.wrong-state" }, "already in use");
  t.throws(
    () => release(second, version("0"), ""),
    { code: "version.wrong-state" },
    "the start version was never trained",
  );
  t.throws(() => release(second, version("9"), ""), { code: "version.unknown" });
  const back = rollBack(second, "").reduce(evolve, second);
  t.strictSame(back.released, [version("1")]);
  const none = rollBack(back, "").reduce(evolve, back);
  t.strictSame(none.released, []);
  t.throws(() => rollBack(none, ""), { code: "version.wrong-state" });
});

t.test("a withdrawn contribution takes every version with it that it reached", async (t) => {
  const state = threeRounds();
  t.strictSame(versionsWith(state, c), [version("3")]);
  t.strictSame(versionsWith(state, b), [version("1"), version("2"), version("3")]);
  const released = release(state, version("2"), "").reduce(evolve, state);
  const records = withdrawContribution(released, b, "consent withdrawn");
  t.strictSame(
    records.map((record) => record.kind),
    ["contribution.withdrawn", "release.rolled-back"],
  );
  const after = records.reduce(evolve, released);
  t.strictSame([after.last, after.best, after.released], [version("0"), null, []]);
  t.throws(() => release(after, version("2"), ""), { code: "version.wrong-state" });
  t.throws(() => withdrawContribution(after, b, ""), { code: "site.wrong-state" }, "once");
});
