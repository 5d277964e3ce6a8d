// How long to wait before trying again: exponential with full jitter (Brooker 2015, "Exponential Backoff And Jitter"),
// so that sites cut off together do not come back together. Pure: chance is passed in.

import { secondMs } from "@consilium/shared/base/units.ts";

export type BackoffLimits = { readonly firstMs: number; readonly maxMs: number };

export const reconnectBackoff: BackoffLimits = { firstMs: 1 * secondMs, maxMs: 60 * secondMs };
export const transferBackoff: BackoffLimits = { firstMs: 1 * secondMs, maxMs: 20 * secondMs };

/**
 * @param attempt failures in a row so far, from 1
 * @param chance uniform in [0, 1)
 * @returns a delay in [0, min(maxMs, firstMs * 2^(attempt - 1)))
 */
export function backoffMs(attempt: number, chance: number, { firstMs, maxMs }: BackoffLimits): number {
  return Math.floor(chance * Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30)));
}
