// What must hold in every simulated federation, in sentences. Each invariant reads only what is durable and what went
// over the wire, never the machines' opinion of themselves.

import assert from "node:assert/strict";
import { evolveFederation, initialFederationState } from "@consilium/shared/protocol/federation.ts";
import { illegalities } from "@consilium/shared/protocol/legality.ts";
import type { LogRecord, LogRecordKind, RecordOf } from "@consilium/shared/protocol/records.ts";
import * as scenery from "./scenery.ts";
import { examplesOfSite } from "./site-process.ts";
import type { World } from "./world.ts";

function records<K extends LogRecordKind>(world: World, kind: K): RecordOf<K>[] {
  return world.coordinator.log
    .map((entry) => entry.record)
    .filter((record): record is RecordOf<K> => record.kind === kind);
}

export const invariants: Record<string, (world: World) => void> = {
  "every entry of the log is legal after those before it"(world) {
    world.coordinator.log.reduce((state, entry) => {
      const plan = state.plans.has(scenery.study) ? world.plan : null;
      assert.deepEqual(illegalities(state, entry, plan), [], `entry ${entry.index}, ${entry.record.kind}`);
      return evolveFederation(state, entry);
    }, initialFederationState);
  },

  "a site is counted at most once in a round"(world) {
    const counted = records(world, "update.accepted").map((record) => `${record.round} ${record.site}`);
    assert.equal(new Set(counted).size, counted.length);
  },

  "an acknowledged update is in the log, and was before it was acknowledged"(world) {
    for (const { message, to, recordsBefore } of world.wire) {
      if (message.kind !== "update.settled" || message.outcome !== "accepted") continue;
      const before = world.coordinator.log.slice(0, recordsBefore).map((entry) => entry.record);
      assert(
        before.some((record) => isAcceptance(record, message.round, to)),
        `round ${message.round} of ${to}`,
      );
    }
  },

  "a version is made of exactly the updates that its round closed with"(world) {
    const closings = new Map(records(world, "round.closed").map((record) => [record.round, record]));
    const openings = new Map(records(world, "round.opened").map((record) => [record.round, record]));
    for (const { round, version } of records(world, "version.created")) {
      if (round === 0) continue;
      const [opened, closed] = [openings.get(round), closings.get(round)];
      assert(opened && closed && closed.accepted.length >= world.plan.rounds.quorum, `round ${round}`);
      assert.equal(version, scenery.versionOf(opened.baseVersion, closed.accepted), `round ${round}`);
    }
  },

  "a site shows one update in a round, and kept it before it showed it"(world) {
    const shown = new Map<string, string>();
    for (const { from, message, recordsBefore } of world.wire) {
      if (message.kind !== "update.submit") continue;
      const { site, round, delta } = scenery.documentOf<scenery.SimulatedUpdate>(message.envelope);
      assert.equal(shown.get(`${site} ${round}`) ?? delta, delta, `two updates of ${from} in round ${round}`);
      shown.set(`${site} ${round}`, delta);
      const kept = (world.sites.get(site)?.journal ?? []).slice(0, recordsBefore);
      assert(
        kept.some((record) => record.kind === "update.prepared" && record.delta === delta),
        `shown before kept: ${from}, round ${round}`,
      );
    }
  },

  "no site works under a plan that its hospital has not approved"(world) {
    for (const [site, { journal }] of world.sites) {
      const approved = journal.findIndex((record) => record.kind === "plan.approved");
      const worked = journal.findIndex(
        (record) => record.kind === "update.prepared" || record.kind === "evaluation.prepared",
      );
      assert(worked < 0 || (approved >= 0 && approved < worked), site);
    }
  },

  "a refused update has no effect but its refusal"(world) {
    const broken = new Set<string>();
    for (const { message } of world.wire) {
      if (message.kind !== "update.submit") continue;
      const document = scenery.documentOf<scenery.SimulatedUpdate>(message.envelope);
      if (document.broken || document.examples > examplesOfSite) broken.add(document.delta);
    }
    for (const record of records(world, "update.accepted"))
      assert(!broken.has(record.delta), `round ${record.round}`);
  },
};

function isAcceptance(record: LogRecord, round: number, site: string): boolean {
  return record.kind === "update.accepted" && record.round === round && record.site === site;
}
