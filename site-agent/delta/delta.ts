// What training changed: trained minus base, tensor by tensor in the order of the study's manifest. Typed arrays only;
// nothing here knows where the weights came from or where the delta goes.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";

/** Values by tensor name, in PyTorch's order. */
type Values = ReadonlyMap<string, Float32Array>;

/** trained - base in float32, in manifest order. */
export function subtract(
  trained: Values,
  base: Values,
  manifest: readonly ParameterSpec[],
): Map<string, Float32Array> {
  return combine(trained, base, manifest, (after, before) => after - before);
}

/** base + delta in float32 for the tensors of the manifest; the other tensors of the base are taken over. */
export function applyDelta(
  base: Values,
  delta: Values,
  manifest: readonly ParameterSpec[],
): Map<string, Float32Array> {
  return new Map([...base, ...combine(base, delta, manifest, (before, change) => before + change)]);
}

function combine(
  left: Values,
  right: Values,
  manifest: readonly ParameterSpec[],
  operation: (a: number, b: number) => number,
): Map<string, Float32Array> {
  return new Map(
    manifest.map((spec) => {
      const [a, b] = [
        expectDefined(left.get(spec.name), spec.name),
        expectDefined(right.get(spec.name), spec.name),
      ];
      const count = elementCount(spec);
      assert(a.length === count && b.length === count, `${spec.name} has ${count} elements`);
      return [spec.name, a.map((value, index) => operation(value, b[index] ?? 0))];
    }),
  );
}
