// The child process of estimate-in-child: starts the named backend, estimates a step of the plan that it is sent, answers
// and ends. A process of its own, because its memory is the training process's but for the tensors, and because
// timing kernels should leave nothing behind.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { Value } from "typebox/value";
import { BACKEND_NAMES } from "../backend/backend-report.ts";
import { tryBfloat16 } from "../backend/graph/product-format.ts";
import { startBackend } from "../backend/start-backend.ts";
import { EstimateError } from "./estimate-error.ts";
import { estimateStep } from "./step-estimate.ts";

const name = expectDefined(
  BACKEND_NAMES.find((candidate) => candidate === process.argv[2]),
  "the name of a backend as the first argument",
);
process.once("message", (message: unknown) => {
  void answer(message).then((result) => {
    process.send?.(result);
    process.disconnect();
  });
});

async function answer(message: unknown): Promise<object> {
  try {
    const plan = Value.Parse(StudyPlan, message);
    const { isGpu } = await startBackend(name);
    if (process.argv[3] === "bfloat16") tryBfloat16();
    return await estimateStep(name, plan, {
      seconds: isGpu ? passedSeconds : processorSeconds,
      residentBytes: () => process.memoryUsage.rss(),
    });
  } catch (error) {
    return { unavailable: reasonOf(error) };
  }
}

function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function passedSeconds(): number {
  return performance.now() / 1000;
}

/** Texts of our own, and of everything else the kind. */
function reasonOf(error: unknown): string {
  if (error instanceof EstimateError) return error.message;
  return error instanceof Error ? error.name : "an error without a name";
}
