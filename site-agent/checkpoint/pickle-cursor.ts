// Reads the arguments of pickle instructions from bytes that are hostile until checked: every length is compared with
// what is left before anything is made of it.

import { CheckpointError } from "./checkpoint-error.ts";

export const PICKLE_STRING_BYTES_MAX = 65_536;
const LINE_BYTES_MAX = 256;
/** PyTorch's own largest integer, the magic number of the legacy form, has 10 bytes. */
const LONG_BYTES_MAX = 16;
const NEWLINE = 0x0a;

export class PickleCursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #position: number;

  constructor(bytes: Uint8Array, position = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#position = position;
  }

  get position(): number {
    return this.#position;
  }

  get remaining(): number {
    return this.#bytes.byteLength - this.#position;
  }

  uint8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** Big-endian, unlike everything else. */
  float64(): number {
    return this.#view.getFloat64(this.#take(8), false);
  }

  /** A two's complement integer of any length: a number where a number holds it exactly. */
  long(byteLength: number): number | bigint {
    if (byteLength > LONG_BYTES_MAX) throw new CheckpointError("checkpoint.pickle.limit", "integer");
    const start = this.#take(byteLength);
    let value = 0n;
    for (let index = byteLength - 1; index >= 0; index -= 1) {
      value = (value << 8n) | BigInt(this.#bytes[start + index] ?? 0);
    }
    const signed = BigInt.asIntN(8 * byteLength, value);
    return BigInt(Number(signed)) === signed && Number.isSafeInteger(Number(signed))
      ? Number(signed)
      : signed;
  }

  /** UTF-8 text. */
  text(byteLength: number): string {
    if (byteLength > PICKLE_STRING_BYTES_MAX) throw new CheckpointError("checkpoint.pickle.limit", "string");
    const start = this.#take(byteLength);
    try {
      const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
      return decoder.decode(this.#bytes.subarray(start, start + byteLength));
    } catch {
      throw new CheckpointError("checkpoint.pickle.malformed", "text");
    }
  }

  /** Text up to the end of its line, without it. */
  line(): string {
    const window = this.#bytes.subarray(this.#position, this.#position + LINE_BYTES_MAX + 1);
    const byteLength = window.indexOf(NEWLINE);
    if (byteLength < 0) throw new CheckpointError("checkpoint.pickle.malformed", "line");
    const text = this.text(byteLength);
    this.#take(1);
    return text;
  }

  #take(byteLength: number): number {
    if (byteLength > this.remaining) throw new CheckpointError("checkpoint.truncated", "inside the pickle");
    this.#position += byteLength;
    return this.#position - byteLength;
  }
}
