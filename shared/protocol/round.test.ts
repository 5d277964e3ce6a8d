// round.ts and site-session.ts, case by case. What they do together under faults is in test/simulation.

import t from "tap";
import { drawPlan, siteName, startVersion, study, weightsOf } from "../../test/simulation/scenery.ts";
import type { ModelVersionId, Sha256, SiteId } from "../base/brand.ts";
import { Prng } from "../base/prng.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import { planFaults } from "../model/study-plan.ts";
import { roundDurationMsMax } from "./limits.ts";
import { decide } from "./round.ts";
import type { RoundContext, RoundEffect, RoundEvent } from "./round-events.ts";
import { decideSite, evolveSite, initialSiteState, type SiteEvent, type SiteState } from "./site-session.ts";
import { evolve, initialStudyState, type StudyState } from "./study-state.ts";

const digest = (digit: string): Sha256 => digit.repeat(64) as Sha256; // 64 hexadecimal digits.
const version = (digit: string): ModelVersionId => digit.repeat(64) as ModelVersionId; // 64 hexadecimal digits.
const envelope = { payload: "", payloadType: "", signatures: [] };
const sites = [0, 1, 2].map(siteName) as [SiteId, SiteId, SiteId]; // Three names.
const [a, b, c] = sites;
const planDigest = digest("f");

function context(changes: Partial<StudyPlan["rounds"]> = {}, inactive: readonly SiteId[] = []): RoundContext {
  const plan = drawPlan(new Prng(1), sites);
  const rounds = {
    count: 3,
    quorum: 2,
    recruitmentMs: 1000,
    trainingMs: 1000,
    evaluationMs: 1000,
    abandonedInARowMax: 3,
    ...changes,
  };
  return { plan: { ...plan, rounds }, planDigest, isActive: (site) => !inactive.includes(site) };
}

/** Apply an event as the runner does, and keep what was asked for. */
function step(
  state: StudyState,
  event: RoundEvent,
  under: RoundContext,
): { state: StudyState; effects: RoundEffect[] } {
  const effects = decide(state, event, under);
  const records = effects.flatMap((effect) => (effect.kind === "append" ? [effect.record] : []));
  return { state: records.reduce(evolve, state), effects };
}

const kinds = (effects: readonly RoundEffect[]): string[] =>
  effects.map((effect) =>
    effect.kind === "append"
      ? effect.record.kind
      : effect.kind === "send"
        ? `${effect.message.kind} ${effect.to}`
        : effect.kind,
  );

const opened = [
  {
    kind: "version.created",
    study,
    round: 0,
    version: startVersion,
    weights: weightsOf(startVersion),
    evaluateUntilMs: 0,
    envelope,
  },
  { kind: "study.opened", study, plan: planDigest, recruitUntilMs: 1000, envelope },
] as const;

function recruited(names: readonly SiteId[], under: RoundContext, nowMs = 0): StudyState {
  let state = opened.reduce(evolve, initialStudyState(study));
  for (const site of names)
    state = step(
      state,
      { kind: "approved", nowMs, site, plan: planDigest, examples: 5, envelope },
      under,
    ).state;
  return state;
}

const update = (site: SiteId, changes: object = {}): RoundEvent => ({
  kind: "update",
  nowMs: 10,
  site,
  round: 1,
  plan: planDigest,
  baseVersion: startVersion,
  delta: digest("d"),
  update: digest(site.slice(-1)),
  examples: 5,
  envelope,
  ...changes,
});

t.test("the first round waits for every site, then for a quorum once recruitment has ended", async (t) => {
  const under = context();
  const two = recruited([a, b], under);
  t.equal(two.phase, "waiting");
  t.strictSame(kinds(decide(two, { kind: "timer", nowMs: 500 }, under)), ["timer"]);
  t.strictSame(kinds(decide(two, { kind: "timer", nowMs: 1000 }, under)), [
    "round.opened",
    "timer",
    `round.offer ${a}`,
    `round.offer ${b}`,
  ]);
  t.equal(recruited(sites, under).phase, "training", "with all approvals there is nothing to wait for");
  t.strictSame(
    kinds(decide(recruited([a], under), { kind: "timer", nowMs: 5000 }, under)),
    [],
    "one site is no federation",
  );
});

t.test(
  "a round closes when all have answered, or at the deadline with a quorum, and else is abandoned and doubled",
  async (t) => {
    const under = context();
    const open = recruited(sites, under);
    const one = step(open, update(a), under).state;
    const two = step(one, update(b), under);
    t.strictSame(kinds(two.effects), ["update.accepted", `update.settled ${b}`, "timer"]);
    t.strictSame(kinds(decide(two.state, { kind: "timer", nowMs: 1000 }, under)), [
      "round.closed",
      "aggregate",
    ]);
    t.strictSame(kinds(step(two.state, update(c), under).effects), [
      "update.accepted",
      `update.settled ${c}`,
      "round.closed",
      "aggregate",
    ]);
    let state = step(one, { kind: "timer", nowMs: 1000 }, under).state;
    t.match(state, { phase: "training", round: 2, deadlineMs: 3000, abandonedInARow: 1 }, "twice as long");
    state = step(state, { kind: "timer", nowMs: 3000 }, under).state;
    t.match(state, { round: 3, deadlineMs: 7000 });
    t.strictSame(
      kinds(decide(state, { kind: "timer", nowMs: 7000 }, under)).slice(0, 2),
      ["round.abandoned", "study.finished"],
      "not for ever",
    );
    const patient = context({ abandonedInARowMax: 1000, trainingMs: roundDurationMsMax });
    const long = { ...state, abandonedInARow: 100 };
    const [, reopened] = decide(long, { kind: "timer", nowMs: 7000 }, patient);
    t.match(
      reopened,
      { record: { kind: "round.opened", deadlineMs: 7000 + roundDurationMsMax } },
      "the doubling has an end",
    );
  },
);

t.test(
  "a suspension that takes the quorum away ends the round at once, and resuming opens the next",
  async (t) => {
    const open = recruited(sites, context());
    const without = context({}, [b, c]);
    const lost = step(open, { kind: "sites-changed", nowMs: 5 }, without);
    t.strictSame(kinds(lost.effects), ["round.abandoned"]);
    t.equal(lost.state.phase, "waiting");
    const resumed = step(lost.state, { kind: "sites-changed", nowMs: 9 }, context());
    t.match(resumed.state, { phase: "training", round: 2 });
  },
);

t.test("every objection to an update has its code", async (t) => {
  const under = context();
  const open = recruited(sites, under);
  const code = (state: StudyState, event: RoundEvent, during = under): unknown => {
    const settled = decide(state, event, during).find((effect) => effect.kind === "send");
    return settled?.kind === "send" && settled.message.kind === "update.settled"
      ? settled.message.outcome
      : null;
  };
  t.equal(code(open, update(a)), "accepted");
  t.equal(code(open, update(a, { plan: digest("0") })), "plan.stale");
  t.equal(code(open, update(a), context({}, [a])), "site.not-active");
  t.equal(code(open, update(siteName(9))), "plan.not-approved");
  t.equal(code(open, update(a, { round: 2 })), "round.closed");
  t.equal(code(open, update(a, { baseVersion: version("9") })), "version.stale");
  t.equal(code(open, update(a, { examples: 6 })), "update.examples-exceeded");
  const accepted = step(open, update(a), under).state;
  t.equal(code(accepted, update(a, { update: digest("9") })), "update.duplicate");
  t.equal(code(accepted, update(a)), "accepted", "a retry is answered as the first time");
  t.strictSame(kinds(decide(accepted, update(a), under)), [`update.settled ${a}`], "and not recorded again");
  const missing = decide(
    open,
    { kind: "update-refused", nowMs: 1, site: a, round: 1, update: digest("1"), code: "update.blob-missing" },
    under,
  );
  t.strictSame(kinds(missing), [`update.settled ${a}`], "what an upload can mend leaves no record");
});

t.test("plans that a schema cannot fault are faulted all at once", async (t) => {
  const { plan } = context();
  t.strictSame(planFaults(plan), []);
  const [label] = plan.labels;
  const broken = {
    ...plan,
    sites: [b, a],
    labels: label ? [label, label] : [],
    rounds: { ...plan.rounds, quorum: 5 },
  };
  t.equal(planFaults(broken).length, 4);
});

const run = (state: SiteState, event: SiteEvent) => {
  const effects = decideSite(state, event);
  const after = effects.reduce(
    (next, effect) => (effect.kind === "append" ? evolveSite(next, effect.record) : next),
    state,
  );
  return { effects, state: after };
};

t.test(
  "a site works under its approved plan alone, on one thing at a time, and never twice in a round",
  async (t) => {
    const base = { version: startVersion, weights: weightsOf(startVersion) };
    const offer = {
      kind: "round.offer",
      study,
      plan: planDigest,
      round: 1,
      base,
      completedRounds: 0,
      remainingMs: 100,
    } as const;
    const hear = (state: SiteState, message: object) =>
      run(state, { kind: "message", message: message as typeof offer }); // Messages of the protocol.
    t.strictSame(hear(initialSiteState, offer).effects, [], "nothing was approved");
    const approved = run(initialSiteState, {
      kind: "approval",
      study,
      plan: planDigest,
      examples: 5,
      envelope,
    }).state;
    t.match(hear(approved, offer).effects, [{ kind: "train" }]);
    t.strictSame(
      hear(approved, { ...offer, plan: digest("0") }).effects,
      [],
      "another plan under the same name",
    );
    t.strictSame(hear({ ...approved, busy: true }, offer).effects, []);
    t.strictSame(hear(approved, { ...offer, remainingMs: 0 }).effects, [], "too late to count");
    const trained = run(approved, {
      kind: "trained",
      study,
      round: 1,
      delta: digest("d"),
      bytes: 4,
      envelope,
    });
    t.strictSame(
      trained.effects.map((effect) => effect.kind),
      ["append", "submit"],
      "kept before it is shown",
    );
    t.match(hear(trained.state, offer).effects, [{ kind: "submit" }], "the same bytes again");
    t.strictSame(
      run(trained.state, { kind: "trained", study, round: 1, delta: digest("e"), bytes: 4, envelope })
        .effects,
      [],
      "a second result of the round is dropped",
    );
    const settled = hear(trained.state, {
      kind: "update.settled",
      study,
      round: 1,
      outcome: "accepted",
    }).state;
    t.strictSame(hear(settled, offer).effects, []);
    t.match(
      run(trained.state, { kind: "timer" }).effects.map((effect) => effect.kind),
      ["send", "submit"],
    );
  },
);

t.test(
  "a site that has seen a log that does not continue its checkpoint does nothing more but say so",
  async (t) => {
    const approved = run(initialSiteState, {
      kind: "approval",
      study,
      plan: planDigest,
      examples: 5,
      envelope,
    }).state;
    const alarmed = run(approved, { kind: "log-inconsistent", reason: "inconsistent", envelope });
    t.match(alarmed.effects, [
      { kind: "append", record: { kind: "alarm.raised" } },
      { kind: "send", message: { kind: "witness.alarm" } },
    ]);
    const base = { version: startVersion, weights: weightsOf(startVersion) };
    const offer: SiteEvent = {
      kind: "message",
      message: {
        kind: "round.offer",
        study,
        plan: planDigest,
        round: 1,
        base,
        completedRounds: 0,
        remainingMs: 100,
      },
    };
    t.strictSame(run(alarmed.state, offer).effects, []);
    t.match(run(alarmed.state, { kind: "timer" }).effects, [
      { kind: "send", message: { kind: "witness.alarm" } },
    ]);
    const cleared = evolveSite(alarmed.state, { kind: "alarm.cleared", by: "officer" });
    t.match(run(cleared, offer).effects, [{ kind: "train" }]);
  },
);

t.test("a release is named to a site until the site has said that it uses it", async (t) => {
  const under = context();
  const released = { ...recruited(sites, under), released: [version("7")] };
  const hello: RoundEvent = { kind: "hello", nowMs: 1, site: a };
  t.ok(kinds(decide(released, hello, under)).includes(`version.released ${a}`));
  const installed = { ...released, installed: new Map([[a, version("7")]]) };
  t.notOk(kinds(decide(installed, hello, under)).includes(`version.released ${a}`));
  const message = {
    kind: "version.released",
    study,
    released: { version: version("7"), weights: weightsOf(startVersion) },
  } as const;
  const approved = run(initialSiteState, {
    kind: "approval",
    study,
    plan: planDigest,
    examples: 5,
    envelope,
  }).state;
  t.match(run(approved, { kind: "message", message }).effects, [{ kind: "install" }]);
  const after = run(approved, { kind: "installed", study, version: version("7"), envelope }).state;
  t.match(run(after, { kind: "message", message }).effects, [
    { kind: "send", message: { kind: "version.installed" } },
  ]);
});

t.test("when nothing is in use any more, a site is told until it says that it has followed", async (t) => {
  const under = context();
  const ended = { ...recruited(sites, under), installed: new Map([[a, version("7")]]) };
  const hello: RoundEvent = { kind: "hello", nowMs: 1, site: a };
  t.match(
    decide(ended, hello, under).filter((effect) => effect.kind === "send"),
    [{ message: { kind: "round.offer" } }, { message: { kind: "version.released", released: null } }],
  );
  const followed = { ...ended, installed: new Map([[a, null]]) };
  t.notOk(kinds(decide(followed, hello, under)).includes(`version.released ${a}`));
  const never = { ...ended, installed: new Map() };
  t.notOk(kinds(decide(never, hello, under)).includes(`version.released ${a}`), "there is nothing to end");

  const message = { kind: "version.released", study, released: null } as const;
  const approval = { kind: "approval", study, plan: planDigest, examples: 5, envelope } as const;
  const installed = { kind: "installed", study, version: version("7"), envelope } as const;
  const using = run(run(initialSiteState, approval).state, installed).state;
  t.match(run(using, { kind: "message", message }).effects, [
    { kind: "install", release: { released: null } },
  ]);
  const without = run(using, { ...installed, version: null }).state;
  t.match(run(without, { kind: "message", message }).effects, [
    { kind: "send", message: { kind: "version.installed" } },
  ]);
});
