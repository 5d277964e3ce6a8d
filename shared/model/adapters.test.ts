import t from "tap";
import { AdapterError, type AdapterPlan, parseAdapterPlan, RFMEDSAM2_ADAPTERS } from "./adapters.ts";
import { adapterParameters, initialAdapterWeights } from "./adapters-parameters.ts";
import { adapterPlaces } from "./adapters-places.ts";
import { parameterCount, parseParameterManifest } from "./parameter-manifest.ts";
import { sam2Parameters } from "./sam2-parameters.ts";
import { type Sam2VariantName, sam2Variants } from "./sam2-variants.ts";

/** The same adapters with another width behind the attentions. */
function withWidth(width: { divisor: number } | { channels: number }): AdapterPlan {
  return RFMEDSAM2_ADAPTERS.map((entry) => (entry.kind === "dwconv" ? { ...entry, width } : entry));
}

/** Elements by the part of the model to which they belong. */
function counts(plan: AdapterPlan, variant: Sam2VariantName) {
  const specs = adapterParameters(plan, sam2Variants[variant]);
  const under = (prefix: string) => parameterCount(specs.filter(({ name }) => name.startsWith(prefix)));
  const parts = ["image_encoder.trunk.", "memory_attention.", "sam_mask_decoder.", "image_encoder.neck."];
  return [...parts.map(under), parameterCount(specs)];
}

t.test("the adapters of every released size have the published arithmetic's parameters", async (t) => {
  // Trunk, memory attention, mask decoder, neck, all: 2C + (Cr + r) + (9r + r) + 2r + (rC + C) for each of C channels and
  // width r, and 33,728 for each level of the neck, added up by hand from the tables of SAM 2.1's sizes.
  const quarter = { divisor: 4 };
  const sixteenth = { divisor: 16 };
  const narrow = { channels: 32 };
  const rows: [Sam2VariantName, { divisor: number } | { channels: number }, number[]][] = [
    ["tiny", quarter, [1_176_792, 274_944, 68_736, 101_184, 1_621_656]],
    ["tiny", sixteenth, [304_782, 73_344, 18_336, 101_184, 497_646]],
    ["tiny", narrow, [320_160, 140_544, 35_136, 101_184, 597_024]],
    ["small", quarter, [1_481_304, 274_944, 68_736, 101_184, 1_926_168]],
    ["base-plus", quarter, [2_964_864, 274_944, 68_736, 101_184, 3_409_728]],
    ["base-plus", sixteenth, [765_408, 73_344, 18_336, 101_184, 958_272]],
    ["base-plus", narrow, [730_368, 140_544, 35_136, 101_184, 1_007_232]],
    ["large", quarter, [9_066_744, 274_944, 68_736, 101_184, 9_511_608]],
    ["large", sixteenth, [2_328_246, 73_344, 18_336, 101_184, 2_521_110]],
    ["large", narrow, [1_853_088, 140_544, 35_136, 101_184, 2_129_952]],
  ];
  for (const [variant, width, expected] of rows)
    t.strictSame(counts(withWidth(width), variant), expected, `${variant} ${JSON.stringify(width)}`);
});

t.test("low-rank updates of the trunk's attention have theirs", async (t) => {
  const plan = parseAdapterPlan([
    { kind: "lora", rank: 4, alpha: 4, placements: ["trunk-qkv", "trunk-proj"] },
  ]);
  const expected = { tiny: 110_208, "base-plus": 254_912, large: 652_608 } as const;
  for (const [variant, count] of Object.entries(expected)) {
    const [trunk, , , , all] = counts(plan, variant as keyof typeof expected); // A key of the literal.
    t.strictSame([trunk, all], [count, count], variant);
  }
});

t.test("a plain bottleneck has two layers and nothing else", async (t) => {
  const plan = parseAdapterPlan([
    { kind: "bottleneck", width: { channels: 8 }, placements: ["decoder-image-to-token"] },
  ]);
  t.equal(parameterCount(adapterParameters(plan, sam2Variants.tiny)), 2 * (256 * 8 + 8 + 8 * 256 + 256));
});

t.test("every part that the paper names has its adapters, under names that an update can hold", async (t) => {
  const places = adapterPlaces(RFMEDSAM2_ADAPTERS, sam2Variants.tiny);
  t.equal(places.length, 12 + 8 + 2 + 3);
  const levels = places.filter(({ kind }) => kind === "cnn").map(({ name }) => name.split(".").at(-1));
  t.strictSame(levels, ["1", "2", "3"], "the neck's dropped level, its lowest, has none");
  const specs = parseParameterManifest(adapterParameters(RFMEDSAM2_ADAPTERS, sam2Variants.tiny));
  const official = new Set(sam2Parameters(sam2Variants.tiny).map(({ name }) => name));
  t.notOk(specs.some(({ name }) => official.has(name)));
});

t.test("weights start with a last layer of zeros, seeded, each tensor on its own", async (t) => {
  const { micro } = sam2Variants;
  const plan: AdapterPlan = [
    ...RFMEDSAM2_ADAPTERS,
    { kind: "lora", rank: 2, alpha: 2, placements: ["trunk-qkv"] },
  ];
  const weights = initialAdapterWeights(plan, micro, 7);
  t.strictSame(
    [...weights.keys()],
    adapterParameters(plan, micro).map(({ name }) => name),
  );
  const isZero = (values: Float32Array) => values.every((value) => value === 0);
  for (const [name, values] of weights) {
    const last = /\.(fc2|conv2)\.(weight|bias)$|lora_B\.weight$|norm\d\.bias$/.test(name);
    t.equal(isZero(values), last, name);
    if (/norm\d\.weight$/.test(name)) t.ok(values.every((value) => value === 1));
  }
  t.strictSame(initialAdapterWeights(plan, micro, 7), weights);
  const alone = initialAdapterWeights(RFMEDSAM2_ADAPTERS.slice(1), micro, 7);
  for (const [name, values] of alone) t.strictSame(values, weights.get(name), name);
  const first = "image_encoder.trunk.blocks.0.attn.adapter.fc1.weight";
  t.notSame(initialAdapterWeights(plan, micro, 8).get(first), weights.get(first));
  const bound = 1 / Math.sqrt(16);
  const drawn = [...(weights.get(first) ?? [])];
  t.ok(Math.max(...drawn) <= bound && Math.min(...drawn) >= -bound && Math.max(...drawn) > bound / 2);
});

t.test("a plan that is none is refused with its faults", async (t) => {
  const refused = (action: () => unknown, code: string, text: RegExp) => {
    try {
      action();
      t.fail("must be refused");
    } catch (error) {
      t.ok(error instanceof AdapterError && error.code === code, String(error));
      t.match(String(error), text);
    }
  };
  const malformed = "adapters.plan-malformed";
  const entry = { kind: "cnn", width: { divisor: 4 }, placements: ["neck-lateral"] };
  t.strictSame(parseAdapterPlan([entry]), [entry]);
  refused(() => parseAdapterPlan([]), malformed, /not a plan/i);
  refused(() => parseAdapterPlan([{ ...entry, kind: "other" }]), malformed, /kind/);
  refused(() => parseAdapterPlan([{ ...entry, width: { divisor: 0 } }]), malformed, /width/);
  refused(() => parseAdapterPlan([{ ...entry, width: { divisor: 4, channels: 8 } }]), malformed, /width/);
  refused(() => parseAdapterPlan([{ ...entry, placements: ["trunk-qkv"] }]), malformed, /placements/);
  refused(() => parseAdapterPlan([{ ...entry, more: 1 }]), malformed, /additional/i);
  refused(
    () => parseAdapterPlan([entry, entry]),
    "adapters.plan-inconsistent",
    /one adapter only: neck-lateral/,
  );
  const odd: AdapterPlan = [{ kind: "cnn", width: { divisor: 7 }, placements: ["neck-lateral"] }];
  refused(() => adapterPlaces(odd, sam2Variants.micro), "adapters.plan-inconsistent", /convs\.1, .*convs\.3/);
});
