// Assertions for programmer errors. They stay on in production: a process that finds itself wrong stops.

/** The program contradicts itself. Never caught to be ignored. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/** @throws AssertionError when the condition does not hold. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Narrow away `undefined` and `null` where the surrounding code guarantees a value. */
export function expectDefined<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionError(`missing: ${what}`);
  return value;
}

/** Close a union: a case that the types say cannot happen. */
export function unreachable(value: never, what: string): never {
  throw new AssertionError(`unexpected ${what}: ${JSON.stringify(value)}`);
}
