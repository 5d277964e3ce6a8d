// The seed of a site's training in a round.

import { Prng } from "@consilium/shared/base/prng.ts";

/** Another one for every site and round, the same for a repetition. */
export function roundSeed(seed: number, site: string, round: number): number {
  return Prng.labelled(seed, `${site} round ${round}`).uint32();
}
