// Typed reading of environment entries. Every fault is gathered before the start is refused, so that an operator
// corrects once.

export class EnvironmentError extends Error {
  override name = "EnvironmentError";
  readonly code = "config.invalid";
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super(`the configuration has ${faults.length} fault(s): ${faults.join("; ")}`);
    this.faults = faults;
  }
}

export type Entries = Readonly<Record<string, string | undefined>>;

export class EnvironmentReader {
  readonly #entries: Entries;
  readonly #faults: string[] = [];

  constructor(entries: Entries) {
    this.#entries = entries;
  }

  text(name: string, fallback: string): string {
    return this.#entries[name] || fallback;
  }

  optional(name: string): string | null {
    return this.#entries[name] || null;
  }

  integer(name: string, fallback: number, { min, max }: { min: number; max: number }): number {
    const text = this.#entries[name];
    if (!text) return fallback;
    const value = Number(text);
    if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
    this.#faults.push(`${name} must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  oneOf<T extends string>(name: string, fallback: T, allowed: readonly T[]): T {
    const text = this.#entries[name];
    if (!text) return fallback;
    const found = allowed.find((value) => value === text);
    if (found === undefined) this.#faults.push(`${name} must be one of ${allowed.join(", ")}`);
    return found ?? fallback;
  }

  fault(fault: string): void {
    this.#faults.push(fault);
  }

  /** @throws EnvironmentError naming every fault */
  finish(): void {
    if (this.#faults.length > 0) throw new EnvironmentError(this.#faults);
  }
}
