import { evolveFederation, initialFederationState } from "@consilium/shared/protocol/federation.ts";
import { illegalities } from "@consilium/shared/protocol/legality.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import t from "tap";
import { invariants } from "./invariants.ts";
import { mutants } from "./mutants.ts";
import * as scenery from "./scenery.ts";
import { liveness, simulate } from "./simulate.ts";

const seedCount = 300;

t.test(`${seedCount} seeds keep every invariant and finish their study once healed`, async (t) => {
  let [crashes, versions, refusals, abandoned, withdrawn] = [0, 0, 0, 0, 0];
  for (let seed = 1; seed <= seedCount; seed += 1) {
    try {
      const world = simulate(seed);
      const count = (kind: string): number =>
        world.coordinator.log.filter((entry) => entry.record.kind === kind).length;
      crashes += world.crashes;
      versions += count("version.created") - 1;
      refusals += count("update.refused");
      abandoned += count("round.abandoned");
      withdrawn += count("contribution.withdrawn");
    } catch (cause) {
      throw new Error(`npm run simulate -- --seed ${seed}`, { cause });
    }
  }
  t.comment(
    `${crashes} crashes, ${versions} versions, ${refusals} refusals, ${abandoned} abandoned rounds, ${withdrawn} withdrawals`,
  );
  t.ok(versions > seedCount, "the simulation is not vacuous: versions were made");
  t.ok(
    crashes > seedCount && refusals > seedCount && abandoned > 20 && withdrawn > 20,
    "and faults were met",
  );
});

t.test("the same seed gives the same history", async (t) => {
  t.strictSame(simulate(42).coordinator.log, simulate(42).coordinator.log);
});

t.test("the simulator catches every mutant, by the sentence that it breaks", async (t) => {
  for (const [name, { seed, machines, breaks }] of Object.entries(mutants)) {
    t.throws(() => simulate(seed, machines, breaks), { name: "Violation" }, `${name}: seed ${seed}`);
    t.doesNotThrow(
      () => simulate(seed, undefined, breaks),
      `${name}: seed ${seed} is clean without the mutant`,
    );
  }
  const broken = Object.values(mutants).map((mutant) => mutant.breaks);
  for (const sentence of [...Object.keys(invariants), liveness]) {
    t.ok(broken.includes(sentence), `some mutant breaks: ${sentence}`);
  }
});

t.test("the rules of the log refuse a log with any entry left out, doubled or moved", async (t) => {
  const { plan, log } = simulate(7).coordinator;
  const faults = (entries: readonly LogEntry[]): number => {
    let state = initialFederationState;
    let count = 0;
    entries.forEach((entry, index) => {
      const moved = { ...entry, index };
      count += illegalities(state, moved, state.plans.has(scenery.study) ? plan : null).length;
      state = evolveFederation(state, moved);
    });
    return count;
  };
  t.equal(faults(log), 0);
  // What nothing later rests on can only be missed by the tree hashes: refusals, reports, what an abandoned round held.
  const closed = new Set(log.flatMap(({ record }) => (record.kind === "round.closed" ? [record.round] : [])));
  const loose = ["update.refused", "evaluation.reported", "site.suspended", "site.resumed"];
  for (const [at, { record }] of log.slice(0, -1).entries()) {
    const abandoned = record.kind === "update.accepted" && !closed.has(record.round);
    const without = log.filter((_, index) => index !== at);
    if (!loose.includes(record.kind) && !abandoned)
      t.ok(faults(without) > 0, `without entry ${at}, ${record.kind}`);
    const twice = [...log.slice(0, at + 1), ...log.slice(at)];
    if (record.kind !== "update.refused") t.ok(faults(twice) > 0, `entry ${at} twice, ${record.kind}`);
  }
});
