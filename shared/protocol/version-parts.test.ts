import t from "tap";
import { smallRfmedsam2 } from "../../test/support/small-rfmedsam2.ts";
import { smallConfig } from "../../test/support/small-study.ts";
import type { Sha256 } from "../base/brand.ts";
import { findArchitecture } from "../model/recipe-architectures.ts";
import { hasParts, type RecipePart, recipeParts } from "../model/recipe-parts.ts";
import type { PartName } from "./names.ts";
import {
  isNameOf,
  partDigestIn,
  partsAfterRound,
  provenanceFile,
  type VersionPart,
} from "./version-parts.ts";

const digest = (digit: string): Sha256 => digit.repeat(64) as Sha256; // 64 hexadecimal digits.
const tiny = "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69" as Sha256; // Of sam2.1_hiera_tiny.

function architectureOf(id: string) {
  const architecture = findArchitecture({ id, version: 1 });
  if (!architecture) throw new Error("the recipe is known");
  return architecture;
}

t.test("the parts of a recipe are its weights file, cut between them", async (t) => {
  const architecture = architectureOf("rfmedsam2");
  const trained = {
    prompter: ["prompter"],
    adapters: ["adapters"],
    joint: ["prompter", "adapters"],
  } as const;
  for (const [trains, expected] of Object.entries(trained)) {
    const config = smallRfmedsam2({ trains: trains as keyof typeof trained }); // A key of that very object.
    const parts = recipeParts(architecture, config);
    const names = parts.flatMap(({ prefix, parameters }) => parameters.map(({ name }) => `${prefix}${name}`));
    t.strictSame(
      names,
      architecture.parameters(config).map(({ name }) => name),
    );
    t.strictSame(
      parts.filter(({ isTrained }) => isTrained).map(({ part }) => part),
      expected,
    );
  }
  const maskDecoder = { learningRateShare: 0.5 };
  const withDecoder = recipeParts(architecture, smallRfmedsam2({ trains: "adapters", maskDecoder }));
  t.strictSame(
    withDecoder.filter(({ isTrained }) => isTrained).map(({ part }) => part),
    ["sam2", "adapters"],
    "a trained mask decoder makes another SAM 2",
  );
  const whole = architectureOf("unet-prompter");
  t.notOk(hasParts(whole));
  t.match(recipeParts(whole, smallConfig), [{ part: "prompter", prefix: "", isTrained: true }]);
});

t.test("a seed draws a part as it draws it with the others", async (t) => {
  const architecture = architectureOf("rfmedsam2");
  const config = smallRfmedsam2();
  const all = architecture.initialWeights(config, 3);
  for (const part of architecture.partNames) {
    const own = [...architecture.initialPart(config, part, 3)];
    t.ok(own.length > 0);
    t.ok(
      own.every(
        ([name, values]) => Buffer.compare(bytesOf(values), bytesOf(all.get(`${part}.${name}`))) === 0,
      ),
    );
  }
  const whole = architectureOf("unet-prompter");
  t.strictSame(whole.initialPart(smallConfig, "prompter", 3), whole.initialWeights(smallConfig, 3));
});

const bytesOf = (values: Float32Array = new Float32Array(0)): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

t.test("a round moves what is trained and leaves the rest as it is, with its origin", async (t) => {
  const parent: VersionPart[] = [
    { part: "prompter", sha256: digest("1"), origin: { kind: "seeded", seed: 1 } },
    { part: "sam2", sha256: digest("2"), origin: { kind: "unstated" } },
  ];
  const part = (name: PartName, isTrained: boolean): RecipePart => ({
    ...{ part: name, prefix: `${name}.`, parameters: [], isTrained },
  });
  const parts = [part("prompter", true), part("sam2", false)];
  const after = (prompter: string, sam2: string): VersionPart[] =>
    partsAfterRound(
      parent,
      parts,
      new Map([
        ["prompter", digest(prompter)],
        ["sam2", digest(sam2)],
      ]),
    );
  t.strictSame(after("3", "2"), [
    { part: "prompter", sha256: digest("3"), origin: { kind: "trained", base: digest("1") } },
    parent[1],
  ]);
  t.throws(() => after("3", "4"), { code: "version.frozen-part-changed", message: /sam2 is frozen/ });
  t.throws(() => partsAfterRound([], parts, new Map()), { code: "version.frozen-part-changed" });
});

t.test("a part is found in every version that has it", async (t) => {
  const weights = { sha256: digest("9") };
  const whole = { recipe: { id: "unet-prompter", version: 1 }, weights };
  t.equal(partDigestIn(whole, "prompter"), digest("9"), "the one part of a recipe is its weights file");
  t.equal(partDigestIn(whole, "sam2"), null);
  const parts: VersionPart[] = [{ part: "sam2", sha256: digest("2"), origin: { kind: "unstated" } }];
  const several = { recipe: { id: "rfmedsam2", version: 1 }, weights, parts };
  t.equal(partDigestIn(several, "sam2"), digest("2"));
  t.equal(partDigestIn(several, "adapters"), null);
  t.equal(partDigestIn({ ...whole, recipe: { id: "other", version: 1 } }, "prompter"), null);
});

t.test("only a published file has a name", async (t) => {
  t.ok(isNameOf("sam2.1_hiera_tiny", tiny));
  t.ok(isNameOf(null, tiny));
  t.notOk(isNameOf("sam2.1_hiera_large", tiny));
  t.notOk(isNameOf("sam2.1_hiera_tiny", digest("1")));
  t.equal(provenanceFile("start.safetensors"), "start.safetensors.provenance.json");
});
