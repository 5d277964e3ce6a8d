// Estimates a plan's step in a process of its own and checks what comes back.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { ProductFormat } from "../backend/graph/compiled-graph.ts";
import { EstimateError } from "./estimate-error.ts";
import { StepEstimate } from "./step-estimate.ts";

const Unavailable = Type.Object(
  { unavailable: Type.String({ maxLength: 2000 }) },
  { additionalProperties: false },
);
const PROGRAM = fileURLToPath(new URL("./measure-step.ts", import.meta.url));
/** On a busy machine time passes faster than the processor's. */
const TIME_LIMIT_MS = 180_000;

/** The name of a backend that starts here, and in what its graphs are to multiply. */
type EstimatedOn = { readonly backend: string; readonly products?: ProductFormat };

/** @throws EstimateError `estimate.unavailable` */
export async function estimateInChild(on: EstimatedOn, plan: StudyPlan): Promise<StepEstimate> {
  const message = await answerOf(on, plan);
  if (Value.Check(StepEstimate, message)) return message;
  const reason = Value.Check(Unavailable, message)
    ? message.unavailable
    : "its process ended without an answer";
  throw new EstimateError("estimate.unavailable", reason);
}

function answerOf({ backend, products = "float32" }: EstimatedOn, plan: StudyPlan): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = fork(PROGRAM, [backend, products], {
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
