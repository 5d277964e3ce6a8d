// A checkpoint's tensors against those that a model needs, by name and shape. Every difference is found before the
// refusal, so that a wrong file is understood from one message.

import { CheckpointError } from "./checkpoint-error.ts";
import type { StoredTensors } from "./stored-tensor.ts";

export type ExpectedTensor = { readonly name: string; readonly shape: readonly number[] };

export type TensorDifferences = {
  readonly missing: readonly string[];
  /** Names of the file: only letters, digits, dots, hyphens and underscores, others are given by their place. */
  readonly unexpected: readonly string[];
  readonly misshaped: readonly (ExpectedTensor & { readonly found: readonly number[] })[];
};

const LISTED_MAX = 12;
const PLAIN_NAME = /^[A-Za-z0-9_.-]+$/;

export class CheckpointMismatch extends CheckpointError {
  override name = "CheckpointMismatch";
  readonly differences: TensorDifferences;

  constructor(differences: TensorDifferences, found: string) {
    super("checkpoint.mismatch", `${found}; ${sentence(differences)}`);
    this.differences = differences;
  }
}

export function tensorDifferences(
  tensors: StoredTensors,
  expected: readonly ExpectedTensor[],
): TensorDifferences {
  const names = new Set(expected.map(({ name }) => name));
  return {
    missing: expected.map(({ name }) => name).filter((name) => !tensors.has(name)),
    unexpected: [...tensors.keys()].flatMap((name, index) => {
      if (names.has(name)) return [];
      return [PLAIN_NAME.test(name) ? name : `tensor ${index} of the file`];
    }),
    misshaped: expected.flatMap(({ name, shape }) => {
      const found = tensors.get(name)?.shape;
      return found === undefined || sameShape(found, shape) ? [] : [{ name, shape, found }];
    }),
  };
}

/** @param found what the file is, for the message @throws CheckpointMismatch where anything differs */
export function expectTensors(
  tensors: StoredTensors,
  expected: readonly ExpectedTensor[],
  found: string,
): void {
  const differences = tensorDifferences(tensors, expected);
  const { missing, unexpected, misshaped } = differences;
  if (missing.length + unexpected.length + misshaped.length > 0) {
    throw new CheckpointMismatch(differences, found);
  }
}

function sentence({ missing, unexpected, misshaped }: TensorDifferences): string {
  const shapes = misshaped.map(({ name, shape, found }) => `${name} [${found}] instead of [${shape}]`);
  return [
    `${missing.length} missing${listed(missing)}`,
    `${unexpected.length} unexpected${listed(unexpected)}`,
    `${misshaped.length} of another shape${listed(shapes)}`,
  ].join("; ");
}

function listed(items: readonly string[]): string {
  if (items.length === 0) return "";
  const more = items.length > LISTED_MAX ? ` and ${items.length - LISTED_MAX} more` : "";
  return `: ${items.slice(0, LISTED_MAX).join(", ")}${more}`;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
