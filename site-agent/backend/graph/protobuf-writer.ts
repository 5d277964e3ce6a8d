// The part of the protocol-buffers wire format that a TensorFlow graph needs: fields with variable-length integers, floats
// and length-delimited bytes (protobuf.dev/programming-guides/encoding).

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;
const WIRE_TYPE_BITS = 3;
const GROUP_BITS = 7n;
const GROUP_MASK = 0x7fn;
const MORE = 0x80;

export class ProtobufWriter {
  readonly #parts: Uint8Array[] = [];

  /** Negative numbers take ten bytes, as int32 and int64 fields have them. */
  integer(field: number, value: number | bigint): this {
    this.#tag(field, VARINT);
    this.#parts.push(varint(BigInt(value)));
    return this;
  }

  boolean(field: number, value: boolean): this {
    return this.integer(field, value ? 1 : 0);
  }

  float(field: number, value: number): this {
    this.#tag(field, FIXED_32);
    const bytes = new Uint8Array(Float32Array.BYTES_PER_ELEMENT);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#parts.push(bytes);
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#tag(field, LENGTH_DELIMITED);
    this.#parts.push(varint(BigInt(value.length)), value);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, value: ProtobufWriter): this {
    return this.bytes(field, value.finish());
  }

  /** An entry of a map with text keys. */
  entry(field: number, key: string, value: ProtobufWriter): this {
    return this.message(field, new ProtobufWriter().text(1, key).message(2, value));
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #tag(field: number, wireType: number): void {
    this.#parts.push(varint(BigInt((field << WIRE_TYPE_BITS) | wireType)));
  }
}

function varint(value: bigint): Uint8Array {
  const groups: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    const group = Number(rest & GROUP_MASK);
    rest >>= GROUP_BITS;
    groups.push(rest > 0n ? group | MORE : group);
  } while (rest > 0n);
  return Uint8Array.from(groups);
}
