// One seed from beginning to end: safety under faults, then everything heals and progress is owed.

import { decide } from "@consilium/shared/protocol/round.ts";
import { decideSite } from "@consilium/shared/protocol/site-session.ts";
import type { Machines } from "./host.ts";
import { invariants } from "./invariants.ts";
import { World } from "./world.ts";

export const machines: Machines = { decide, decideSite };
const faultyTicks = 700;
const healingTicksMax = 12_000;
const ticksPerCheck = 50;

export class Violation extends Error {
  override name = "Violation";
  readonly world: World;
  constructor(message: string, world: World, options?: ErrorOptions) {
    super(message, options);
    this.world = world;
  }
}

/** The obligation of progress, beside the invariants of safety. */
export const liveness = "a healed federation finishes its study";

/**
 * @param only checks this one sentence instead of all, to show that it can fail by itself
 * @throws Violation naming the sentence that does not hold
 */
export function simulate(seed: number, under: Machines = machines, only?: string): World {
  const world = new World(seed, under);
  const names = Object.keys(invariants).filter((name) => only === undefined || name === only);
  for (let tick = 0; tick < faultyTicks && world.tick(); tick += 1) {
    if (tick % ticksPerCheck === 0) check(world, names);
  }
  check(world, names);
  world.heal();
  const finished = (): boolean => world.coordinator.study.phase === "finished";
  for (let tick = 0; tick < healingTicksMax && !finished() && world.tick(); tick += 1);
  check(world, names);
  if ((only === undefined || only === liveness) && !finished()) {
    throw new Violation(`${liveness}: it is still ${world.coordinator.study.phase}`, world);
  }
  return world;
}

function check(world: World, names: readonly string[]): void {
  for (const name of names) {
    try {
      invariants[name]?.(world);
    } catch (cause) {
      throw new Violation(`${name}: ${(cause as Error).message}`, world, { cause });
    }
  }
}

/** The last events of a world, one line each. */
export function history(world: World, count: number): string[] {
  return world.coordinator.log.slice(-count).map(({ index, atMs, record }) => {
    const about = Object.entries(record).filter(([key]) =>
      ["round", "site", "reason", "code", "promoted"].includes(key),
    );
    return `${String(index).padStart(4)} ${String(atMs).padStart(7)} ms  ${record.kind.padEnd(20)} ${about.map(([key, value]) => `${key}=${value}`).join(" ")}`;
  });
}
