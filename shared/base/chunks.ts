// A list in pieces of a bounded length, for work that is done together as far as memory allows.

import { assert } from "./assert.ts";

/** All of the list in its order; every piece but the last has `lengthMax` elements. */
export function chunks<T>(list: readonly T[], lengthMax: number): T[][] {
  assert(Number.isInteger(lengthMax) && lengthMax >= 1, "a piece has an element");
  return Array.from({ length: Math.ceil(list.length / lengthMax) }, (_, index) =>
    list.slice(index * lengthMax, (index + 1) * lengthMax),
  );
}
