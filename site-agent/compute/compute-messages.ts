// What the agent and the process that computes say to each other. Tasks come from the agent itself; answers come from a
// process that runs native code, and are checked.

import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import { BackendStatement } from "@consilium/shared/protocol/documents.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { ComputeWish } from "../config.ts";
import type { ComputeTask, Scored, Trained, TrainingTask } from "./compute.ts";

const closed = { additionalProperties: false } as const;

/** Given to the process when it is started, as JSON. */
export type ComputeSettings = ComputeWish & { readonly preparedBytesMax: number };

export type ToCompute =
  | { readonly kind: "train"; readonly task: TrainingTask }
  | { readonly kind: "score"; readonly task: ComputeTask }
  /** Give the task up at the next step. */
  | { readonly kind: "abort" };

const PASSED_OVER_MAX = 16;
const TEXT_LENGTH_MAX = 4000;
const Count = Type.Integer({ minimum: 0 });
const Code = Type.String({ pattern: "^[A-Za-z]+(?:[.-][A-Za-z]+)*$", maxLength: 64 });
const NumberOrNull = Type.Union([Type.Number(), Type.Null()]);

const News = Type.Union([
  Type.Object(
    {
      kind: Type.Literal("backend"),
      started: Type.Object(
        {
          statement: BackendStatement,
          passedOver: Type.Array(
            Type.Object(
              { name: Type.String({ maxLength: 40 }), reason: Type.String({ maxLength: TEXT_LENGTH_MAX }) },
              closed,
            ),
            { maxItems: PASSED_OVER_MAX },
          ),
        },
        closed,
      ),
    },
    closed,
  ),
  Type.Object({ kind: Type.Literal("cases"), cases: Count, refused: Count, slices: Count }, closed),
  Type.Object({ kind: Type.Literal("step"), step: Count, steps: Count, loss: NumberOrNull }, closed),
  Type.Object({ kind: Type.Literal("graph-refused"), code: Code }, closed),
  Type.Object({ kind: Type.Literal("computed"), durationMs: Count }, closed),
]);

const CaseLabelScore = Type.Object(
  {
    label: Count,
    ...{ dice: Type.Number(), iou: Type.Number() },
    ...{ hd95Mm: NumberOrNull, nsd1mm: NumberOrNull, nsd2mm: NumberOrNull },
    isMissed: Type.Boolean(),
  },
  closed,
);

export const FromCompute = Type.Union([
  Type.Object({ kind: Type.Literal("news"), news: News }, closed),
  Type.Object(
    {
      kind: Type.Literal("trained"),
      result: Type.Object(
        {
          delta: Type.Unknown(),
          loss: Type.Object({ first: Type.Number(), last: Type.Number() }, closed),
          cases: Count,
          backend: BackendStatement,
        },
        closed,
      ),
    },
    closed,
  ),
  Type.Object({ kind: Type.Literal("scored"), result: Type.Array(Type.Array(CaseLabelScore)) }, closed),
  Type.Object({ kind: Type.Literal("failed"), code: Code }, closed),
]);
export type FromCompute = Static<typeof FromCompute>;

/** What was said; null where it is not understood. */
export function readFromCompute(message: unknown): FromCompute | null {
  return Value.Check(FromCompute, message) ? message : null;
}

/** The result of a training task; null where it is none, or its delta has other tensors than these. */
export function readTrained(message: FromCompute, specs: readonly ParameterSpec[]): Trained | null {
  if (message.kind !== "trained") return null;
  const { delta, ...rest } = message.result;
  return isDelta(delta, specs) ? { ...rest, delta } : null;
}

export function readScored(message: FromCompute): Scored | null {
  return message.kind === "scored" ? message.result : null;
}

function isDelta(
  value: unknown,
  specs: readonly ParameterSpec[],
): value is ReadonlyMap<string, Float32Array> {
  if (!(value instanceof Map) || value.size !== specs.length) return false;
  return specs.every((spec) => {
    const values: unknown = value.get(spec.name);
    return values instanceof Float32Array && values.length === elementCount(spec);
  });
}
