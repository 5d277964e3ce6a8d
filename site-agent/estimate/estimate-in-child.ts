// Estimates a plan's step in a process of its own and checks what comes back.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { EstimateError } from "./estimate-error.ts";
import { StepEstimate } from "./step-estimate.ts";

const Unavailable = Type.Object(
  { unavailable: Type.String({ maxLength: 2000 }) },
  { additionalProperties: false },
);
const PROGRAM = fileURLToPath(new URL("./measure-step.ts", import.meta.url));
/** On a busy machine time passes faster than the processor's. */
const TIME_LIMIT_MS = 180_000;

/**
 * @param backend the name of one that starts here
 * @throws EstimateError `estimate.unavailable`
 */
export async function estimateInChild(backend: string, plan: StudyPlan): Promise<StepEstimate> {
  const message = await answerOf(backend, plan);
  if (Value.Check(StepEstimate, message)) return message;
  const reason = Value.Check(Unavailable, message)
    ? message.unavailable
    : "its process ended without an answer";
  throw new EstimateError("estimate.unavailable", reason);
}

function answerOf(backend: string, plan: StudyPlan): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = fork(PROGRAM, [backend], {
      // The loader is named because the parent may have been started in a way that its options do not show.
      execArgv: ["--import", import.meta.resolve("tsx")],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      signal: AbortSignal.timeout(TIME_LIMIT_MS),
      killSignal: "SIGKILL",
    });
    let answer: unknown = null;
    child.on("message", (message) => {
      answer = message;
    });
    child.on("error", (cause) =>
      reject(new EstimateError("estimate.unavailable", `its process failed: ${cause.name}`)),
    );
    child.on("close", () => resolve(answer));
    child.send(plan);
  });
}
