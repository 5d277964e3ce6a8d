import { fileURLToPath } from "node:url";
import t from "tap";
import { loadBackendPackage, tf } from "../../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../../site-agent/backend/wasm-kernels/install.ts";
import { type CaseFolder, readCaseFolder } from "../parity/case-folder.ts";
import { exitCode, reportCase } from "../parity/report.ts";
import { runSam2Case } from "../parity/sam2-case.ts";
import { missingGolden } from "./golden.ts";

// SAM 2.1 scaled down, run by its official code; the folder's README says how.
const NAME = "sam2-micro-a";
const skip = missingGolden(NAME);
const FOLDER = fileURLToPath(new URL(`../../../shared/goldens/${NAME}`, import.meta.url));

async function startWasm(): Promise<void> {
  await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  installTrainingKernels();
}

/** Only the groups under these names, so that a test of a fault stays small. */
function only(folder: CaseFolder, ...groups: string[]): CaseFolder {
  const within = (name: string) => groups.some((group) => name.startsWith(group));
  const tolerances = Object.fromEntries(Object.entries(folder.tolerances).filter(([name]) => within(name)));
  return { ...folder, tolerances, expected: new Map([...folder.expected].filter(([name]) => within(name))) };
}

function withWeight(folder: CaseFolder, name: string, change: (values: Float32Array) => void): CaseFolder {
  const values = Float32Array.from(folder.weights.get(name) ?? []);
  change(values);
  return { ...folder, weights: new Map([...folder.weights, [name, values]]) };
}

t.test("every activation, loss and gradient is the official code's on wasm", { skip }, async (t) => {
  await startWasm();
  const folder = readCaseFolder(FOLDER);
  const before = tf.memory().numTensors;
  const comparison = runSam2Case(folder);
  t.equal(tf.memory().numTensors, before, "no tensor is left over");
  for (const { name, accepted, share } of comparison.compared) if (!accepted) t.fail(`${name}: ${share}`);
  t.strictSame(comparison.notUnderstood(), []);
  t.equal(comparison.compared.length, 1535);
  const left = [...comparison.unsupported.keys()].map((name) => name.split("/")[0]);
  t.strictSame(new Set(left), new Set(["image_predictor", "video_predictor"]));
  const count = Object.keys(folder.tolerances).length;
  t.equal(comparison.compared.length + left.length, count, "every tolerance is accounted for");
  t.equal(exitCode([reportCase(FOLDER, comparison, count)]), 3, "predictors are not supported");
});

t.test("a wrong weight is noticed where it first has an effect", { skip }, async (t) => {
  await startWasm();
  const whole = only(readCaseFolder(FOLDER), "encoder/", "prompt/", "decoder/point1/");
  const stages = (folder: CaseFolder) => {
    const report = reportCase(FOLDER, runSam2Case(folder), Object.keys(folder.tolerances).length);
    return { first: report.firstFailure, code: exitCode([report]) };
  };
  t.strictSame(stages(whole), { first: null, code: 0 });
  const name = "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight";
  const shifted = withWeight(whole, name, (values) =>
    values.forEach((value, index) => {
      values[index] = value + 0.01;
    }),
  );
  t.strictSame(stages(shifted), { first: "decoder", code: 1 });
  const trunk = withWeight(whole, "image_encoder.trunk.blocks.4.norm1.bias", (values) => values.fill(0));
  t.strictSame(stages(trunk), { first: "encoder", code: 1 });
});

t.test("what a case says that is not known fails by its name", { skip }, async (t) => {
  await startWasm();
  const small = only(readCaseFolder(FOLDER), "prompt/", "track/occluded/frame0/");
  const trunk = { ...(small.config["image_encoder"] as object), surprise: 1 }; // An object in every case.
  t.throws(
    () => runSam2Case({ ...small, config: { ...small.config, image_encoder: trunk } }),
    /image_encoder.*surprise/,
  );
  t.throws(() => runSam2Case({ ...small, config: { ...small.config, num_maskmem: 5 } }), /maskmem_tpos_enc/);
  const said = { ...small.notes, "track/occluded": "as track/point with a different moon" };
  const tracked = runSam2Case({ ...small, notes: said });
  t.match(tracked.notUnderstood().join(), /adifferentmoon.*track\/occluded\/frame0/);
  const extra = { ...small.tolerances, "decoder/point1/new_thing": { tol: 1 } };
  t.match(runSam2Case({ ...small, tolerances: extra }).notUnderstood(), ["decoder/point1/new_thing"]);
  const absent = { ...small.tolerances, "prompt/box/dense": { tol: 1 } };
  const unsupported = runSam2Case({ ...small, tolerances: absent }).unsupported;
  t.equal(unsupported.get("prompt/box/dense"), "the case does not hold it");
});
