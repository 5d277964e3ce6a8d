import t from "tap";
import { float32Tensor, type TensorBundle } from "../encoding/tensor-bundle.ts";
import {
  elementCount,
  expectManifest,
  matchManifest,
  type ParameterSpec,
  parameterCount,
  parseParameterManifest,
} from "./parameter-manifest.ts";
import {
  imageSizeMultiple,
  type PlainConvUNetConfig,
  parsePlainConvUNetConfig,
  plainConvUNetParameters,
  plainConvUNetTrainable,
  supervisedLevelCount,
} from "./plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "./plain-conv-unet-weights.ts";

const small: PlainConvUNetConfig = {
  inputChannels: 1,
  featuresPerStage: [4, 8, 8],
  kernelSizes: [
    [3, 3],
    [3, 3],
    [1, 3],
  ],
  strides: [
    [1, 1],
    [2, 2],
    [1, 2],
  ],
  convsPerStage: [2, 1, 2],
  convsPerStageDecoder: [1, 2],
  classCount: 3,
  deepSupervision: true,
};

/** nnU-Net's default two-dimensional network for a 512 x 512 patch: eight stages, two convolutions each. */
const nnUNet512: PlainConvUNetConfig = {
  inputChannels: 1,
  featuresPerStage: [32, 64, 128, 256, 512, 512, 512, 512],
  kernelSizes: Array.from({ length: 8 }, () => [3, 3]),
  strides: Array.from({ length: 8 }, (_, stage) => (stage === 0 ? [1, 1] : [2, 2])),
  convsPerStage: Array(8).fill(2),
  convsPerStageDecoder: Array(7).fill(2),
  classCount: 2,
  deepSupervision: true,
};

function bundled(specs: readonly ParameterSpec[]): TensorBundle["tensors"] {
  return new Map(
    specs.map((spec) => [
      spec.name,
      float32Tensor(spec.name, spec.shape, new Float32Array(elementCount(spec))),
    ]),
  );
}

function bytesOf(weights: ReadonlyMap<string, Float32Array>): Buffer {
  return Buffer.concat([...weights.values()].map((values) => Buffer.from(values.buffer)));
}

t.test("the tensors carry the names and shapes of nnU-Net's state dict", async (t) => {
  const shapes = new Map(plainConvUNetParameters(small).map(({ name, shape }) => [name, shape]));
  t.strictSame(shapes.get("encoder.stages.0.0.convs.0.conv.weight"), [4, 1, 3, 3]);
  t.strictSame(shapes.get("encoder.stages.2.0.convs.1.conv.weight"), [8, 8, 1, 3]);
  t.strictSame(shapes.get("encoder.stages.1.0.convs.0.norm.bias"), [8]);
  t.strictSame(shapes.get("decoder.stages.0.convs.0.conv.weight"), [8, 16, 3, 3]);
  t.strictSame(shapes.get("decoder.transpconvs.0.weight"), [8, 8, 1, 2]);
  t.strictSame(shapes.get("decoder.transpconvs.1.weight"), [8, 4, 2, 2], "input channels first");
  t.strictSame(shapes.get("decoder.seg_layers.1.weight"), [3, 4, 1, 1]);
  t.equal(shapes.has("encoder.stages.1.0.convs.1.conv.weight"), false, "stage 1 has one block");
  t.equal(shapes.size, 4 * (2 + 1 + 2) + 4 * 3 + 2 * 2 + 2 * 2);
  t.strictSame(imageSizeMultiple(small), [2, 4]);
});

t.test("the parameters of a large network are counted, not stored", async (t) => {
  // By hand: 3x3 blocks have 9*in*out + 3*out, transposed ones 4*in*out + out, heads 2*in + 2 parameters.
  const features = nnUNet512.featuresPerStage;
  const blocks: [number, number][] = features.flatMap((out, stage) => [
    [stage === 0 ? 1 : (features[stage - 1] ?? 0), out],
    [out, out],
  ]);
  for (const out of features.slice(0, -1)) blocks.push([2 * out, out], [out, out]);
  const ups = features
    .slice(1)
    .map((below, stage) => 4 * below * (features[stage] ?? 0) + (features[stage] ?? 0));
  const heads = features.slice(0, -1).map((out) => 2 * out + 2);
  const expected =
    blocks.reduce((sum, [input, out]) => sum + 9 * input * out + 3 * out, 0) +
    [...ups, ...heads].reduce((sum, count) => sum + count, 0);
  t.equal(parameterCount(plainConvUNetParameters(nnUNet512)), expected);
  t.strictSame(imageSizeMultiple(nnUNet512), [128, 128]);
});

t.test("a delta holds only what training can change", async (t) => {
  const all = plainConvUNetParameters(small).map(({ name }) => name);
  const trained = plainConvUNetTrainable(small).map(({ name }) => name);
  const left = all.filter((name) => !trained.includes(name));
  t.equal(left.filter((name) => name.endsWith(".conv.bias")).length, 8, "one under each of the eight norms");
  t.strictSame(
    left.filter((name) => !name.endsWith(".conv.bias")),
    ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"],
  );
  t.strictSame(
    trained,
    all.filter((name) => trained.includes(name)),
    "in the same order",
  );
  t.equal(supervisedLevelCount(nnUNet512), 6);
  t.equal(supervisedLevelCount({ ...nnUNet512, deepSupervision: false }), 1);
});

t.test("a record that contradicts itself is refused with all its faults", async (t) => {
  t.strictSame(parsePlainConvUNetConfig(structuredClone(small)), small);
  const faulty = { ...small, strides: [[1, 1]], kernelSizes: small.kernelSizes.map(() => [2, 3]) };
  t.throws(() => parsePlainConvUNetConfig(faulty), { code: "unet.config-malformed" });
  const even = { ...small, convsPerStage: [1, 1], kernelSizes: small.kernelSizes.map(() => [2, 3]) };
  t.throws(() => parsePlainConvUNetConfig(even), {
    code: "unet.config-inconsistent",
    message: "convsPerStage needs 3 entries; kernelSizes must be odd.",
  });
  t.throws(() => parsePlainConvUNetConfig({ ...small, featuresPerStage: [4, 8, 1e9] }), {
    code: "unet.config-malformed",
  });
  t.throws(() => parsePlainConvUNetConfig({ ...small, extra: 1 }), { code: "unet.config-malformed" });
});

t.test("start weights are drawn by name from the seed, with nnU-Net's variance", async (t) => {
  const config = { ...small, featuresPerStage: [32, 64, 64] };
  const weights = initialPlainConvUNetWeights(config, 7);
  t.strictSame(
    [...weights.keys()],
    plainConvUNetParameters(config).map(({ name }) => name),
  );
  t.ok(bytesOf(initialPlainConvUNetWeights(config, 7)).equals(bytesOf(weights)));
  t.notOk(bytesOf(initialPlainConvUNetWeights(config, 8)).equals(bytesOf(weights)));
  const deviation = (name: string) => {
    const values = weights.get(name) ?? new Float32Array();
    return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  };
  const kaiming = (fan: number) => Math.sqrt(2 / 1.0001 / fan);
  t.ok(Math.abs(deviation("decoder.stages.0.convs.0.conv.weight") / kaiming(128 * 9) - 1) < 0.02);
  t.ok(
    Math.abs(deviation("decoder.transpconvs.1.weight") / kaiming(32 * 4) - 1) < 0.05,
    "fan of the outputs",
  );
  t.strictSame(new Set(weights.get("encoder.stages.0.0.convs.0.norm.weight")), new Set([1]));
  t.strictSame(new Set(weights.get("decoder.seg_layers.1.bias")), new Set([0]));
  const deeper = { ...config, convsPerStage: [2, 2, 2] };
  const name = "encoder.stages.2.0.convs.0.conv.weight";
  t.strictSame(
    initialPlainConvUNetWeights(deeper, 7).get(name),
    weights.get(name),
    "other tensors do not shift",
  );
});

t.test("a manifest names everything by which a bundle differs from it", async (t) => {
  const manifest = plainConvUNetTrainable(small);
  const tensors = new Map(bundled(manifest));
  t.strictSame(matchManifest(manifest, tensors), { missing: [], unexpected: [], misshaped: [] });
  t.doesNotThrow(() => expectManifest(manifest, tensors));
  const [first, second, third] = manifest.map(({ name }) => name);
  tensors.delete(`${first}`);
  tensors.set(`${second}`, float32Tensor(`${second}`, [5], new Float32Array(5)));
  tensors.set(`${third}`, { name: `${third}`, dtype: "F16", shape: [4], bytes: new Uint8Array(8) });
  tensors.set("stranger", float32Tensor("stranger", [1], new Float32Array(1)));
  t.strictSame(matchManifest(manifest, tensors), {
    missing: [first],
    unexpected: ["stranger"],
    misshaped: [second, third],
  });
  t.throws(() => expectManifest(manifest, tensors), {
    code: "manifest.mismatch",
    message: /^(?!.*stranger).*1 missing \(encoder.*1 unexpected/,
  });
});

t.test("a manifest from outside is checked before it is believed", async (t) => {
  const manifest = plainConvUNetParameters(small);
  t.strictSame(parseParameterManifest(JSON.parse(JSON.stringify(manifest))), manifest);
  t.throws(() => parseParameterManifest([]), { code: "manifest.malformed" });
  t.throws(() => parseParameterManifest([{ name: "a b", shape: [1], dtype: "F32" }]), {
    code: "manifest.malformed",
  });
  t.throws(() => parseParameterManifest([{ name: "a", shape: [1], dtype: "F16" }]), {
    code: "manifest.malformed",
  });
  t.throws(() => parseParameterManifest([...manifest, manifest[0]]), { code: "manifest.name-repeated" });
  const huge = [{ name: "a", shape: [65_536, 65_537], dtype: "F32" }];
  t.throws(() => parseParameterManifest(huge), { code: "manifest.too-large" });
});
