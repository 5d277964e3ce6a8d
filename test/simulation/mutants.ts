// Bugs that a reviewer could plausibly let through. The simulator is only worth its time if it catches each of them;
// each names the sentence it breaks and is pinned to a seed that shows it.

import { decide } from "@consilium/shared/protocol/round.ts";
import { decideSite } from "@consilium/shared/protocol/site-session.ts";
import type { Machines } from "./host.ts";
import { liveness, machines } from "./simulate.ts";

type Mutant = { readonly seed: number; readonly breaks: string; readonly machines: Machines };

export const mutants: Record<string, Mutant> = {
  "acknowledge before recording": {
    seed: 1,
    breaks: "an acknowledged update is in the log, and was before it was acknowledged",
    machines: {
      ...machines,
      decide: (state, event, context) => {
        const effects = decide(state, event, context);
        const settled = effects.findIndex(
          (effect) => effect.kind === "send" && effect.message.kind === "update.settled",
        );
        return settled > 0 ? [...effects.splice(settled, 1), ...effects] : effects;
      },
    },
  },
  "count a repeated update again": {
    seed: 1,
    breaks: "a site is counted at most once in a round",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide({ ...state, accepted: new Map(), latestAccepted: new Map() }, event, context),
    },
  },
  "close a round without its quorum": {
    seed: 1,
    breaks: "every entry of the log is legal after those before it",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, {
          ...context,
          plan: { ...context.plan, rounds: { ...context.plan.rounds, quorum: 1 } },
        }),
    },
  },
  "aggregate in the order of arrival": {
    seed: 1,
    breaks: "a version is made of exactly the updates that its round closed with",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, context).map((effect) =>
          effect.kind === "aggregate" ? { ...effect, accepted: [...state.accepted.values()] } : effect,
        ),
    },
  },
  "take updates of suspended sites": {
    seed: 3,
    breaks: "every entry of the log is legal after those before it",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, event.kind === "update" ? { ...context, isActive: () => true } : context),
    },
  },
  "do not compare the claimed examples": {
    seed: 2,
    breaks: "a refused update has no effect but its refusal",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(
          event.kind === "update" ? { ...state, approvals: new Map([[event.site, 1e9]]) } : state,
          event,
          context,
        ),
    },
  },
  "forget to set the deadline again after a restart": {
    seed: 43,
    breaks: liveness,
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, context).filter((effect) => event.kind !== "started" || effect.kind !== "timer"),
    },
  },
  "forget the aggregation after a restart": {
    seed: 11,
    breaks: liveness,
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, context).filter(
          (effect) => event.kind !== "started" || effect.kind !== "aggregate",
        ),
    },
  },
  "promote every version": {
    seed: 1,
    breaks: "every entry of the log is legal after those before it",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide(state, event, context).map((effect) =>
          effect.kind === "append" && effect.record.kind === "version.judged"
            ? { ...effect, record: { ...effect.record, promoted: true } }
            : effect,
        ),
    },
  },
  "build on a withdrawn version": {
    seed: 3,
    breaks: "every entry of the log is legal after those before it",
    machines: {
      ...machines,
      decide: (state, event, context) =>
        decide({ ...state, last: [...state.versions.keys()].at(-1) ?? null }, event, context),
    },
  },
  "train again instead of sending what was kept": {
    seed: 1,
    breaks: "a site shows one update in a round, and kept it before it showed it",
    machines: {
      ...machines,
      decideSite: (state, event) => decideSite({ ...state, updates: new Map() }, event),
    },
  },
  "send before keeping": {
    seed: 1,
    breaks: "a site shows one update in a round, and kept it before it showed it",
    machines: {
      ...machines,
      decideSite: (state, event) =>
        decideSite(state, event).sort((a, b) => Number(b.kind === "submit") - Number(a.kind === "submit")),
    },
  },
  "train without approval": {
    seed: 1,
    breaks: "no site works under a plan that its hospital has not approved",
    machines: {
      ...machines,
      decideSite: (state, event) => {
        if (event.kind === "approval")
          return decideSite(state, event).filter((effect) => effect.kind === "send");
        const offered = event.kind === "message" && "remainingMs" in event.message ? event.message : null;
        if (!offered) return decideSite(state, event);
        const envelope = { payload: "", payloadType: "", signatures: [] };
        const approvals = new Map([[offered.study, { plan: offered.plan, examples: 1, envelope }]]);
        return decideSite({ ...state, approvals }, event);
      },
      decide: (state, event, context) =>
        decide(
          { ...state, approvals: new Map(context.plan.sites.map((site) => [site, 10])) },
          event,
          context,
        ),
    },
  },
};
