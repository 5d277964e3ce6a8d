import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { smallRfmedsam2, smallRfmedsam2Weights, squares } from "../../../test/support/small-rfmedsam2.ts";
import type { CompileWarning } from "../../backend/graph/compile-step.ts";
import { startBackend } from "../../backend/start-backend.ts";
import { loadBackendPackage, tf } from "../../backend/tensors.ts";
import { installTrainingKernels } from "../../backend/wasm-kernels/install.ts";
import { maskLosses } from "../../models/sam2/mask-losses.ts";
import { ADAPTER_LOSS } from "../../training/promptable-losses.ts";
import { trainBatches } from "../../training/train-locally.ts";
import { rfmedsam2 } from "../rfmedsam2.ts";
import { ClipPort } from "./clip-port.ts";
import { Rfmedsam2 } from "./model.ts";
import { type Batching, batchesOf, questionTensors, type SliceQuestion } from "./question-batch.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const AS_THEY_ARE: Batching = { countMax: 8, framesStep: null };
const FILLED_UP: Batching = { countMax: 6, framesStep: 4 };
const SLICES = 4;

/** Adapters that say something, a question with a mask, one without, and one with fewer memories. */
async function asking() {
  const config = smallRfmedsam2();
  const weights = smallRfmedsam2Weights(config);
  for (const [name, values] of weights) {
    if (!/^adapters\..*\.(fc2|conv2)\./.test(name)) continue;
    const prng = Prng.labelled(3, name);
    weights.set(
      name,
      values.map(() => prng.uniform(-0.5, 0.5)),
    );
  }
  const model = new Rfmedsam2(config, weights);
  const port = new ClipPort(model, squares(SLICES));
  const prompt = (x1: number, maskLogits: Float32Array | null) => ({
    ...{ box: { x1, y1: 3, x2: x1 + 9, y2: 14 }, points: [], maskLogits },
  });
  const mask = Float32Array.from({ length: 64 }, (_, cell) => (cell % 3) - 1);
  const firsts = Array.from({ length: SLICES }, (_, slice) => ({
    ...{ slice, prompt: prompt(2 * slice, null), memories: [] },
  }));
  const answers = await port.decode(firsts);
  const use = (slice: number, slot: number, distance: number) => ({
    ...{ slice, slot, distance, isConditioning: slot === 0 },
    memory: expectDefined(answers[slice], "an answer").memory,
  });
  const questions = port.questions([
    { slice: 1, prompt: prompt(4, mask), memories: [use(0, 0, 1), use(2, 6, -1), use(3, 5, -2)] },
    { slice: 2, prompt: prompt(1, null), memories: [use(3, 0, -1), use(0, 5, 2)] },
    { slice: 3, prompt: prompt(5, mask), memories: [use(1, 0, 2)] },
  ]);
  const end = (): void => {
    for (const { memory } of answers) port.release(memory);
    port.dispose();
    model.dispose();
  };
  return { model, questions, end };
}

function tensorsOf(model: Rfmedsam2, questions: readonly SliceQuestion[], batching: Batching) {
  const { sam2Config: config, sizes } = model;
  return questionTensors(questions, { config, maskGrid: sizes.maskGrid, sliceCount: SLICES, batching });
}

t.test("questions are filled up to one shape, whatever masks and memories they have", async (t) => {
  const { model, questions, end } = await asking();
  const batches = (batching: Batching) => batchesOf(questions, batching).map(({ length }) => length);
  t.strictSame(batches(AS_THEY_ARE), [1, 1, 1], "each is of a form of its own");
  t.strictSame(batches(FILLED_UP), [3]);
  const shapes = (asked: readonly SliceQuestion[]) =>
    Object.entries(tensorsOf(model, asked, FILLED_UP)).map(([name, { shape }]) => `${name} [${shape}]`);
  t.strictSame(shapes(questions), shapes(questions.slice(1, 2)));
  t.ok(shapes(questions).includes("places [6,3,2]"));
  t.ok(shapes(questions).some((shape) => shape.startsWith("hidden [6,1,")));
  end();
});

t.test("what was filled up changes no answer", async (t) => {
  const { model, questions, end } = await asking();
  const together = model.predict(tensorsOf(model, questions, FILLED_UP));
  for (const [index, question] of questions.entries()) {
    const alone = model.predict(tensorsOf(model, [question], AS_THEY_ARE));
    for (const name of ["candidates", "ious", "objectScores"] as const) {
      const [expected, found] = [alone[name], tf.slice(together[name] as tf.Tensor, index, 1)];
      const error = tf.max(tf.abs(tf.sub(expected, found))).dataSync()[0] ?? Number.NaN;
      t.ok(error < 1e-4, `${name} of question ${index} differs by ${error}`);
    }
  }
  const others = model.predict(tensorsOf(model, questions.slice(0, 1), FILLED_UP));
  const difference = tf.max(tf.abs(tf.sub(others.candidates, together.candidates))).dataSync()[0] ?? 0;
  t.ok(difference > 1e-3, "and questions are told apart");
  end();
});

t.test("nor a gradient, where it counts nothing", async (t) => {
  const { model, questions, end } = await asking();
  const { height, width } = model.sizes.maskGrid;
  const gradients = (asked: readonly SliceQuestion[], batching: Batching): Float32Array[] => {
    const tensors = tensorsOf(model, asked, batching);
    const count = batching.framesStep === null ? asked.length : batching.countMax;
    const targets = tf.fill([count, height, width], 0.5) as tf.Tensor3D; // Three axes.
    const counts = tf.tensor2d(Array.from({ length: count }, (_, index) => [index < asked.length ? 1 : 0]));
    const loss = (): tf.Scalar => {
      return tf.mul(maskLosses(model.predict(tensors), targets, ADAPTER_LOSS, counts).total, count);
    };
    const { grads } = tf.engine().gradients(loss, model.refinerTensors(), undefined, true);
    return grads.flatMap((gradient: tf.Tensor | undefined) =>
      gradient ? [gradient.dataSync() as Float32Array] : [],
    );
  };
  const together = gradients(questions, FILLED_UP);
  const alone = questions.map((question) => gradients([question], AS_THEY_ARE));
  t.ok(together.length > 20);
  const largest = Math.max(...together.flatMap((gradient) => [...gradient].map(Math.abs)));
  const differences = together.map((gradient, tensor) =>
    Math.max(
      ...gradient.map((value, place) =>
        Math.abs(value - alone.reduce((sum, one) => sum + (one[tensor]?.[place] ?? Number.NaN), 0)),
      ),
    ),
  );
  t.ok(Math.max(...differences) < 1e-4 * largest, `${Math.max(...differences)} of ${largest}`);
  end();
});

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";

async function trained(trains: "adapters" | "joint", steps: number) {
  const config = smallRfmedsam2({ trains });
  const model = rfmedsam2.open(config, smallRfmedsam2Weights(config));
  const warnings: CompileWarning[] = [];
  const onWarning = (warning: CompileWarning): void => void warnings.push(warning);
  const objective = model.objective({
    ...{ cases: [squares(5), squares(4, 2)], labels: [0, 10, 20], batchSize: 1, seed: 4 },
    view: (slices) => [...slices],
    onWarning,
  });
  const plan = {
    ...{ batchSize: 1, learningRate: 1e-3, weightDecay: 0, gradientNormL2Max: 1, warmupSteps: 0 },
    ...{ schedule: "polynomial" as const, stepsPerRound: steps },
  };
  const { losses } = await trainBatches({ parameters: model.parameters, plan, onWarning }, objective);
  model.dispose();
  return { losses, warnings };
}

t.test("training compiles, and goes where it goes on another backend", { skip }, async (t) => {
  for (const trains of ["adapters", "joint"] as const) {
    await tf.setBackend("tensorflow");
    const before = tf.memory().numTensors;
    const found = await trained(trains, 12);
    t.strictSame(found.warnings, [], "every form was recorded and gave what eager execution gave");
    t.equal(tf.memory().numTensors, before, "no tensor is left");
    await tf.setBackend("wasm");
    const { losses } = await trained(trains, 12);
    losses.forEach((loss, step) => {
      const other = found.losses[step] ?? Number.NaN;
      t.ok(Math.abs(loss - other) < 1e-3 * Math.abs(loss), `${trains}, step ${step}: ${loss} and ${other}`);
    });
  }
});
