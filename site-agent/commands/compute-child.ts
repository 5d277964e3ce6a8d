// The process in which the agent computes: the composition root of that process. The agent alone decides when it ends;
// without an agent it ends by itself.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { ComputeSettings, ToCompute } from "../compute/compute-messages.ts";
import { LocalCompute } from "../compute/local-compute.ts";
import { faultCode, faultSentence } from "../fault.ts";
import { startChosenBackend } from "./start-chosen-backend.ts";

const settings = expectDefined(process.argv[2], "settings as the first argument");
const { preparedBytesMax, ...wish } = JSON.parse(settings) as ComputeSettings; // Written by the agent.
const compute = new LocalCompute({
  preparedBytesMax,
  startBackend: () => startChosenBackend(wish),
  nowMs: () => performance.now(),
});
let abort = new AbortController();

process.on("disconnect", () => process.exit());
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {}); // A terminal sends them to both.
process.on("message", (message: ToCompute) => {
  if (message.kind === "abort") abort.abort();
  else void answer(message);
});

async function answer(order: Exclude<ToCompute, { kind: "abort" }>): Promise<void> {
  abort = new AbortController();
  const control = { signal: abort.signal, hear: (news: object) => say({ kind: "news", news }) };
  try {
    const said =
      order.kind === "train"
        ? { kind: "trained", result: await compute.train(order.task, control) }
        : { kind: "scored", result: await compute.score(order.task, control) };
    say(said);
  } catch (error) {
    const code = faultCode(error);
    if (code === "internal" && !abort.signal.aborted) process.stderr.write(`${faultSentence(error)}\n`);
    say({ kind: "failed", code });
  }
}

function say(message: object): void {
  process.send?.(message);
}
