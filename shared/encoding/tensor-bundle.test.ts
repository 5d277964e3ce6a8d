import t from "tap";
import { Prng } from "../base/prng.ts";
import {
  type BundledTensor,
  float32Tensor,
  float32Values,
  readTensorBundle,
  writeBundleHeader,
  writeTensorBundle,
} from "./tensor-bundle.ts";
import { TensorBundleError } from "./tensor-bundle-error.ts";
import { HEADER_BYTES_MAX, readBundleHeader, TENSOR_COUNT_MAX } from "./tensor-bundle-header.ts";

const text = new TextEncoder();

function bundleOf(header: string, data: Uint8Array): Uint8Array {
  const json = text.encode(header);
  const bytes = new Uint8Array(8 + json.byteLength + data.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.byteLength);
  return bytes;
}

const weight = float32Tensor("conv.weight", [2, 2], Float32Array.of(1, -2, 3.5, Number.EPSILON));
const bias = float32Tensor("conv.bias", [2], Float32Array.of(0, -0));
const labels: BundledTensor = { name: "labels", dtype: "U8", shape: [3], bytes: Uint8Array.of(0, 1, 2) };
const nothing = float32Tensor("empty", [0, 4], new Float32Array(0));

t.test("what was written is read back, in the same order, as the same bytes", async (t) => {
  const bytes = writeTensorBundle([weight, bias, nothing, labels], { round: "7", site: "a" });
  const { tensors, metadata } = readTensorBundle(bytes);
  t.strictSame({ ...metadata }, { round: "7", site: "a" });
  t.same(new Set(tensors.keys()), new Set(["conv.weight", "conv.bias", "empty", "labels"]));
  const read = tensors.get("conv.weight");
  t.strictSame(read?.shape, [2, 2]);
  t.strictSame(read && float32Values(read), Float32Array.of(1, -2, 3.5, Number.EPSILON));
  t.equal(read?.bytes.buffer, bytes.buffer, "the tensor is a view, not a copy");
  t.strictSame(writeTensorBundle([weight, bias, nothing, labels], { site: "a", round: "7" }), bytes);
  t.notSame(writeTensorBundle([bias, weight, nothing, labels], { round: "7", site: "a" }), bytes);
});

t.test("the bytes are those that the format prescribes", async (t) => {
  // The layout of https://github.com/huggingface/safetensors: length, JSON, spaces, data.
  const bytes = writeTensorBundle([bias]);
  const json = '{"conv.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
  t.equal(new DataView(bytes.buffer).getBigUint64(0, true), 64n);
  t.equal(new TextDecoder().decode(bytes.subarray(8, 72)), json.padEnd(64));
  t.strictSame(bytes.subarray(72), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80));
  t.strictSame(writeBundleHeader([bias]), bytes.subarray(0, 72), "the header alone is the same prefix");
});

t.test("an unaligned tensor is copied, an aligned one is viewed", async (t) => {
  const bytes = writeTensorBundle([labels, bias]);
  const unaligned = readTensorBundle(bytes).tensors.get("conv.bias");
  t.not(unaligned && float32Values(unaligned).buffer, bytes.buffer);
  t.strictSame(unaligned && float32Values(unaligned), Float32Array.of(0, -0));
  const pooled = Buffer.concat([Buffer.of(1, 2, 3), bytes]).subarray(3);
  const fromPool = readTensorBundle(pooled).tensors.get("conv.bias");
  t.strictSame(fromPool && float32Values(fromPool), Float32Array.of(0, -0), "also out of a shared buffer");
  t.throws(() => float32Values(labels), { code: "bundle.wrong-dtype" });
});

const four = new Uint8Array(4);
const one = (fields: string) => bundleOf(`{"a":{${fields}}}`, four);
const REFUSED: readonly (readonly [string, string, Uint8Array])[] = [
  ["no bytes", "bundle.truncated", new Uint8Array(0)],
  ["a header that ends early", "bundle.truncated", Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0x7b)],
  ["a header length beyond 2^53", "bundle.header-too-long", new Uint8Array(16).fill(0xff)],
  ["text that is not JSON", "bundle.header-not-json", bundleOf("{'a':1}", four)],
  ["bytes that are not UTF-8", "bundle.header-not-json", bundleOf("{}", four).fill(0xff, 8, 10)],
  ["text after the header", "bundle.header-not-json", bundleOf("{}{}", four)],
  ["a lone surrogate in a name", "bundle.header-not-json", bundleOf('{"\\ud800":1}', four)],
  ["a fraction", "bundle.header-not-json", one('"dtype":"U8","shape":[4.0],"data_offsets":[0,4]')],
  ["a leading zero", "bundle.header-not-json", one('"dtype":"U8","shape":[04],"data_offsets":[0,4]')],
  ["a negative offset", "bundle.header-not-json", one('"dtype":"U8","shape":[4],"data_offsets":[-4,0]')],
  ["deep nesting", "bundle.header-not-json", bundleOf('{"a":[[[[1]]]]}', four)],
  ["a header that is a list", "bundle.header-malformed", bundleOf("[]", four)],
  ["an unknown dtype", "bundle.header-malformed", one('"dtype":"Q4","shape":[8],"data_offsets":[0,4]')],
  ["an unknown key", "bundle.header-malformed", one('"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1')],
  [
    "a rank above 8",
    "bundle.header-malformed",
    one('"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4]'),
  ],
  [
    "an empty name",
    "bundle.name-invalid",
    bundleOf('{"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', four),
  ],
  [
    "the same name twice",
    "bundle.name-repeated",
    bundleOf('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\\u0061":{}}', four),
  ],
  [
    "a shape key twice",
    "bundle.name-repeated",
    one('"shape":[4],"dtype":"U8","shape":[4],"data_offsets":[0,4]'),
  ],
  [
    "metadata that is not text",
    "bundle.metadata-invalid",
    bundleOf('{"__metadata__":{"n":1}}', new Uint8Array(0)),
  ],
  [
    "a size that is not the shape's",
    "bundle.size-mismatch",
    one('"dtype":"F32","shape":[2],"data_offsets":[0,4]'),
  ],
  ["offsets in reverse", "bundle.size-mismatch", one('"dtype":"U8","shape":[4],"data_offsets":[4,0]')],
  [
    "a shape whose product overflows",
    "bundle.shape-too-large",
    one('"dtype":"U8","shape":[9007199254740991,9007199254740991],"data_offsets":[0,4]'),
  ],
  [
    "bytes before the first tensor",
    "bundle.gap-or-overlap",
    one('"dtype":"U8","shape":[3],"data_offsets":[1,4]'),
  ],
  [
    "bytes after the last tensor",
    "bundle.gap-or-overlap",
    one('"dtype":"U8","shape":[3],"data_offsets":[0,3]'),
  ],
  ["data that ends early", "bundle.truncated", one('"dtype":"U8","shape":[5],"data_offsets":[0,5]')],
  [
    "tensors that share bytes",
    "bundle.gap-or-overlap",
    bundleOf(
      '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
      four,
    ),
  ],
];

t.test("a bundle with one fault is refused with that fault's code", async (t) => {
  t.doesNotThrow(
    () => readTensorBundle(one('"dtype":"U8","shape":[4],"data_offsets":[0,4]')),
    "the fault-free twin",
  );
  for (const [what, code, bytes] of REFUSED) t.throws(() => readTensorBundle(bytes), { code }, what);
});

t.test("the limits on counts and lengths hold", async (t) => {
  const entry = (index: number) => `"t${index}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`;
  const header = (count: number) =>
    text.encode(`{${Array.from({ length: count }, (_, i) => entry(i)).join(",")}}`);
  t.equal(readBundleHeader(header(TENSOR_COUNT_MAX), 0).tensors.length, TENSOR_COUNT_MAX);
  t.throws(() => readBundleHeader(header(TENSOR_COUNT_MAX + 1), 0), { code: "bundle.too-many-tensors" });
  const long = new Uint8Array(16);
  new DataView(long.buffer).setBigUint64(0, BigInt(HEADER_BYTES_MAX) + 1n, true);
  t.throws(() => readTensorBundle(long), { code: "bundle.header-too-long" });
});

t.test("names that mean something to JavaScript are only names", async (t) => {
  const named = ["__proto__", "constructor", "toString"].map((name) => ({ ...bias, name }));
  const { tensors } = readTensorBundle(writeTensorBundle(named));
  t.strictSame([...tensors.keys()], ["__proto__", "constructor", "toString"]);
  t.equal(Object.hasOwn(Object.prototype, "dtype"), false);
});

t.test("a writer refuses what a reader would refuse", async (t) => {
  t.throws(() => writeTensorBundle([bias, bias]), { code: "bundle.name-repeated" });
  t.throws(() => writeTensorBundle([{ ...bias, name: "__metadata__" }]), { code: "bundle.name-repeated" });
  t.throws(() => writeTensorBundle([{ ...bias, name: "" }]), { code: "bundle.name-invalid" });
  t.throws(() => writeTensorBundle([{ ...bias, shape: [3] }]), { code: "bundle.size-mismatch" });
  t.throws(() => writeTensorBundle([{ ...bias, shape: [1, 1, 1, 1, 1, 1, 1, 1, 2] }]), {
    code: "bundle.header-malformed",
  });
  t.throws(() => writeTensorBundle([bias], { note: "x".repeat(65_537) }), {
    code: "bundle.metadata-invalid",
  });
});

/** One of several ways in which bytes arrive broken, by accident or by intent. */
function mutate(bytes: Uint8Array, prng: Prng): Uint8Array {
  const copy = bytes.slice();
  const kind = prng.int(0, 4);
  const position = () => prng.int(0, copy.length - 1);
  if (kind === 0) return copy.subarray(0, position());
  if (kind === 1) {
    const longer = new Uint8Array(copy.length + prng.int(1, 16));
    longer.set(copy);
    return longer;
  }
  if (kind === 2) {
    const source = position();
    copy.copyWithin(position(), source, source + prng.int(1, 24));
    return copy;
  }
  const tokens = ['"', "{", "}", "[", "]", ",", ":", "0", "9", "\\", " ", "F", "\0", "\xff"];
  for (let count = prng.int(1, 4); count > 0; count -= 1) {
    copy[position()] = kind === 3 ? prng.int(0, 255) : prng.pick(tokens).charCodeAt(0);
  }
  return copy;
}

t.test("thousands of broken bundles give a coded refusal or a bundle that tiles its bytes", async (t) => {
  const prng = Prng.labelled(1, "broken bundles");
  const bytes = writeTensorBundle([weight, bias, labels, nothing], { note: "x" });
  let refused = 0;
  const codes = new Set<string>();
  const rounds = 20_000;
  for (let round = 0; round < rounds; round += 1) {
    try {
      const mutant = mutate(bytes, prng);
      const { tensors } = readTensorBundle(mutant);
      const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0);
      const header = 8 + Number(new DataView(mutant.buffer).getBigUint64(0, true));
      if (total !== mutant.byteLength - header)
        t.fail(`round ${round}: ${total} bytes are not all of the data`);
    } catch (error) {
      if (!(error instanceof TensorBundleError)) throw error;
      codes.add(error.code);
      refused += 1;
    }
  }
  t.ok(refused > rounds / 2 && refused < rounds, `${refused} of ${rounds} refused`);
  t.ok(codes.size >= 7, `the mutations reach many checks: ${[...codes].sort().join(", ")}`);
});
