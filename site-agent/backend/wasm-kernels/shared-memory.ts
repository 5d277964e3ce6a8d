// WebAssembly binaries changed so that their memory is one that threads share: a flag of the memory that a binary has or
// imports. Nothing of their code changes, which reads and writes a shared memory with the same instructions.
// The sections are those of the WebAssembly core specification 2.0, 5.5; the flag is that of its threads proposal.

import { wasmPageBytes } from "@consilium/shared/base/web-assembly.ts";

const HEADER_BYTES = 8;
const [IMPORTS, MEMORIES] = [2, 5];
const [FUNCTION, TABLE, MEMORY, GLOBAL] = [0, 1, 2, 3];
const [HAS_MAXIMUM, IS_SHARED] = [1, 2];
/** A shared memory must say how large it may become: 4 GiB, as large as any. */
const PAGES_MAX = 2 ** 32 / wasmPageBytes;
/** Of a number of 32 bits, seven in each. */
const NUMBER_BYTES_MAX = 5;

/** @throws RangeError, TypeError for bytes that are no such binary */
export function withSharedMemory(binary: Uint8Array): Uint8Array {
  const reader = new Reader(binary);
  const written: ArrayLike<number>[] = [reader.take(HEADER_BYTES)];
  while (!reader.isAtEnd) {
    const id = reader.byte();
    const content = reader.take(reader.number());
    const changed = id === IMPORTS || id === MEMORIES ? sharedSection(id, content) : content;
    written.push([id, ...numberBytes(changed.length)], changed);
  }
  return concatenated(written);
}

function sharedSection(id: number, content: Uint8Array): number[] {
  const reader = new Reader(content);
  const count = reader.number();
  const out = numberBytes(count);
  for (let index = 0; index < count; index += 1)
    out.push(...(id === IMPORTS ? imported(reader) : limits(reader)));
  return out;
}

function imported(reader: Reader): number[] {
  const name = (): number[] => {
    const length = reader.number();
    return [...numberBytes(length), ...reader.take(length)];
  };
  const [module, field, kind] = [name(), name(), reader.byte()];
  return [...module, ...field, kind, ...description(reader, kind)];
}

function description(reader: Reader, kind: number): number[] {
  switch (kind) {
    case FUNCTION:
      return numberBytes(reader.number());
    case TABLE:
      return [reader.byte(), ...unchangedLimits(reader)];
    case MEMORY:
      return limits(reader);
    case GLOBAL:
      return [reader.byte(), reader.byte()];
    default:
      throw new TypeError(`an import of the kind ${kind} is not known`);
  }
}

function unchangedLimits(reader: Reader): number[] {
  const flags = reader.byte();
  const minimum = numberBytes(reader.number());
  return [flags, ...minimum, ...((flags & HAS_MAXIMUM) === 0 ? [] : numberBytes(reader.number()))];
}

function limits(reader: Reader): number[] {
  const flags = reader.byte();
  const minimum = reader.number();
  const maximum = (flags & HAS_MAXIMUM) === 0 ? PAGES_MAX : reader.number();
  return [HAS_MAXIMUM | IS_SHARED, ...numberBytes(minimum), ...numberBytes(maximum)];
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  byte(): number {
    const [byte] = this.take(1);
    return byte ?? 0; // Taken above.
  }

  take(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw new RangeError("a WebAssembly binary ends too early");
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  /** LEB128, unsigned. */
  number(): number {
    let value = 0;
    for (let index = 0; index < NUMBER_BYTES_MAX; index += 1) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return value;
    }
    throw new RangeError("a number in a WebAssembly binary is too long");
  }
}

function numberBytes(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return [...bytes, rest];
}

function concatenated(parts: readonly ArrayLike<number>[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
