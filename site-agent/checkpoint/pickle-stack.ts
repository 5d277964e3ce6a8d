// The stack, the marks and the memo of the restricted pickle reader. All three are bounded, and nothing below the last
// mark can be taken away.

import { CheckpointError } from "./checkpoint-error.ts";
import type { PickleStorage, PickleValue } from "./pickle-value.ts";

export const PICKLE_STACK_MAX = 65_536;
export const PICKLE_MEMO_MAX = 524_288;
/** Containers, strings, storages and tensors made. SAM 2.1 large with an optimiser's state needs about 40,000. */
export const PICKLE_OBJECTS_MAX = 262_144;

export class PickleStack {
  readonly #values: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  /** Every stored data that the pickle names, by key. */
  readonly storages = new Map<string, PickleStorage>();
  #objects = 0;

  push(value: PickleValue): void {
    if (this.#values.length >= PICKLE_STACK_MAX) throw limit("stack");
    this.#values.push(value);
  }

  /** Push something that takes memory of its own, with the entries that it was born with. */
  pushNew(value: PickleValue, entryCount = 0): void {
    this.#objects += 1 + entryCount;
    if (this.#objects > PICKLE_OBJECTS_MAX) throw limit("objects");
    this.push(value);
  }

  /** @throws CheckpointError where the same data has another type or size than before */
  pushStorage(storage: PickleStorage): void {
    const known = this.storages.get(storage.key) ?? storage;
    if (known.dtype !== storage.dtype || known.storedCount !== storage.storedCount) {
      throw new CheckpointError("checkpoint.storage", "two types or sizes for one storage");
    }
    this.storages.set(storage.key, known);
    this.pushNew(storage);
  }

  pop(): PickleValue {
    const value = this.top();
    this.#values.pop();
    return value;
  }

  top(): PickleValue {
    const value = this.#values.at(-1);
    if (value === undefined || this.#values.length <= (this.#marks.at(-1) ?? 0)) throw empty();
    return value;
  }

  mark(): void {
    if (this.#marks.length >= PICKLE_STACK_MAX) throw limit("marks");
    this.#marks.push(this.#values.length);
  }

  /** Everything above the last mark, which is taken away too. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw empty();
    return this.#values.splice(mark);
  }

  /** What remains at the end: one value and no mark. */
  result(): PickleValue {
    if (this.#values.length !== 1 || this.#marks.length > 0) throw empty();
    return this.pop();
  }

  memoise(index = this.#memo.size): void {
    this.#memo.set(index, this.top());
    if (this.#memo.size > PICKLE_MEMO_MAX) throw limit("memo");
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new CheckpointError("checkpoint.pickle.malformed", "memo");
    this.push(value);
  }
}

function limit(what: string): CheckpointError {
  return new CheckpointError("checkpoint.pickle.limit", what);
}

function empty(): CheckpointError {
  return new CheckpointError("checkpoint.pickle.malformed", "stack");
}
