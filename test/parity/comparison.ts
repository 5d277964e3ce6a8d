// What of a case was compared and how it came out, by the rules that come with the goldens. Every name in the tolerances
// ends in exactly one list: compared, not supported yet, or not understood.

import type { CaseFolder, Tolerance } from "./case-folder.ts";
import { type FoundTensor, storedForm } from "./stored-form.ts";

/** Where one pre-activation lies within rounding of a kink, one element's slope flips. */
const KINK_ERROR_L2_MAX = 1e-3;
/** Of the largest gradient of the case, for what is zero in exact arithmetic. */
const NULL_SHARE_MAX = 1e-4;

export type Compared = {
  readonly name: string;
  readonly accepted: boolean;
  /** Largest difference over what is accepted; 0 for equal integers. */
  readonly share: number;
  /** Why something beyond the tolerance was accepted. */
  readonly note?: string;
};

/** A wider bound for a tensor that counts, made from what was found beside it. */
export type Allowance = (expected: ArrayLike<number>, found: ArrayLike<number>) => string | undefined;

export class Comparison {
  readonly compared: Compared[] = [];
  /** By name, with the reason. */
  readonly unsupported = new Map<string, string>();
  readonly #faults: string[] = [];
  readonly #case: CaseFolder;
  readonly #open = new Map<string, string[]>();
  readonly #largestGradient: number;

  constructor(folder: CaseFolder) {
    this.#case = folder;
    for (const name of Object.keys(folder.tolerances)) {
      const { base } = storedForm(name);
      this.#open.set(base, [...(this.#open.get(base) ?? []), name]);
    }
    this.#largestGradient = largestGradient(folder.tolerances);
  }

  /** True when the case holds the tensor in any form and it was not compared. */
  wants(base: string): boolean {
    return this.#open.has(base);
  }

  /** True when anything below this name is still to be compared. */
  wantsUnder(prefix: string): boolean {
    return [...this.#open.keys()].some((base) => base.startsWith(`${prefix}/`));
  }

  /** Names of tensors below `prefix/` that are still to be compared, without it. */
  openUnder(prefix: string): string[] {
    const start = `${prefix}/`;
    return [...this.#open.keys()]
      .filter((base) => base.startsWith(start))
      .map((base) => base.slice(start.length));
  }

  /** Compare every stored form of a tensor; what the case does not hold is let go without being computed. */
  offer(base: string, find: () => FoundTensor, allowance?: Allowance): void {
    const names = this.#open.get(base);
    if (!names) return;
    this.#open.delete(base);
    const found = find();
    for (const name of names) this.#compare(name, found, allowance);
  }

  /** Give up a group by name. */
  leaveOut(prefix: string, reason: string): void {
    for (const base of [...this.#open.keys()]) {
      if (base !== prefix && !base.startsWith(`${prefix}/`)) continue;
      for (const name of this.#open.get(base) ?? []) this.unsupported.set(name, reason);
      this.#open.delete(base);
    }
  }

  /** Run a group; a fault in it is told, its tensors stay open, and other groups go on. */
  attempt(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#faults.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    }
  }

  /** What is left: nobody knew these names, or they have no tolerance. */
  notUnderstood(): string[] {
    const untold = [...this.#case.expected.keys()].filter(
      (name) => !Object.hasOwn(this.#case.tolerances, name),
    );
    return [...this.#faults, ...[...this.#open.values()].flat(), ...untold];
  }

  #compare(name: string, found: FoundTensor, allowance: Allowance | undefined): void {
    const expected = this.#case.expected.get(name);
    const tolerance = this.#case.tolerances[name];
    if (!expected || !tolerance) {
      this.unsupported.set(name, "the case does not hold it");
      return;
    }
    const values = storedForm(name).reduce(broadcast(found, expected.shape));
    const difference = largestDifference(values, expected.values);
    const bound = this.#bound(name, tolerance);
    const share = difference === 0 ? 0 : difference / bound;
    if (share <= 1) this.compared.push({ name, accepted: true, share });
    else this.compared.push({ name, share, ...excuse(name, values, expected.values, allowance) });
  }

  #bound(name: string, { tol = 0, exact, null: none }: Tolerance): number {
    if (exact) return 0;
    return none && name.startsWith("grad/") ? NULL_SHARE_MAX * this.#largestGradient : tol;
  }
}

function excuse(
  name: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  allowance: Allowance | undefined,
): { accepted: boolean; note?: string } {
  const allowed = allowance?.(expected, found);
  if (allowed) return { accepted: true, note: allowed };
  const relative = relativeErrorL2(found, expected);
  if (!name.startsWith("grad/") || !(relative <= KINK_ERROR_L2_MAX)) return { accepted: false };
  return { accepted: true, note: `a kink: relative L2 error ${relative.toExponential(1)}` };
}

/** Some cases store one place of a map that is everywhere the same. */
function broadcast(found: FoundTensor, shape: readonly number[]): FoundTensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const places = shape.slice(2).reduce((product, size) => product * size, 1);
  if (found.shape.length !== 4 || found.values.length * places !== count) return found;
  const values = Array.from({ length: count }, (_, index) => found.values[Math.floor(index / places)] ?? 0);
  return { shape, values };
}

function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let index = 0; index < found.length; index += 1) {
    const difference = Math.abs((found[index] ?? 0) - (expected[index] ?? 0));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}

function relativeErrorL2(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let [error, size] = [0, 0];
  for (let index = 0; index < expected.length; index += 1) {
    error += ((found[index] ?? 0) - (expected[index] ?? 0)) ** 2;
    size += (expected[index] ?? 0) ** 2;
  }
  return Math.sqrt(error / size);
}

function largestGradient(tolerances: CaseFolder["tolerances"]): number {
  const gradients = Object.entries(tolerances).filter(
    ([name, { null: none }]) => name.startsWith("grad/") && !name.includes("/stat/") && !none,
  );
  return gradients.reduce((largest, [, { absmax = 0 }]) => Math.max(largest, absmax), 0);
}
