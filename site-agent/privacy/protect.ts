// The one gate between what was learned here and what may leave: the whole delta is clipped to the plan's L2 norm. It
// is the only maker of ProtectedDelta and refuses values that are not finite. Clipping bounds one site's influence and
// is not differential privacy.

import type { Brand } from "@consilium/shared/base/brand.ts";
import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";

/** Values by tensor name, in the manifest's layout. */
export type DeltaValues = ReadonlyMap<string, Float32Array>;

type ClippedDelta = {
  readonly manifest: readonly ParameterSpec[];
  readonly values: DeltaValues;
  /** Of the whole delta, before and after. */
  readonly normL2: { readonly trained: number; readonly sent: number };
};
export type ProtectedDelta = Brand<ClippedDelta, "ProtectedDelta">;

export type PrivacyErrorCode = "delta.not-finite" | "delta.mismatch";

export class PrivacyError extends Error {
  override name = "PrivacyError";
  readonly code: PrivacyErrorCode;

  constructor(code: PrivacyErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Rounding to float32 can lift a norm by half a unit in the last place; each further step gives way a little more. */
const roundingSteps = 24;

/** @throws PrivacyError */
export function protect(
  values: DeltaValues,
  manifest: readonly ParameterSpec[],
  protection: StudyPlan["protection"],
): ProtectedDelta {
  const ordered = manifest.map((spec) => [spec.name, expectTensor(values.get(spec.name), spec)] as const);
  if (values.size !== manifest.length) throw mismatch();
  const trained = normL2(ordered.map(([, tensor]) => tensor));
  if (!Number.isFinite(trained)) {
    throw new PrivacyError(
      "delta.not-finite",
      "Training ended in values that are not finite; nothing is sent. Lower the learning rate in the plan.",
    );
  }
  const clipped = trained <= protection.normL2 ? ordered : scaledBelow(ordered, { trained, ...protection });
  const sent = normL2(clipped.map(([, tensor]) => tensor));
  const delta: ClippedDelta = { manifest, values: new Map(clipped), normL2: { trained, sent } };
  return delta as ProtectedDelta; // Minted here and nowhere else: the norm is within the plan's.
}

/** In float64, tensors and elements in order: the coordinator computes the same number from the same bytes. */
export function normL2(tensors: readonly Float32Array[]): number {
  let sum = 0;
  for (const tensor of tensors) {
    for (let index = 0; index < tensor.length; index += 1) sum += (tensor[index] ?? 0) ** 2;
  }
  return Math.sqrt(sum);
}

type NamedTensors = readonly (readonly [string, Float32Array])[];

function scaledBelow(
  ordered: NamedTensors,
  bound: { readonly trained: number; readonly normL2: number },
): NamedTensors {
  for (let step = 0; step < roundingSteps; step += 1) {
    const factor = (bound.normL2 / bound.trained) * (1 - (2 ** step - 1) * 2 ** -24);
    const scaled = ordered.map(([name, tensor]) => [name, tensor.map((value) => value * factor)] as const);
    if (normL2(scaled.map(([, tensor]) => tensor)) <= bound.normL2) return scaled;
  }
  return ordered.map(([name, tensor]) => [name, new Float32Array(tensor.length)]); // A bound below all float32 values.
}

function expectTensor(tensor: Float32Array | undefined, spec: ParameterSpec): Float32Array {
  if (tensor?.length !== elementCount(spec)) throw mismatch();
  return tensor;
}

function mismatch(): PrivacyError {
  return new PrivacyError(
    "delta.mismatch",
    "The trained tensors are not those of the study's parameter manifest; nothing is sent. Update the agent.",
  );
}
