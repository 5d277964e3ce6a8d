import t from "tap";
import { parameterCount } from "./parameter-manifest.ts";
import { parseSam2Config, Sam2Error } from "./sam2.ts";
import { sam2Parameters } from "./sam2-parameters.ts";
import { hieraBlocks } from "./sam2-trunk.ts";
import { sam2Variants, withImageSize } from "./sam2-variants.ts";

t.test("the released sizes have the tensors and elements of the official state dicts", async (t) => {
  // Tensor and element counts of the published SAM 2.1 checkpoints.
  const published = {
    tiny: [471, 38_962_754],
    small: [519, 46_060_610],
    "base-plus": [615, 80_850_434],
    large: [903, 224_446_898],
  } as const;
  for (const [name, [tensors, elements]] of Object.entries(published)) {
    const specs = sam2Parameters(parseSam2Config(sam2Variants[name as keyof typeof published])); // A key of the literal.
    t.equal(specs.length, tensors, name);
    t.equal(parameterCount(specs), elements, name);
    t.equal(new Set(specs.map((spec) => spec.name)).size, tensors, "every name once");
  }
});

t.test("another input size changes no tensor", async (t) => {
  const small = parseSam2Config(withImageSize(sam2Variants.tiny, 256));
  t.strictSame(sam2Parameters(small), sam2Parameters(sam2Variants.tiny));
});

t.test("a stage's first block still has the window of the stage before", async (t) => {
  const blocks = hieraBlocks(sam2Variants.tiny.trunk);
  t.equal(blocks.length, 12);
  t.strictSame(
    blocks.map(({ window }) => window),
    [8, 8, 4, 4, 14, 0, 14, 0, 14, 0, 14, 7],
  );
  t.strictSame(
    blocks.map(({ pools }) => pools && 1).flatMap((pools, index) => (pools ? [index] : [])),
    [1, 3, 10],
  );
  t.strictSame(
    blocks.map(({ headCount }) => headCount),
    [1, 2, 2, 4, 4, 4, 4, 4, 4, 4, 8, 8],
  );
});

t.test("a record that is not a model names its faults", async (t) => {
  const { micro } = sam2Variants;
  const refused = (value: unknown, code: string, text: RegExp) => {
    try {
      parseSam2Config(value);
      t.fail("must be refused");
    } catch (error) {
      t.ok(error instanceof Sam2Error && error.code === code);
      t.match(String(error), text);
    }
  };
  refused({ ...micro, imageSize: "128" }, "sam2.config-malformed", /imageSize/);
  refused({ ...micro, surprise: 1 }, "sam2.config-malformed", /not the record/i);
  refused({ ...micro, imageSize: 100 }, "sam2.config-inconsistent", /imageSize/);
  const twice = { ...micro, imageSize: 100, neck: { ...micro.neck, scalp: 0 } };
  refused(twice, "sam2.config-inconsistent", /imageSize.*scalp/);
});
