import t from "tap";
import { blobHasher } from "../crypto/digest.ts";
import { writeBundleHeader } from "../encoding/tensor-bundle.ts";
import { HEADER_BYTES_MAX, TENSOR_COUNT_MAX } from "../encoding/tensor-bundle-header.ts";
import { blobBytesMax, jsonBodyBytesMax } from "../protocol/limits.ts";
import { parameterCount, parseParameterManifest } from "./parameter-manifest.ts";
import type { PlainConvUNetConfig } from "./plain-conv-unet.ts";
import { findArchitecture, manifestDigest } from "./recipe-architectures.ts";
import { parseRfmedsam2Config, type Rfmedsam2Config, sam2Of } from "./rfmedsam2.ts";
import { draftRfmedsam2Config } from "./rfmedsam2-draft.ts";
import {
  partWeights,
  rfmedsam2LearningRateShares,
  rfmedsam2Parameters,
  rfmedsam2Trainable,
} from "./rfmedsam2-parameters.ts";
import { sam2Parameters } from "./sam2-parameters.ts";
import type { Sam2VariantName } from "./sam2-variants.ts";
import { initialSam2Weights } from "./sam2-weights.ts";

const prompter: PlainConvUNetConfig = {
  inputChannels: 1,
  featuresPerStage: [4, 8],
  kernelSizes: [
    [3, 3],
    [3, 3],
  ],
  strides: [
    [1, 1],
    [2, 2],
  ],
  convsPerStage: [1, 1],
  convsPerStageDecoder: [1],
  classCount: 3,
  deepSupervision: false,
};

function record(changes: Partial<Rfmedsam2Config> = {}, variant: Sam2VariantName = "micro"): Rfmedsam2Config {
  const drafted = draftRfmedsam2Config({
    ...{ variant, imageSize: null, prompter, trains: "adapters", normalisation: { kind: "zscore" } },
  });
  return parseRfmedsam2Config({ ...drafted, ...changes });
}

function digestOf(weights: ReadonlyMap<string, Float32Array> | undefined): string {
  const hasher = blobHasher();
  for (const values of weights?.values() ?? []) hasher.update(new Uint8Array(values.buffer));
  return hasher.digest();
}

t.test("a plan finds the recipe by name, and its update holds what the phase trains", async (t) => {
  const architecture = findArchitecture({ id: "rfmedsam2", version: 1 });
  t.ok(architecture);
  const all = rfmedsam2Parameters(record()).map(({ name }) => name);
  const digests = new Set<string>();
  const heads = { prompter: ["prompter"], adapters: ["adapters"], joint: ["prompter", "adapters"] } as const;
  for (const trains of ["prompter", "adapters", "joint"] as const) {
    const trainable = architecture?.trainable(record({ trains })) ?? [];
    const names = trainable.map(({ name }) => name);
    t.strictSame([...new Set(names.map((name) => name.split(".")[0]))], heads[trains], trains);
    t.ok(names.length > 0 && names.every((name) => all.includes(name)), "each is one of the model's");
    digests.add(manifestDigest(trainable));
  }
  t.equal(digests.size, 3, "and no phase can be taken for another");
  t.ok(all.includes("sam2.image_encoder.trunk.blocks.0.attn.qkv.weight"), "under the official names");
  t.ok(all.includes("adapters.image_encoder.trunk.blocks.0.attn.adapter.fc2.weight"));
  t.ok(all.includes("prompter.encoder.stages.0.0.convs.0.conv.weight"));
});

t.test(
  "with the mask decoder in training an update holds its tensors before those of the adapters",
  async (t) => {
    const maskDecoder = { learningRateShare: 0.2 };
    t.equal(parameterCount(rfmedsam2Trainable(record({ maskDecoder }, "tiny"))), 1_621_656 + 4_215_109);
    const names = rfmedsam2Trainable(record({ trains: "joint", maskDecoder })).map(({ name }) => name);
    t.strictSame([...new Set(names.map((name) => name.split(".")[0]))], ["prompter", "sam2", "adapters"]);
    const decoder = names.filter((name) => name.startsWith("sam2."));
    t.ok(decoder.every((name) => name.startsWith("sam2.sam_mask_decoder.")));
    t.strictSame(
      [...rfmedsam2LearningRateShares(record({ maskDecoder }))],
      decoder.map((name) => [name, 0.2]),
    );
    const prompter = record({ trains: "prompter", answer: "prompter", maskDecoder });
    t.strictSame(
      rfmedsam2Trainable(prompter),
      rfmedsam2Trainable(record({ trains: "prompter", answer: "prompter" })),
    );
    t.equal(rfmedsam2LearningRateShares(record()).size, 0);
    for (const learningRateShare of [0, -1, 1.01, Number.NaN])
      t.throws(() => record({ maskDecoder: { learningRateShare } }), { code: "rfmedsam2.config-malformed" });
  },
);

t.test("stage 2 is asked with one of two masks, and a plan cannot say anything else", async (t) => {
  const { refinement } = record();
  for (const secondMask of ["both", "", null, 1])
    t.throws(() => record({ refinement: { ...refinement, secondMask } as unknown as typeof refinement }), {
      code: "rfmedsam2.config-malformed",
    });
  for (const secondMask of ["answer", "prompt"] as const)
    t.equal(record({ refinement: { ...refinement, secondMask } }).refinement.secondMask, secondMask);
});

t.test("table 2.4: the paper's adapters for SAM 2.1 tiny are 1,621,656 numbers", async (t) => {
  t.equal(parameterCount(rfmedsam2Trainable(record({}, "tiny"))), 1_621_656);
  t.equal(parameterCount(rfmedsam2Trainable(record({}, "large"))), 9_511_608);
});

t.test("every size keeps within the limits of files, manifests and plans", async (t) => {
  for (const variant of ["micro", "tiny", "small", "base-plus", "large"] as const) {
    const config = record({ trains: "joint" }, variant);
    const specs = parseParameterManifest(rfmedsam2Parameters(config));
    t.ok(specs.length <= TENSOR_COUNT_MAX, `${variant}: ${specs.length} tensors`);
    t.ok(writeBundleHeader(specs).length <= HEADER_BYTES_MAX);
    t.ok(4 * parameterCount(specs) + writeBundleHeader(specs).length <= blobBytesMax);
    t.ok(JSON.stringify(config).length < jsonBodyBytesMax / 2);
  }
});

t.test("weights are drawn from a seed, the same again, and adapters change nothing yet", async (t) => {
  const architecture = findArchitecture({ id: "rfmedsam2", version: 1 });
  const [first, again, other] = [1, 1, 2].map((seed) => architecture?.initialWeights(record(), seed));
  t.equal(digestOf(again), digestOf(first));
  t.not(digestOf(other), digestOf(first));
  t.strictSame(
    [...(first?.keys() ?? [])],
    rfmedsam2Parameters(record()).map(({ name }) => name),
  );
  const adapters = partWeights(first ?? new Map(), "adapters");
  const last = [...adapters].filter(([name]) => /\.(fc2|conv2)\./.test(name));
  t.ok(last.length > 0 && last.every(([, values]) => values.every((value) => value === 0)));
});

t.test("SAM 2 starts as PyTorch and the official code start it", async (t) => {
  const weights = initialSam2Weights(sam2Of(record()), 3);
  const sizes = new Map(sam2Parameters(sam2Of(record())).map(({ name, shape }) => [name, shape]));
  const at = (name: string): Float32Array => weights.get(name) ?? new Float32Array(0);
  const most = (name: string): number => at(name).reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const qkv = "image_encoder.trunk.blocks.0.attn.qkv";
  const bound = 1 / Math.sqrt(sizes.get(`${qkv}.weight`)?.[1] ?? 0);
  for (const part of ["weight", "bias"]) {
    t.ok(most(`${qkv}.${part}`) <= bound && most(`${qkv}.${part}`) > 0.8 * bound, part);
  }
  t.ok(at("image_encoder.trunk.blocks.0.norm1.weight").every((value) => value === 1));
  t.ok(at("image_encoder.trunk.blocks.0.norm1.bias").every((value) => value === 0));
  t.ok(at("image_encoder.trunk.pos_embed").every((value) => value === 0));
  t.ok(most("memory_encoder.fuser.layers.0.gamma") < 2e-6);
  t.ok(most("sam_mask_decoder.iou_token.weight") > 1, "an embedding is standard normal");
  t.ok(most("no_mem_embed") < 0.1 && most("no_mem_embed") > 0);
});

t.test("a record that is no model of the recipe names its faults", async (t) => {
  const drafted = record();
  const refused = (changes: object, code: string, message: RegExp): void => {
    t.throws(() => parseRfmedsam2Config({ ...drafted, ...changes }), { code, message });
  };
  refused({ surprise: 1 }, "rfmedsam2.config-malformed", /not the record/i);
  refused({ trains: "everything" }, "rfmedsam2.config-malformed", /trains/);
  refused({ window: { low: 1, high: 1 } }, "rfmedsam2.config-inconsistent", /window/);
  refused({ clip: { slices: 2, queries: 3, objects: 1 } }, "rfmedsam2.config-inconsistent", /queries/);
  refused({ answer: "prompter" }, "rfmedsam2.config-inconsistent", /answer/);
  refused({ prompter: { ...prompter, inputChannels: 2 } }, "rfmedsam2.config-inconsistent", /odd/);
  refused({ sam2: { variant: "micro", imageSize: 48 } }, "rfmedsam2.config-inconsistent", /multiple of 32/);
  refused(
    {
      prompter: {
        ...prompter,
        kernelSizes: [
          [2, 3],
          [3, 3],
        ],
      },
    },
    "unet.config-inconsistent",
    /odd/,
  );
  const [adapter] = drafted.adapters;
  refused({ adapters: [{ ...adapter, width: { divisor: 64 } }] }, "adapters.plan-inconsistent", /divide/);
  t.equal(sam2Of({ sam2: { variant: "tiny", imageSize: 512 } }).imageSize, 512);
});
