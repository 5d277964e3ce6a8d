import { modelVersionId, type Sha256, sha256, siteId, studyId } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { type Envelope, seal } from "@consilium/shared/crypto/envelope.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import { AlarmDocument } from "@consilium/shared/protocol/documents.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import type { SiteEvent, SiteRecord } from "@consilium/shared/protocol/site-session.ts";
import t from "tap";
import type { Static } from "typebox";
import { Value } from "typebox/value";
import type { AgentNotice } from "./agent/agent-notice.ts";
import { holdOffMsFirst, holdOffMsMax } from "./agent/failure-memory.ts";
import {
  Agent,
  type AgentPorts,
  type JobControl,
  type RoundOffer,
  type Work,
  waitingEventsMax,
} from "./agent.ts";
import { AgentEvent, describeEvent, eventOf } from "./events.ts";
import { JournalRecord } from "./journal-record.ts";

const study = studyId("liver");
const plan = sha256("c".repeat(64));
const version = modelVersionId("d".repeat(64));
const key = generateSigningKey();
const alarm = { origin: "test.invalid/log", site: siteId("hospital-a"), heldSize: 2, offeredSize: 1 };
const document = (text: string): Envelope => ({
  ...seal(AlarmDocument, { ...alarm, reason: "shrunk" }, key),
  payload: text,
});
const reference = { version, weights: { sha256: plan, bytes: 1 } };

const offer = (round: number): RoundOffer => ({
  kind: "round.offer",
  study,
  plan,
  round,
  base: reference,
  completedRounds: round - 1,
  remainingMs: 1000,
});
const evaluation: ToSite = { kind: "evaluation.offer", study, plan, candidate: reference, remainingMs: 1000 };
const approval = { kind: "approval", study, plan, examples: 4, envelope: document("approval") } as const;
const message = (said: ToSite): SiteEvent => ({ kind: "message", message: said });

/** A site around the agent: a disk that survives, a wire that remembers, work whose result is another each time. */
class Surroundings {
  readonly records: SiteRecord[] = [];
  readonly sent: ToCoordinator[] = [];
  readonly told: AgentNotice[] = [];
  readonly clock = new ManualClock(0);
  readonly deadlines: AbortController[] = [];
  trainings = 0;
  deliveries: Sha256[] = [];
  /** Effects until the process dies. */
  effectsLeft = Number.POSITIVE_INFINITY;
  /** What keeps a message in the house for a while. */
  hold: (said: ToCoordinator) => Promise<void> = async () => {};
  train: Work["train"] = async ({ round }) => this.#trained(round);

  agent(): Agent {
    return new Agent([...this.records], this.#ports());
  }

  #trained(round: number): Extract<SiteEvent, { kind: "trained" }> {
    this.trainings += 1;
    const text = `round ${round}, training ${this.trainings}`;
    const delta = blobDigest(new TextEncoder().encode(text));
    return { kind: "trained", study, round, delta, bytes: 1, envelope: document(text) };
  }

  #effect(): void {
    if (this.effectsLeft <= 0) throw new Error("the process has died");
    this.effectsLeft -= 1;
  }

  #ports(): AgentPorts {
    return {
      clock: this.clock,
      deadline: () => {
        const controller = new AbortController();
        this.deadlines.push(controller);
        return controller.signal;
      },
      tell: (event) => void this.told.push(event),
      journal: {
        append: async (record) => {
          this.#effect();
          this.records.push(record);
        },
      },
      channel: {
        send: async (said) => {
          this.#effect();
          this.sent.push(said);
          await this.hold(said);
        },
      },
      work: {
        train: (given, control) => this.train(given, control),
        evaluate: async () => ({ kind: "evaluated", study, version, envelope: document("evaluation") }),
        install: async () => ({ kind: "installed", study, version, envelope: document("installation") }),
        deliver: async ({ delta }) => {
          this.#effect();
          this.deliveries.push(delta);
        },
      },
    };
  }
}

/** Lets everything that is ready run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

const kinds = (all: readonly { kind: string }[]): string[] => all.map(({ kind }) => kind);

t.test("a study is approved, trained, evaluated and installed, each record before its message", async (t) => {
  const around = new Surroundings();
  const agent = around.agent();
  await agent.post({ kind: "started" });
  await agent.post({ kind: "connected" });
  await agent.post(approval);
  await agent.post(message(offer(1)));
  await settle();
  await agent.post(message({ kind: "update.settled", study, round: 1, outcome: "accepted" }));
  await agent.post(message(evaluation));
  await settle();
  await agent.post(message({ kind: "evaluation.settled", study, version, outcome: "accepted" }));
  await agent.post(message({ kind: "version.released", study, released: reference }));
  await settle();
  t.strictSame(kinds(around.records), [
    "plan.approved",
    "update.prepared",
    "update.settled",
    "evaluation.prepared",
    "evaluation.settled",
    "version.installed",
  ]);
  t.strictSame(kinds(around.sent), [
    "session.hello",
    "plan.approve",
    "update.submit",
    "evaluation.submit",
    "version.installed",
  ]);
  t.ok(
    around.records.every((record) => Value.Check(JournalRecord, record)),
    "the journal's schema takes them all",
  );
  const events = around.told.flatMap((notice) => eventOf(notice) ?? []);
  t.ok(
    events.length > 8 && events.every((event) => Value.Check(AgentEvent, event)),
    "the log lets them through",
  );
  t.ok(events.every((event) => describeEvent(event).length > 5));
  agent.stop();
  t.strictSame(await agent.ended, { kind: "stopped" });
});

t.test("whichever effect the process dies in, one update of a round is ever shown", async (t) => {
  for (let effects = 0; effects < 14; effects += 1) {
    const around = new Surroundings();
    around.effectsLeft = effects;
    for (let life = 0; life < 3; life += 1) {
      const agent = around.agent();
      for (const event of [
        { kind: "started" },
        { kind: "connected" },
        approval,
        message(offer(1)),
        { kind: "timer" },
        message(offer(1)),
      ] as const) {
        await agent.post(event);
        await settle();
      }
      agent.stop();
      if (life === 0 && effects < 4) t.match(await agent.ended, { kind: "failed" });
      around.effectsLeft = Number.POSITIVE_INFINITY;
    }
    const shown = around.sent.flatMap((said) =>
      said.kind === "update.submit" ? [said.envelope.payload] : [],
    );
    t.ok(shown.length > 0, `died after ${effects} effects: the update was delivered in the end`);
    t.equal(new Set(shown).size, 1, "always the same bytes");
    t.equal(new Set(around.deliveries).size, 1);
  }
});

t.test(
  "a job ends when its deadline passes, when news make it pointless, and when the agent stops",
  async (t) => {
    const around = new Surroundings();
    const signals: AbortSignal[] = [];
    around.train = (_, { signal }: JobControl) => {
      signals.push(signal);
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("given up")));
      });
    };
    const agent = around.agent();
    await agent.post(approval);
    await agent.post(message(offer(1)));
    around.deadlines[0]?.abort();
    await settle();
    t.ok(signals[0]?.aborted, "deadline");
    await agent.post(message(offer(2)));
    await agent.post(message(offer(2)));
    t.equal(signals.length, 2, "one job at a time, and it is not disturbed by its own offer");
    t.notOk(signals[1]?.aborted);
    await agent.post(message(offer(3)));
    await settle();
    t.ok(signals[1]?.aborted, "a later round");
    await agent.post(message(offer(3)));
    await agent.post(message(evaluation));
    await settle();
    t.ok(signals[2]?.aborted, "the round is being evaluated");
    await agent.post(message(offer(4)));
    await agent.post(message({ kind: "study.finished", study }));
    await settle();
    t.ok(signals[3]?.aborted, "the study has ended");
    await agent.post(message(offer(5)));
    agent.stop();
    await settle();
    t.ok(signals[4]?.aborted, "the agent was stopped");
    t.equal(around.told.filter(({ kind }) => kind === "job.abandoned").length, 5);
    t.notOk(kinds(around.records).includes("update.prepared"));
  },
);

t.test("a study whose jobs fail is left alone for longer and longer, up to a bound", async (t) => {
  const around = new Surroundings();
  const agent = around.agent();
  const train = around.train;
  around.train = async () => {
    throw Object.assign(new Error("no path is told"), { code: "folder.unreadable" });
  };
  await agent.post(approval);
  const holdOffs: number[] = [];
  for (let attempt = 0; attempt < 10; attempt += 1) {
    await agent.post(message(offer(1)));
    await agent.post(message(offer(1)));
    await settle();
    const failed = around.told.flatMap((event) => (event.kind === "job.failed" ? [event] : []));
    t.equal(failed.length, attempt + 1, "offers in between are not taken");
    t.match(failed.at(-1)?.error, { code: "folder.unreadable" });
    holdOffs.push(failed.at(-1)?.holdOffMs ?? 0);
    around.clock.advance(holdOffs.at(-1) ?? 0);
  }
  t.strictSame(holdOffs.slice(0, 3), [holdOffMsFirst, 2 * holdOffMsFirst, 4 * holdOffMsFirst]);
  t.equal(holdOffs.at(-1), holdOffMsMax);
  around.train = train;
  await agent.post(message(offer(1)));
  await settle();
  t.ok(kinds(around.records).includes("update.prepared"));
});

t.test("after an alarm the agent says so, does nothing more and ends", async (t) => {
  const around = new Surroundings();
  const agent = around.agent();
  await agent.post(approval);
  await agent.post({ kind: "log-inconsistent", reason: "inconsistent", envelope: document("alarm") });
  t.strictSame(await agent.ended, { kind: "alarm" });
  await agent.post(message(offer(1)));
  t.strictSame(kinds(around.sent), ["plan.approve", "witness.alarm"]);
  t.strictSame(kinds(around.records), ["plan.approved", "alarm.raised"]);
  t.equal(around.trainings, 0);

  const restarted = around.agent();
  await restarted.post({ kind: "started" });
  await restarted.post(message(offer(1)));
  await restarted.post({ kind: "connected" });
  t.strictSame(await restarted.ended, { kind: "alarm" }, "also after a restart");
  t.strictSame(kinds(around.sent).slice(2), ["witness.alarm"]);
  t.equal(around.trainings, 0);

  around.records.push({ kind: "alarm.cleared", by: "a person" });
  const cleared = around.agent();
  await cleared.post(message(offer(1)));
  await settle();
  t.equal(around.trainings, 1, "until a person clears it");
});

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

t.test("the journal's schema and the machine's records are one list", async (t) => {
  const agree: Same<Static<typeof JournalRecord>, SiteRecord> = true; // Compiles only while they are.
  t.ok(agree);
});

t.test("events that wait are bounded, and what must not be lost is not dropped", async (t) => {
  const around = new Surroundings();
  const agent = around.agent();
  const posts: Promise<void>[] = [];
  for (let index = 0; index < 3 * waitingEventsMax; index += 1) {
    posts.push(agent.post(message({ kind: "study.invitation", study, plan })));
  }
  posts.push(agent.post(approval));
  await Promise.all(posts);
  t.strictSame(kinds(around.records), ["plan.approved"]);
});

t.test("progress that cannot leave at once gives way to newer progress", async (t) => {
  const around = new Surroundings();
  let release: () => void = () => {};
  around.hold = (said) =>
    said.kind === "progress" ? new Promise((resolve) => (release = () => resolve())) : Promise.resolve();
  around.train = async ({ round }, { progress }) => {
    for (const step of [1, 2, 3])
      progress({ kind: "progress", study, round, phase: "training", step, steps: 3, loss: 1, dice: null });
    return new Promise(() => {});
  };
  const agent = around.agent();
  const steps = (): number[] => around.sent.flatMap((said) => (said.kind === "progress" ? [said.step] : []));
  await agent.post(approval);
  await agent.post(message(offer(1)));
  await settle();
  t.strictSame(steps(), [1]);
  release();
  await settle();
  t.strictSame(steps(), [1, 3]);
  agent.stop();
});
