import fc from "fast-check";
import t from "tap";
import { memorySource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { readTensors } from "./open-checkpoint.ts";
import { PICKLE_STRING_BYTES_MAX } from "./pickle-cursor.ts";
import { PICKLE_MEMO_MAX, PICKLE_OBJECTS_MAX, PICKLE_STACK_MAX } from "./pickle-stack.ts";
import { PICKLE_DEPTH_MAX } from "./pickle-value.ts";
import {
  fields,
  float32Bytes,
  joined,
  op,
  pickledModel,
  torchEntries,
  zipFile,
} from "./torch-file-fixture.ts";
import { PICKLE_INSTRUCTIONS_MAX, unpickle } from "./unpickle.ts";

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const codeOf = (run: () => unknown): string => {
  try {
    run();
    return "accepted";
  } catch (error) {
    if (error instanceof CheckpointError) return error.code.replace("checkpoint.", "");
    throw error; // Anything else is a fault of the reader.
  }
};
const refusal = (...parts: readonly Uint8Array[]): string => codeOf(() => unpickle(joined(...parts)));
const repeated = (count: number, hex: string): Uint8Array =>
  new Uint8Array(Buffer.alloc((count * hex.length) / 2, Buffer.from(hex, "hex")));

t.test("plain values are what Python means by them", async (t) => {
  const value = (hex: string): unknown => unpickle(bytesOf(`8002 ${hex} 2e`)).value;
  t.strictSame(
    ["4e", "88", "89", "4b ff", "4d 0102", "4a feffffff", "47 3fe0000000000000", "8c 03 c3a9 78"].map(value),
    [null, true, false, 255, 513, -2, 0.5, "éx"],
  );
  // pickletools: LONG1 0, 255, -128, and 2**53, which no number holds apart from its neighbour.
  t.strictSame(["8a 00", "8a 02 ff00", "8a 01 80", "8a 07 00000000000020"].map(value), [
    0,
    255,
    -128,
    9007199254740992n,
  ]);
  t.match(value("5d 28 4b01 4b02 65"), { kind: "list", items: [1, 2] });
  t.match(value("4b01 4b02 86"), { kind: "tuple", items: [1, 2] });
});

t.test("pickles that would run code are refused by the name that they use", async (t) => {
  // CPython 3: pickle.dumps of an object whose __reduce__ gives (os.system, ("...",)), protocols 2 and 4.
  const two = "800263706f7369780a73797374656d0a71005802000000 6c73 7101857102527103 2e";
  const four = "8004 9517000000 00000000 8c05706f736978948c0673797374656d9493948c026c7394859452942e";
  t.equal(
    codeOf(() => unpickle(bytesOf(two))),
    "pickle.global",
  );
  t.equal(
    codeOf(() => unpickle(bytesOf(four))),
    "pickle.global",
  );
  const names: [string, string][] = [
    ["builtins", "eval"],
    ["__builtin__", "getattr"],
    ["torch", "load"],
    ["torch", "_utils _rebuild_tensor_v2"],
    ["torch._utils", "_rebuild_tensor_v3"],
    ["collections", "__proto__"],
    ["torch", "constructor"],
    ["numpy.core.multiarray", "_reconstruct"],
  ];
  for (const [module, name] of names)
    t.equal(refusal(op.global(module, name), op.stop), "pickle.global", name);
  t.equal(refusal(op.global("torch", "FloatStorage"), op.stop), "accepted", "an allowed name is only a word");
  t.equal(refusal(op.global("torch", "FloatStorage"), op.emptyTuple, op.reduce, op.stop), "pickle.global");
});

t.test("instructions that weights do not need are refused", async (t) => {
  // POP, DUP, INT, LONG, LONG4, UNICODE, INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, PERSID, EMPTY_SET, BINBYTES, GET, DICT.
  for (const opcode of "30 32 49 4c 8b 56 69 6f 81 92 82 50 8f 42 67 64".split(" ")) {
    t.equal(
      codeOf(() => unpickle(bytesOf(`4e ${opcode} 00000000 2e`))),
      "pickle.opcode",
      opcode,
    );
  }
  t.equal(
    codeOf(() => unpickle(bytesOf("8006 4e2e"))),
    "pickle.opcode",
    "a protocol of the future",
  );
});

t.test("no container can hold itself or change after its use", async (t) => {
  // CPython 3: l = []; l.append(l), and d = {}; d["x"] = [d].
  t.equal(
    codeOf(() => unpickle(bytesOf("80025d71006800612e"))),
    "pickle.malformed",
  );
  t.equal(
    codeOf(() => unpickle(bytesOf("80027d710058010000007871015d71026800 61 73 2e"))),
    "pickle.malformed",
  );
  const chain = (depth: number): Uint8Array =>
    joined(repeated(depth, "5d"), repeated(depth - 1, "61"), op.stop);
  t.equal(refusal(chain(PICKLE_DEPTH_MAX)), "accepted");
  t.equal(refusal(chain(PICKLE_DEPTH_MAX + 1)), "pickle.limit");
  t.equal(refusal(op.emptyTuple, repeated(PICKLE_DEPTH_MAX - 1, "85"), op.stop), "accepted");
  t.equal(refusal(op.emptyTuple, repeated(PICKLE_DEPTH_MAX, "85"), op.stop), "pickle.limit");
  t.equal(
    refusal(op.emptyDict, op.mark, op.int(1), op.no, op.int(1), op.no, op.setItems, op.stop),
    "pickle.malformed",
  );
  t.equal(refusal(op.emptyDict, op.mark, op.emptyTuple, op.no, op.setItems, op.stop), "pickle.malformed");
});

t.test("whatever grows has an end", async (t) => {
  t.equal(refusal(repeated(PICKLE_STACK_MAX + 1, "4e"), op.stop), "pickle.limit", "stack");
  t.equal(refusal(repeated(PICKLE_STACK_MAX + 1, "28"), op.stop), "pickle.limit", "marks");
  const giant = joined(op.mark, repeated(PICKLE_STACK_MAX, "4e"));
  t.equal(refusal(giant, op.tuple, op.stop), "accepted", "a tuple as wide as the stack");
  t.equal(refusal(giant, repeated(1, "4e"), op.tuple, op.stop), "pickle.limit", "a wider one");
  t.equal(refusal(op.emptyList, repeated(PICKLE_OBJECTS_MAX, "5d61"), op.stop), "pickle.limit", "objects");
  t.equal(refusal(op.no, memoOf(PICKLE_MEMO_MAX + 1), op.stop), "pickle.limit", "memo");
  t.equal(
    refusal(op.emptyList, repeated(PICKLE_INSTRUCTIONS_MAX / 2, "4e61"), op.stop),
    "pickle.limit",
    "time",
  );
  t.equal(
    codeOf(() => unpickle(bytesOf("8a ff 00"))),
    "pickle.limit",
    "a huge integer",
  );
  const long = joined(Uint8Array.of(0x58), fields([4, PICKLE_STRING_BYTES_MAX + 1]));
  t.equal(refusal(long), "pickle.limit", "a long string is refused before its bytes are looked for");
  t.equal(refusal(Uint8Array.of(0x58), fields([4, 4_294_967_295])), "pickle.limit");
  t.equal(
    codeOf(() => unpickle(bytesOf("95 ffffffffffffff7f 4e2e"))),
    "truncated",
    "a frame beyond the file",
  );
});

/** LONG_BINPUT with every index below `count`. */
function memoOf(count: number): Uint8Array {
  const bytes = new Uint8Array(count * 5);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < count; index += 1) {
    bytes[index * 5] = 0x72;
    view.setUint32(index * 5 + 1, index, true);
  }
  return bytes;
}

t.test("one list cannot be turned into many dictionaries", async (t) => {
  // OrderedDict(pairs) as Python 2 wrote it, over one list of 20,000 pairs, again and again.
  const pairs = Array.from({ length: 20_000 }, (_, index) =>
    joined(op.int(index), Uint8Array.of(0x4e, 0x86)),
  );
  const list = joined(op.emptyList, op.mark, ...pairs, op.appends, bytesOf("7100 85 7101"));
  const call = joined(op.global("collections", "OrderedDict"), bytesOf("6801"), op.reduce);
  t.equal(refusal(list, call, bytesOf("86"), op.stop), "accepted", "once is what Python 2 needs");
  t.equal(refusal(list, ...Array.from({ length: 20 }, () => call), op.stop), "pickle.limit");
});

t.test("what contradicts itself is refused", async (t) => {
  const cases = [
    ["2e", "nothing to give"],
    ["4e 4e 2e", "two values"],
    ["28 4e 2e", "a mark that stays"],
    ["4e 28 85 2e", "an item from below a mark"],
    ["74 2e", "no mark"],
    ["68 05 2e", "a memo that was never made"],
    ["4e 4e 61 2e", "appending to nothing"],
    ["7d 28 4e 75 2e", "a key without a value"],
    ["4e 4e 52 2e", "calling nothing"],
    ["4e 51 2e", "a storage without a name"],
    ["4e 4e 62 2e", "state of nothing"],
    ["4e 4e 93 2e", "a name that is no text"],
    ["58 01000000 ff 2e", "text that is no text"],
    ["63 61", "a name without an end"],
  ] as const;
  for (const [hex, what] of cases) {
    t.match(
      codeOf(() => unpickle(bytesOf(hex))),
      /^pickle.malformed$/,
      what,
    );
  }
  t.equal(
    codeOf(() => unpickle(bytesOf("58 05000000 61"))),
    "truncated",
  );
  t.equal(
    codeOf(() => unpickle(bytesOf("4e"))),
    "truncated",
  );
});

const tensors = [
  { name: "a", key: "0", count: 6, shape: [2, 3], strides: [3, 1] },
  { name: "b", key: "1", count: 2, type: "HalfStorage", shape: [1], strides: [1], offset: 1 },
];
const file = zipFile(
  torchEntries(pickledModel(tensors), {
    "0": float32Bytes(0, 1, 2, 3, 4, 5),
    "1": Uint8Array.of(0, 60, 0, 64),
  }),
);

/** Reads everything; a bounded result or a coded refusal, nothing else. */
function outcome(bytes: Uint8Array): string {
  return codeOf(() => {
    let elements = 0;
    for (const tensor of readTensors(memorySource(bytes)).tensors.values()) elements += tensor.read().length;
    if (elements > 100_000) throw new Error(`${elements} elements from ${bytes.byteLength} bytes`);
  });
}

t.test("a file cut anywhere is refused", async (t) => {
  t.equal(outcome(file), "accepted");
  const kept = Array.from({ length: file.byteLength }, (_, length) => outcome(file.subarray(0, length)));
  t.notOk(kept.includes("accepted"));
  const pickle = pickledModel(tensors);
  for (let length = 0; length < pickle.byteLength; length += 1) {
    if (codeOf(() => unpickle(pickle.subarray(0, length))) === "accepted") t.fail(`${length} bytes`);
  }
});

t.test("altered files are refused with a code or give no more than they hold", async (t) => {
  const seen = new Set<string>();
  const flip = fc.record({ at: fc.nat(file.byteLength - 1), value: fc.integer({ min: 1, max: 255 }) });
  fc.assert(
    fc.property(fc.array(flip, { minLength: 1, maxLength: 4 }), (flips) => {
      const bytes = new Uint8Array(file);
      for (const { at, value } of flips) bytes[at] = (bytes[at] ?? 0) ^ value;
      seen.add(outcome(bytes));
    }),
    { seed: 4, numRuns: 1500 },
  );
  t.ok(seen.size > 5, [...seen].join(" "));

  // The checksums would hide the pickle: here they are made anew for every altered pickle.
  const pickle = pickledModel(tensors);
  const data = { "0": new Uint8Array(24), "1": new Uint8Array(4) };
  fc.assert(
    fc.property(fc.nat(pickle.byteLength - 1), fc.nat(255), (at, value) => {
      const altered = new Uint8Array(pickle);
      altered[at] = value;
      seen.add(outcome(zipFile(torchEntries(altered, data))));
    }),
    { seed: 5, numRuns: 1500 },
  );
  for (const code of ["pickle.opcode", "pickle.global", "pickle.malformed", "view"])
    t.ok(seen.has(code), code);
});

t.test("any stream of instructions ends in a value or a code", async (t) => {
  const opcodes =
    "80 95 4e 88 89 4a 4b 4d 8a 47 58 8c 54 55 28 7d 5d 29 74 85 86 87 61 65 73 75 71 72 94 68 6a 63 93 52 62 51 2e";
  const known = fc.constantFrom(...opcodes.split(" ").map((hex) => Number.parseInt(hex, 16)));
  const byte = fc.oneof({ weight: 4, arbitrary: known }, { weight: 1, arbitrary: fc.nat(3) });
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 200 }), (bytes) => {
      seen.add(codeOf(() => unpickle(Uint8Array.from(bytes))));
    }),
    { seed: 6, numRuns: 4000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      seen.add(outcome(bytes));
      seen.add(outcome(joined(file.subarray(0, 4), bytes)));
    }),
    { seed: 7, numRuns: 1000 },
  );
  t.ok(seen.has("accepted") && seen.has("pickle.malformed"), [...seen].join(" "));
});
