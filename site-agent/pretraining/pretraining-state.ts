// The state of a pretraining as one safetensors file: weights, both moments of the optimiser, position and plan. Reading
// refuses what was saved under another plan, because the result would be of no plan at all.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import {
  type BundledTensor,
  float32Tensor,
  float32Values,
  readTensorBundle,
  type TensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import { elementCount } from "@consilium/shared/model/parameter-manifest.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { POINT_ENCODING_MATRIX, sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { PretrainingRecord } from "./pretraining.ts";
import { PretrainingError } from "./pretraining-error.ts";
import { PretrainingPlan, samePlan, stepCountOf } from "./pretraining-plan.ts";

const Position = Type.Object(
  {
    step: Type.Integer({ minimum: 0 }),
    optimiserStep: Type.Integer({ minimum: 0 }),
    plan: PretrainingPlan,
  },
  { additionalProperties: false },
);

const PARTS = ["weight", "first", "second"] as const;

export function writePretrainingState(
  { step, weights, optimiser }: PretrainingRecord,
  plan: PretrainingPlan,
): Uint8Array {
  const flat = (part: string, values: ReadonlyMap<string, Float32Array>): BundledTensor[] =>
    [...values].map(([name, numbers]) => float32Tensor(`${part}/${name}`, [numbers.length], numbers));
  const tensors = [
    ...flat("weight", weights),
    ...flat("first", optimiser.first),
    ...flat("second", optimiser.second),
  ];
  const position = { step, optimiserStep: optimiser.step, plan };
  return writeTensorBundle(tensors, { position: JSON.stringify(position) });
}

/** @throws PretrainingError; TensorBundleError where the bytes are no bundle */
export function readPretrainingState(
  bytes: Uint8Array,
  config: Sam2Config,
  plan: PretrainingPlan,
): PretrainingRecord {
  const bundle = readTensorBundle(bytes);
  const position = readPosition(bundle);
  if (!samePlan(position.plan, plan)) throw new PretrainingError("pretraining.state-of-another-plan");
  if (position.step > stepCountOf(plan)) throw new PretrainingError("pretraining.state-unreadable");
  const [weights, first, second] = PARTS.map((part) => readPart(bundle, part, config));
  assert(weights && first && second, "three parts");
  return { step: position.step, weights, optimiser: { step: position.optimiserStep, first, second } };
}

function readPosition({ metadata }: TensorBundle): Static<typeof Position> {
  try {
    const position: unknown = JSON.parse(metadata["position"] ?? "");
    if (Value.Check(Position, position)) return position;
  } catch (cause) {
    throw new PretrainingError("pretraining.state-unreadable", { cause });
  }
  throw new PretrainingError("pretraining.state-unreadable");
}

function readPart(
  { tensors }: TensorBundle,
  part: (typeof PARTS)[number],
  config: Sam2Config,
): Map<string, Float32Array> {
  const specs = sam2Parameters(config).filter(
    ({ name }) => part === "weight" || name !== POINT_ENCODING_MATRIX,
  );
  const missing = specs.some((spec) => tensors.get(`${part}/${spec.name}`)?.shape[0] !== elementCount(spec));
  if (missing) throw new PretrainingError("pretraining.state-unreadable");
  return new Map(
    specs.map(({ name }) => [name, float32Values(expectDefined(tensors.get(`${part}/${name}`), name))]),
  );
}
