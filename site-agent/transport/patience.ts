// Trying again for as long as there is hope: faults that can pass are waited out, up to a number of failures in a row
// without any progress in between. What cannot pass is thrown at once.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { errorCatalogue, ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { type BackoffLimits, backoffMs, transferBackoff } from "./backoff.ts";
import { TransportError } from "./transport-error.ts";

/** Failures in a row without progress after which a transfer is left to the next offer. */
export const failuresInARowMax = 6;

/** The port through which waiting enters. */
export type Pause = (durationMs: number, signal?: AbortSignal) => Promise<void>;

export type Patience = { readonly pause: Pause; readonly prng: Prng };

export type PersistOptions = Patience & {
  readonly limits?: BackoffLimits;
  readonly signal?: AbortSignal | undefined;
};

/**
 * @param attempt called until it returns; it calls `progressed` whenever something was achieved that lasts.
 * @throws what `attempt` threw, when it cannot pass or has not passed
 */
export async function persist<T>(
  attempt: (progressed: () => void) => Promise<T>,
  { pause, prng, limits = transferBackoff, signal }: PersistOptions,
): Promise<T> {
  let failures = 0;
  for (;;) {
    try {
      signal?.throwIfAborted();
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      failures += 1;
      if (signal?.aborted) throw new TransportError("transport.aborted", { cause: error });
      if (failures >= failuresInARowMax || !canPass(error)) throw error;
      await pause(backoffMs(failures, prng.next(), limits), signal).catch(() => undefined); // Looked at above.
    }
  }
}

export function canPass(error: unknown): boolean {
  if (error instanceof TransportError) {
    return error.code === "transport.unreachable" || error.code === "transport.no-progress";
  }
  return error instanceof ProtocolError && errorCatalogue[error.code].retryable;
}
