import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import t from "tap";
import { memorySource } from "./byte-source.ts";
import { float32From } from "./float32-from.ts";
import { CheckpointMismatch, type ExpectedTensor } from "./match-tensors.ts";
import { openCheckpoint, readTensors } from "./open-checkpoint.ts";
import { describeIdentity, sam2Identity } from "./sam2-identity.ts";
import { EXPANSION_MAX, elementsOf, rowMajorStrides, type StoredTensors } from "./stored-tensor.ts";
import {
  type FixtureEntry,
  type FixtureTensor,
  fields,
  float32Bytes,
  joined,
  pickledModel,
  torchEntries,
  zipFile,
} from "./torch-file-fixture.ts";

/**
 * Written by CPython 3's own pickler, protocols 2 and 4, with persistent identifiers as torch.save gives them:
 * {"model": OrderedDict(a.weight 2x3, a.transposed its transpose, tail its last two, half a Parameter of binary16,
 * count a scalar int64), "epoch": 3, "loss": 0.25, "note": None}, and `_metadata` as the dictionary's state.
 */
const PYTHON_PICKLES = {
  "protocol 2":
    "gAJ9cQAoWAUAAABtb2RlbHEBY2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnECKVJxAyhYCAAAAGEud2VpZ2h0cQRjdG9yY2guX3V0aWxzCl9yZWJ1aWxkX3RlbnNvcl92MgpxBSgoWAcAAABzdG9yYWdlcQZjdG9yY2gKRmxvYXRTdG9yYWdlCnEHWAEAAAAwcQhYAwAAAGNwdXEJSwZ0cQpRSwBLAksDhnELSwNLAYZxDIloAilScQ10cQ5ScQ9YDAAAAGEudHJhbnNwb3NlZHEQaAUoKGgGaAdoCGgJSwZ0cRFRSwBLA0sChnESSwFLA4ZxE4loAilScRR0cRVScRZYBAAAAHRhaWxxF2gFKChoBmgHaAhoCUsGdHEYUUsESwKFcRlLAYVxGoloAilScRt0cRxScR1YBAAAAGhhbGZxHmN0b3JjaC5fdXRpbHMKX3JlYnVpbGRfcGFyYW1ldGVyCnEfaAUoKGgGY3RvcmNoCkhhbGZTdG9yYWdlCnEgWAEAAAAxcSFoCUsDdHEiUUsASwOFcSNoGoloAilScSR0cSVScSaIaAIpUnEnh3EoUnEpWAUAAABjb3VudHEqaAUoKGgGY3RvcmNoCkxvbmdTdG9yYWdlCnErWAEAAAAycSxoCUsBdHEtUUsAKSmJaAIpUnEudHEvUnEwdX1xMVgJAAAAX21ldGFkYXRhcTJoAilScTMoWAAAAABxNH1xNVgHAAAAdmVyc2lvbnE2SwFzWAEAAABhcTd9cThoNksBc3VzYlgFAAAAZXBvY2hxOUsDWAQAAABsb3NzcTpHP9AAAAAAAABYBAAAAG5vdGVxO051Lg==",
  "protocol 4":
    "gASV/wEAAAAAAAB9lCiMBW1vZGVslIwLY29sbGVjdGlvbnOUjAtPcmRlcmVkRGljdJSTlClSlCiMCGEud2VpZ2h0lIwMdG9yY2guX3V0aWxzlIwSX3JlYnVpbGRfdGVuc29yX3YylJOUKCiMB3N0b3JhZ2WUjAV0b3JjaJSMDEZsb2F0U3RvcmFnZZSTlIwBMJSMA2NwdZRLBnSUUUsASwJLA4aUSwNLAYaUiWgEKVKUdJRSlIwMYS50cmFuc3Bvc2VklGgJKChoCmgNaA5oD0sGdJRRSwBLA0sChpRLAUsDhpSJaAQpUpR0lFKUjAR0YWlslGgJKChoCmgNaA5oD0sGdJRRSwRLAoWUSwGFlIloBClSlHSUUpSMBGhhbGaUaAeMEl9yZWJ1aWxkX3BhcmFtZXRlcpSTlGgJKChoCmgLjAtIYWxmU3RvcmFnZZSTlIwBMZRoD0sDdJRRSwBLA4WUaCCJaAQpUpR0lFKUiGgEKVKUh5RSlIwFY291bnSUaAkoKGgKaAuMC0xvbmdTdG9yYWdllJOUjAEylGgPSwF0lFFLACkpiWgEKVKUdJRSlHV9lIwJX21ldGFkYXRhlGgEKVKUKIwAlH2UjAd2ZXJzaW9ulEsBc4wBYZR9lGg/SwFzdXNijAVlcG9jaJRLA4wEbG9zc5RHP9AAAAAAAACMBG5vdGWUTnUu",
};
const PYTHON_DATA = {
  "0": float32Bytes(0, 1, 2, 3, 4, 5),
  "1": new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x3555).buffer),
  "2": new Uint8Array(BigInt64Array.of(-7n).buffer),
};

const tensorsOf = (bytes: Uint8Array): StoredTensors => readTensors(memorySource(bytes)).tensors;
const numbers = (tensors: StoredTensors, name: string): number[] => [
  ...expectDefined(tensors.get(name), name).read(),
];

/** One float32 tensor over data "0" of six elements. */
function oneTensor(over: Partial<FixtureTensor>, data = float32Bytes(0, 1, 2, 3, 4, 5)): Uint8Array {
  const tensor = { name: "w", key: "0", count: 6, shape: [6], strides: [1], ...over };
  return zipFile(torchEntries(pickledModel([tensor]), { "0": data }));
}

const withEntries = (change: (entries: FixtureEntry[]) => FixtureEntry[]): Uint8Array =>
  zipFile(
    change(
      torchEntries(pickledModel([{ name: "w", key: "0", count: 2, shape: [2], strides: [1] }]), {
        "0": float32Bytes(1, 2),
      }),
    ),
  );

t.test("a pickle that Python wrote gives its tensors, views and types included", async (t) => {
  for (const [protocol, base64] of Object.entries(PYTHON_PICKLES)) {
    const pickle = new Uint8Array(Buffer.from(base64, "base64"));
    const bytes = zipFile(torchEntries(pickle, PYTHON_DATA));
    const { form, tensors } = readTensors(memorySource(bytes));
    t.equal(form, "torch-zip");
    t.strictSame([...tensors.keys()], ["a.weight", "a.transposed", "tail", "half", "count"], protocol);
    t.strictSame(numbers(tensors, "a.weight"), [0, 1, 2, 3, 4, 5]);
    t.strictSame(numbers(tensors, "a.transposed"), [0, 3, 1, 4, 2, 5], "strides are honoured");
    t.strictSame(tensors.get("a.transposed")?.shape, [3, 2]);
    t.strictSame(numbers(tensors, "tail"), [4, 5], "an offset is honoured");
    t.strictSame(numbers(tensors, "half"), [1, -2, 0.333251953125]);
    t.strictSame(numbers(tensors, "count"), [-7]);
    t.strictSame(tensors.get("count")?.shape, []);
  }
});

t.test("every number type becomes the float32 that it stands for", async (t) => {
  const bytesOf = (array: ArrayBufferView): Uint8Array<ArrayBuffer> =>
    new Uint8Array(array.buffer.slice(0) as ArrayBuffer); // Arrays made here have plain buffers.
  const cases = [
    ["F64", Float64Array.of(0.1, -1e300), [Math.fround(0.1), Number.NEGATIVE_INFINITY]],
    ["F32", Float32Array.of(1.5, -0), [1.5, -0]],
    // IEEE 754: 1, -2, the smallest subnormal, the largest finite, infinity, negative zero.
    [
      "F16",
      Uint16Array.of(0x3c00, 0xc000, 1, 0x7bff, 0x7c00, 0x8000),
      [1, -2, 2 ** -24, 65504, Infinity, -0],
    ],
    ["BF16", Uint16Array.of(0x3f80, 0xc049, 0x0001), [1, -3.140625, 2 ** -133]],
    ["I64", BigInt64Array.of(-3n, 16777217n), [-3, 16777216]],
    ["U64", BigUint64Array.of(9n), [9]],
    ["I32", Int32Array.of(-5), [-5]],
    ["U32", Uint32Array.of(4294967295), [4294967296]],
    ["I16", Int16Array.of(-300), [-300]],
    ["U16", Uint16Array.of(65535), [65535]],
    ["I8", Int8Array.of(-128), [-128]],
    ["U8", Uint8Array.of(255), [255]],
    ["BOOL", Uint8Array.of(0, 1, 7), [0, 1, 1]],
  ] as const;
  for (const [dtype, stored, expected] of cases) {
    t.strictSame([...float32From(bytesOf(stored), dtype)], [...expected], dtype);
  }
  t.ok(Number.isNaN(float32From(bytesOf(Uint16Array.of(0x7e00)), "F16")[0]));
  t.strictSame([...float32From(Uint8Array.of(0x3f, 0x80, 0, 0), "F32", true)], [1], "big-endian");
});

t.test("the byte order of the machine that wrote the file is honoured", async (t) => {
  const pickle = pickledModel([{ name: "w", key: "0", count: 1, shape: [1], strides: [1] }]);
  const read = (order: "little" | "big" | "none", ...bytes: number[]): number[] =>
    numbers(tensorsOf(zipFile(torchEntries(pickle, { "0": Uint8Array.of(...bytes) }, order))), "w");
  t.strictSame(read("big", 0x40, 0x20, 0, 0), [2.5]);
  t.strictSame(read("little", 0, 0, 0x20, 0x40), [2.5]);
  t.strictSame(read("none", 0, 0, 0x20, 0x40), [2.5], "older files do not say, and are little-endian");
});

t.test("a tensor stays inside its data, and what it shows is bounded", async (t) => {
  t.strictSame(numbers(tensorsOf(oneTensor({ shape: [2, 2], strides: [4, 1] })), "w"), [0, 1, 4, 5]);
  t.strictSame(numbers(tensorsOf(oneTensor({ shape: [0, 9], strides: [1, 1] })), "w"), []);
  t.strictSame(numbers(tensorsOf(oneTensor({ shape: [3], strides: [0], offset: 5 })), "w"), [5, 5, 5]);
  const outside: Partial<FixtureTensor>[] = [
    { shape: [7] },
    { offset: 1 },
    { shape: [2, 2], strides: [5, 1] },
    { shape: [0], strides: [1], offset: 7 },
  ];
  for (const view of outside) t.throws(() => tensorsOf(oneTensor(view)), { code: "checkpoint.view" });
  t.throws(() => tensorsOf(oneTensor({ shape: [2, 2], strides: [1] })), {
    code: "checkpoint.pickle.malformed",
  });
  t.throws(() => tensorsOf(oneTensor({ count: 5, shape: [5] })), { code: "checkpoint.storage" });
  const huge = { shape: [2_000_000_000, 2_000_000_000], strides: [0, 0] };
  t.throws(() => tensorsOf(oneTensor(huge)), { code: "checkpoint.expansion" });

  const many = (count: number): Uint8Array => {
    const elements = 65_536;
    const data = new Uint8Array(elements * 4);
    const view = { key: "0", count: elements, shape: [elements], strides: [1] };
    const tensors = Array.from({ length: count }, (_, index) => ({ name: `t${index}`, ...view }));
    return zipFile(torchEntries(pickledModel(tensors), { "0": data }));
  };
  t.equal(tensorsOf(many(EXPANSION_MAX + 1)).size, EXPANSION_MAX + 1, "shared data is allowed");
  t.throws(() => tensorsOf(many(EXPANSION_MAX + 2)), { code: "checkpoint.expansion" });
});

t.test("zip containers that PyTorch does not write are refused", async (t) => {
  t.strictSame(numbers(tensorsOf(withEntries((entries) => entries)), "w"), [1, 2], "the fault-free twin");
  const changed = (name: string, over: Partial<FixtureEntry>): Uint8Array =>
    withEntries((entries) =>
      entries.map((entry) => (entry.name.endsWith(name) ? { ...entry, ...over } : entry)),
    );
  const good = withEntries((entries) => entries);
  const cases: readonly (readonly [string, string, Uint8Array])[] = [
    ["a compressed entry", "zip.compressed", changed("data/0", { method: 8 })],
    ["an encrypted entry", "zip.compressed", changed("data/0", { flags: 0x0809 })],
    ["a strange flag", "zip.malformed", changed("data/0", { flags: 0x2808 })],
    ["a wrong checksum of numbers", "damaged", changed("data/0", { crc32: 1 })],
    ["a wrong checksum of the pickle", "damaged", changed("data.pkl", { crc32: 1 })],
    ["another name in the local header", "zip.malformed", changed("data/0", { localName: "archive/data/1" })],
    ["a repeated name", "zip.duplicate", changed("version", { name: "archive/data/0" })],
    [
      "entries at one place",
      "zip.overlap",
      changed("data/0", { headerOffset: 0, localName: "archive/data.pkl" }),
    ],
    ["no pickle", "zip.malformed", changed("data.pkl", { name: "archive/other.pkl" })],
    ["two pickles", "zip.malformed", changed("version", { name: "b/data.pkl" })],
    ["no numbers", "storage", changed("data/0", { name: "archive/data/7" })],
    ["an unknown byte order", "zip.malformed", changed("byteorder", { data: Uint8Array.of(0x6d) })],
    ["bytes after the end", "truncated", joined(good, Uint8Array.of(0))],
    ["bytes before the start", "zip.malformed", joined(good.subarray(0, 4), good)],
    ["two ends that differ", "zip.malformed", patched(good, good.byteLength - 14, 9)],
  ];
  for (const [what, code, bytes] of cases) {
    t.throws(() => tensorsOf(bytes), { code: `checkpoint.${code}` }, what);
  }
  const old = zipFile(torchEntries(pickledModel([]), {}), { zip64: false });
  t.throws(() => tensorsOf(old), { code: "checkpoint.no-weights" }, "a plain zip end is read too");
});

function patched(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[at] = value;
  return copy;
}

t.test("safetensors of 16, 32 and 64 bits are read, integers refused when they are asked for", async (t) => {
  const bytes = writeTensorBundle([
    float32Tensor("a", [2], Float32Array.of(1, 2)),
    { name: "h", dtype: "F16", shape: [1], bytes: Uint8Array.of(0, 0x3c) },
    { name: "b", dtype: "BF16", shape: [1], bytes: Uint8Array.of(0x80, 0x3f) },
    { name: "i", dtype: "I64", shape: [1], bytes: new Uint8Array(8) },
  ]);
  const { form, tensors } = readTensors(memorySource(bytes));
  t.equal(form, "safetensors");
  t.strictSame(
    ["a", "h", "b"].map((name) => numbers(tensors, name)),
    [[1, 2], [1], [1]],
  );
  t.throws(() => numbers(tensors, "i"), { code: "checkpoint.dtype" });
  t.throws(() => tensorsOf(bytes.subarray(0, bytes.byteLength - 1)), { code: "checkpoint.safetensors" });
  t.throws(() => tensorsOf(bytes.subarray(0, 20)), { code: "checkpoint.truncated" });
  t.throws(() => tensorsOf(new Uint8Array(0)), { code: "checkpoint.form" });
  t.throws(() => tensorsOf(new TextEncoder().encode("not a checkpoint")), { code: "checkpoint.form" });
});

t.test("a checkpoint is digested, described and compared with the model at once", async (t) => {
  const dir = t.testdir();
  const path = join(dir, "model.pt");
  const bytes = oneTensor({ shape: [2, 3], strides: [3, 1] });
  writeFileSync(path, bytes);
  const checkpoint = await openCheckpoint(path, { expected: [{ name: "w", shape: [2, 3] }] });
  t.equal(checkpoint.sha256, createHash("sha256").update(bytes).digest("hex"));
  t.equal(checkpoint.description, "unknown: no image encoder of SAM 2");
  t.strictSame(numbers(checkpoint.tensors, "w"), [0, 1, 2, 3, 4, 5]);
  checkpoint.close();

  const expected: ExpectedTensor[] = [
    { name: "w", shape: [3, 2] },
    { name: "v", shape: [1] },
  ];
  const refused = await openCheckpoint(path, { expected }).catch((error: unknown) => error);
  t.match(refused, { code: "checkpoint.mismatch" });
  t.strictSame(refused instanceof CheckpointMismatch && refused.differences, {
    missing: ["v"],
    unexpected: [],
    misshaped: [{ name: "w", shape: [3, 2], found: [2, 3] }],
  });
  await t.rejects(openCheckpoint(path, { expected: [] }), /1 unexpected: w/);
  writeFileSync(path, oneTensor({ name: "a name\nof a patient" }));
  await t.rejects(openCheckpoint(path, { expected: [] }), /1 unexpected: tensor 0 of the file/);
  await t.rejects(openCheckpoint(join(dir, "absent.pt")), { code: "checkpoint.unreadable" });
  await t.rejects(openCheckpoint(dir), { code: "checkpoint.unreadable" });
});

t.test("size and release are told from the tensors, published files from their digest", async (t) => {
  const shaped = (shape: number[]) => ({ dtype: "F32" as const, shape, read: () => new Float32Array(0) });
  const trunk = (width: number, blocks: number, more: string[] = []): StoredTensors =>
    new Map([
      ["image_encoder.trunk.patch_embed.proj.weight", shaped([width, 3, 7, 7])] as const,
      ...Array.from({ length: blocks }, (_, index) => {
        return [`image_encoder.trunk.blocks.${index}.norm1.weight`, shaped([width])] as const;
      }),
      ...more.map((name) => [name, shaped([1, 64])] as const),
    ]);
  const of = (width: number, blocks: number, more?: string[]) => sam2Identity(trunk(width, blocks, more), "");
  t.match(of(96, 12, ["no_obj_embed_spatial"]), { variant: "tiny", release: "2.1", published: null });
  t.match(of(96, 16), { variant: "small", release: "2.0" });
  t.match(of(112, 24), { variant: "base-plus" });
  t.match(of(144, 48), { variant: "large" });
  t.match(of(16, 7), { variant: "micro" });
  t.match(of(16, 8), { variant: null });
  const tiny = "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69";
  t.equal(describeIdentity(sam2Identity(trunk(96, 12), tiny)), "known: sam2.1_hiera_tiny");
  t.equal(describeIdentity(of(96, 12)), "unknown: SAM 2.0, size of tiny");
});

t.test("a whole model opens from the zip form and is refused as another release or size", async (t) => {
  const specs = sam2Parameters(sam2Variants.micro);
  const values = specs.map(({ shape }, index) =>
    Float32Array.from({ length: elementsOf(shape) }, (_, element) => index + element / 8),
  );
  const write = (names: (name: string) => boolean): string => {
    const kept = specs.flatMap((spec, index) => (names(spec.name) ? [{ ...spec, index }] : []));
    const tensors = kept.map(({ name, shape, index }) => {
      return { name, key: `${index}`, count: elementsOf(shape), shape, strides: rowMajorStrides(shape) };
    });
    const data = kept.map(({ index }) => [`${index}`, new Uint8Array(values[index]?.buffer ?? [])] as const);
    const path = join(t.testdir(), "micro.pt");
    writeFileSync(path, zipFile(torchEntries(pickledModel(tensors), Object.fromEntries(data))));
    return path;
  };
  const checkpoint = await openCheckpoint(
    write(() => true),
    { expected: specs },
  );
  t.equal(checkpoint.description, "unknown: SAM 2.1, size of micro");
  for (const [index, { name }] of specs.entries()) {
    const read = expectDefined(checkpoint.tensors.get(name), name).read();
    const isSame = read.every((value, element) => value === values[index]?.[element]);
    if (!isSame || read.length !== values[index]?.length) t.fail(name);
  }
  checkpoint.close();

  const old = write((name) => name !== "no_obj_embed_spatial" && !name.startsWith("obj_ptr_tpos_proj"));
  const refused = await openCheckpoint(old, { expected: specs }).catch((error: unknown) => error);
  t.match(refused, { message: /unknown: SAM 2.0, size of micro; 3 missing: .*no_obj_embed_spatial/ });
  const tiny = sam2Parameters(sam2Variants.tiny);
  const other = await openCheckpoint(
    write(() => true),
    { expected: tiny },
  ).catch((error: unknown) => error);
  t.ok(other instanceof CheckpointMismatch && other.differences.misshaped.length > 100, "all at once");
});

const LEGACY = fileURLToPath(new URL("../../../shared/data/weights/obelisk-tcia-pancreas/", import.meta.url));
t.test(
  "real checkpoints of the legacy form are read",
  { skip: !existsSync(LEGACY) && "no ../shared/data/weights/obelisk-tcia-pancreas" },
  async (t) => {
    // Sums of squares of all float32 numbers: CPython 3's own unpickler with stand-ins for torch's classes.
    const files = [
      ["allconvunet_tcia_fold1.pth", "conv0.weight", 98, 9051754505.510914],
      ["obeliskhybrid_tcia_fold1.pth", "offset1", 117, 2694.051018096897],
    ] as const;
    for (const [file, first, count, expected] of files) {
      const { form, tensors, close } = await openCheckpoint(join(LEGACY, file));
      t.equal(form, "torch-legacy");
      t.equal(tensors.size, count);
      t.equal([...tensors.keys()][0], first);
      const floats = [...tensors.values()].filter(({ dtype }) => dtype === "F32");
      const sum = floats
        .flatMap((tensor) => [...tensor.read()])
        .reduce((total, value) => total + value * value, 0);
      t.ok(Math.abs(sum / expected - 1) < 1e-9, `${sum}`);
      close();
    }
  },
);

t.test("the legacy form must be whole, with no bytes to spare", async (t) => {
  const legacy = legacyFile(float32Bytes(1, 2));
  t.strictSame(numbers(tensorsOf(legacy), "w"), [1, 2]);
  t.throws(() => tensorsOf(legacy.subarray(0, legacy.byteLength - 1)), { code: "checkpoint.truncated" });
  t.throws(() => tensorsOf(joined(legacy, Uint8Array.of(0))), { code: "checkpoint.storage" });
  t.throws(() => tensorsOf(legacyFile(float32Bytes(1, 2), 3)), { code: "checkpoint.storage" });
});

function legacyFile(data: Uint8Array, count = 2): Uint8Array<ArrayBuffer> {
  const head =
    "8002 8a0a6cfc9c46f9206aa850192e 8002 4de9032e 8002 7d58 0d000000 6c6974746c655f656e6469616e 88 732e";
  return joined(
    new Uint8Array(Buffer.from(head.replaceAll(" ", ""), "hex")),
    pickledModel([{ name: "w", key: "0", count: 2, shape: [2], strides: [1] }]),
    new Uint8Array(Buffer.from("80025d5801000000 30 61 2e".replaceAll(" ", ""), "hex")),
    fields([8, count]),
    data,
  );
}
