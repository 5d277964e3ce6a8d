// Writes PyTorch checkpoints for the tests of their readers, byte by byte as torch.save lays them out: stored zip
// entries with sizes after the data, padding to 64 bytes and both ends of the directory; or the legacy stream. It writes
// what it is told, wrong things too.

import { crc32 } from "node:zlib";

export type FixtureEntry = {
  readonly name: string;
  readonly data: Uint8Array;
  /** Overrides for hostile containers. */
  readonly method?: number;
  readonly flags?: number;
  readonly crc32?: number;
  readonly localName?: string;
  readonly headerOffset?: number;
};

const text = new TextEncoder();
const ALIGNMENT_BYTES = 64;

/** Little-endian fields of 2, 4 or 8 bytes. */
export function fields(...pairs: readonly (readonly [2 | 4 | 8, number])[]): Uint8Array {
  const bytes = new Uint8Array(pairs.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of pairs) {
    if (size === 2) view.setUint16(at, value, true);
    else if (size === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += size;
  }
  return bytes;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** A zip container in PyTorch's layout. */
export function zipFile(entries: readonly FixtureEntry[], { zip64 = true } = {}): Uint8Array<ArrayBuffer> {
  const local: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    const { flags = 0x0808, method = 0, data } = entry;
    const sum = entry.crc32 ?? crc32(data);
    const name = text.encode(entry.localName ?? entry.name);
    const unpadded = at + 30 + name.byteLength + 4;
    const padding = (ALIGNMENT_BYTES - (unpadded % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES;
    const extra = joined(fields([2, 0x4246], [2, padding]), new Uint8Array(padding));
    const parts = [
      fields([4, 0x04034b50], [2, 0], [2, flags], [2, method], [4, 0], [4, 0], [4, 0], [4, 0]),
      fields([2, name.byteLength], [2, extra.byteLength]),
      name,
      extra,
      data,
      fields([4, 0x08074b50], [4, sum], [4, data.byteLength], [4, data.byteLength]),
    ];
    const named = text.encode(entry.name);
    central.push(
      fields([4, 0x02014b50], [2, 0], [2, 0], [2, flags], [2, method], [4, 0], [4, sum]),
      fields([4, data.byteLength], [4, data.byteLength], [2, named.byteLength], [2, 0], [2, 0], [2, 0]),
      fields([2, 0], [4, 0], [4, entry.headerOffset ?? at]),
      named,
    );
    const bytes = joined(...parts);
    local.push(bytes);
    at += bytes.byteLength;
  }
  return joined(
    ...local,
    ...central,
    directoryEnd(entries.length, { at, size: joined(...central).byteLength, zip64 }),
  );
}

function directoryEnd(
  count: number,
  { at, size, zip64 }: { at: number; size: number; zip64: boolean },
): Uint8Array {
  const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, at], [2, 0]);
  if (!zip64) return end;
  return joined(
    fields(
      [4, 0x06064b50],
      [8, 44],
      [2, 0],
      [2, 0],
      [4, 0],
      [4, 0],
      [8, count],
      [8, count],
      [8, size],
      [8, at],
    ),
    fields([4, 0x07064b50], [4, 0], [8, at + size], [4, 1]),
    end,
  );
}

export type FixtureTensor = {
  readonly name: string;
  /** Key and stored elements of the data that it looks at. */
  readonly key: string;
  readonly count: number;
  readonly type?: string;
  readonly offset?: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
};

/** Instructions of protocol 2. */
export const op = {
  protocol: Uint8Array.of(0x80, 2),
  stop: Uint8Array.of(0x2e),
  mark: Uint8Array.of(0x28),
  tuple: Uint8Array.of(0x74),
  emptyTuple: Uint8Array.of(0x29),
  emptyDict: Uint8Array.of(0x7d),
  emptyList: Uint8Array.of(0x5d),
  setItems: Uint8Array.of(0x75),
  appends: Uint8Array.of(0x65),
  reduce: Uint8Array.of(0x52),
  persistent: Uint8Array.of(0x51),
  no: Uint8Array.of(0x89),
  int: (value: number) => joined(Uint8Array.of(0x4a), fields([4, value])),
  text: (value: string) => {
    const bytes = text.encode(value);
    return joined(Uint8Array.of(0x58), fields([4, bytes.byteLength]), bytes);
  },
  global: (module: string, name: string) => text.encode(`c${module}\n${name}\n`),
};

const tupleOf = (...parts: readonly Uint8Array[]): Uint8Array => joined(op.mark, ...parts, op.tuple);

function pickledTensor({
  key,
  count,
  type = "FloatStorage",
  offset = 0,
  shape,
  strides,
}: FixtureTensor): Uint8Array {
  const storage = tupleOf(
    op.text("storage"),
    op.global("torch", type),
    op.text(key),
    op.text("cpu"),
    op.int(count),
  );
  const args = tupleOf(
    joined(storage, op.persistent),
    op.int(offset),
    tupleOf(...shape.map(op.int)),
    tupleOf(...strides.map(op.int)),
    op.no,
    joined(op.global("collections", "OrderedDict"), op.emptyTuple, op.reduce),
  );
  return joined(op.global("torch._utils", "_rebuild_tensor_v2"), args, op.reduce);
}

/** `{"model": {name: tensor, ...}}`. */
export function pickledModel(tensors: readonly FixtureTensor[]): Uint8Array<ArrayBuffer> {
  const items = tensors.map((tensor) => joined(op.text(tensor.name), pickledTensor(tensor)));
  const model = joined(op.emptyDict, op.mark, ...items, op.setItems);
  return joined(op.protocol, op.emptyDict, op.mark, op.text("model"), model, op.setItems, op.stop);
}

/** The entries of a checkpoint: pickle, data by key, version and byte order. */
export function torchEntries(
  pickle: Uint8Array,
  data: Readonly<Record<string, Uint8Array>>,
  byteOrder: "little" | "big" | "none" = "little",
): FixtureEntry[] {
  return [
    { name: "archive/data.pkl", data: pickle },
    ...(byteOrder === "none" ? [] : [{ name: "archive/byteorder", data: text.encode(byteOrder) }]),
    ...Object.entries(data).map(([key, bytes]) => ({ name: `archive/data/${key}`, data: bytes })),
    { name: "archive/version", data: text.encode("3\n") },
  ];
}

export function float32Bytes(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}
