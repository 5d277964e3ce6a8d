import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import t from "tap";
import { exitCodes } from "../../site-agent/exit-codes.ts";
import { openModelFile } from "../../site-agent/model-file.ts";
import { PHANTOM_CT_SITES } from "../fixtures/phantom/phantom-sites.ts";
import { writePhantomDataset } from "../fixtures/phantom/write-phantom.ts";
import { siteCommand } from "../support/site-command.ts";
import { tinyStudy } from "../support/tiny-study.ts";

t.test(
  "a site trains alone, repeatably, and its model scores and predicts without a coordinator",
  async (t) => {
    const folder = t.testdir({});
    const data = join(folder, "data");
    const phantom = PHANTOM_CT_SITES[0];
    if (!phantom) throw new Error("there is a phantom site");
    await writePhantomDataset({ folder: data, site: phantom, cases: 5, seed: 1 });
    const { plan, weights } = tinyStudy({ key: generateSigningKey(), origin: "consilium.test/alone" });
    await writeFile(join(folder, "plan.json"), JSON.stringify(plan));
    await writeFile(join(folder, "start.safetensors"), weights);
    const train = async (
      start: string,
      seed: number,
    ): Promise<{ report: unknown; model: Awaited<ReturnType<typeof openModelFile>> }> => {
      const out = join(folder, "model.safetensors");
      const words = [
        "--plan",
        join(folder, "plan.json"),
        "--start",
        start,
        "--data",
        data,
        "--out",
        out,
        "--json",
      ];
      const { code, result, output } = await siteCommand([
        ...["train", "--steps", "5", "--seed", String(seed), "--backend", "cpu"],
        ...words,
      ]);
      t.equal(code, 0, code === 0 ? "trained" : output);
      return { report: JSON.parse(result), model: await openModelFile(out, null) };
    };
    const first = await train("seed:1", 3);
    t.match(first.report, { steps: 5, training: 4, validation: 1, backend: "cpu" });
    const second = await train(join(folder, "start.safetensors"), 3);
    t.equal(second.model.version, first.model.version, "same start, slices and seed: the same bytes");
    const third = await train("seed:1", 4);
    t.not(third.model.version, first.model.version, "another seed, another model");

    const model = join(folder, "model.safetensors");
    const evaluated = await siteCommand([
      ...["evaluate", "--model", model, "--data", data, "--split", "last-fifth", "--json"],
      ...["--baseline", "atlas", "--backend", "cpu"],
    ]);
    t.equal(evaluated.code, 0, evaluated.output.slice(0, 300));
    const scores = JSON.parse(evaluated.result);
    t.equal(scores.cases.length, 1);
    t.equal(scores.cases[0].case, "case-005");
    t.strictSame(
      scores.labels.map(({ label }: { label: string }) => label),
      plan.labels.map(({ name }) => name),
    );
    t.ok(
      scores.baseline.mean.dice > 0.3,
      `atlas of ${scores.baseline.trainingCases} cases: ${scores.baseline.mean.dice}`,
    );

    const image = join(data, "imagesTr", "phantom_001_0000.nii.gz");
    const predict = (out: string, ...more: string[]) =>
      siteCommand(["predict", "--model", model, "--image", image, "--out", out, "--backend", "cpu", ...more]);
    t.equal((await predict(join(folder, "out.nii.gz"))).code, 0);
    t.equal((await predict(join(folder, "out.nii"), "--mirror")).code, 0);
    const input = gunzipSync(await readFile(image));
    for (const output of [
      gunzipSync(await readFile(join(folder, "out.nii.gz"))),
      await readFile(join(folder, "out.nii")),
    ]) {
      t.strictSame(output.subarray(40, 56), input.subarray(40, 56), "the image's own dimensions");
      t.strictSame(output.subarray(280, 328), input.subarray(280, 328), "the image's own sform");
      t.equal(output.readInt16LE(70), 2, "uint8");
    }
    const keys = join(folder, "keys.txt");
    await writeFile(keys, `${generateSigningKey().publicKey}\n`);
    t.equal((await predict(join(folder, "out.nii"), "--keys", keys)).code, exitCodes.damaged.code);
    t.equal((await predict(join(folder, "out.png"))).code, exitCodes.usage.code);
  },
);
