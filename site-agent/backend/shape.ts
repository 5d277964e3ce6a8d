// Shapes as documentation that fails when it lies: the forward of a layer states the shape that it expects.

import { AssertionError } from "@consilium/shared/base/assert.ts";

/** A number is that size; a name is any size, and equal names are equal sizes. */
export type Dimension = number | string;

/**
 * @returns the size behind every name
 * @throws AssertionError that shows both shapes: a wrong shape is a fault of the program, data were checked before
 */
export function expectShape(
  tensor: { readonly shape: readonly number[] },
  expected: readonly Dimension[],
): Readonly<Record<string, number>> {
  const sizes: Record<string, number> = {};
  const fits = tensor.shape.every((size, axis) => {
    const dimension = expected[axis];
    if (typeof dimension !== "string") return dimension === size;
    sizes[dimension] ??= size;
    return sizes[dimension] === size;
  });
  if (fits && tensor.shape.length === expected.length) return sizes;
  throw new AssertionError(`expected shape [${expected.join(", ")}], found [${tensor.shape.join(", ")}]`);
}
