import t from "tap";
import { gradientDeviations } from "../../test/support/finite-differences.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import type { MaskPrediction } from "../models/sam2/mask-losses.ts";
import {
  ADAPTER_LOSS,
  PRETRAINING_LOSS,
  type PromptableLossSettings,
  promptableLoss,
} from "./promptable-losses.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const SIDE = 4;
const CENTRES = [
  [1, 1],
  [2, 1],
  [1, 2],
] as const;

/** Three objects, the last of which is not in the slice. */
function target(contoured = [true, true, true]) {
  const masks = CENTRES.flatMap(([row, column], object) =>
    Array.from({ length: SIDE * SIDE }, (_, pixel) => {
      const distance = Math.hypot(Math.floor(pixel / SIDE) - row, (pixel % SIDE) - column);
      return Number(object < 2 && distance < 1.5);
    }),
  );
  return { masks: tf.tensor3d(masks, [3, SIDE, SIDE]), contoured };
}

/** Logits away from zero, where the true overlap jumps; estimates above any overlap that chance gives. */
function prediction(seed: number, masks = 2): MaskPrediction {
  const raw = tf.randomUniform<tf.Rank.R4>([3, masks, SIDE, SIDE], -1.5, 1.5, "float32", seed);
  const candidates = tf.add(raw, tf.mul(tf.sign(raw), 0.2)) as tf.Tensor4D; // The shape of raw.
  return {
    candidates,
    ious: tf.randomUniform<tf.Rank.R2>([3, masks], 0.8, 0.95, "float32", seed + 1),
    objectScores: tf.randomUniform<tf.Rank.R2>([3, 1], -1, 1, "float32", seed + 2),
  };
}

function tensorsOf(stages: readonly MaskPrediction[]): tf.Tensor[] {
  return stages.flatMap(({ candidates, ious, objectScores }) => [candidates, ious, objectScores]);
}

/** The same stages with other tensors, in the order of `tensorsOf`. */
function stagesOf(tensors: readonly tf.Tensor[]): MaskPrediction[] {
  return Array.from({ length: tensors.length / 3 }, (_, stage) => {
    const [candidates, ious, objectScores] = tensors.slice(3 * stage, 3 * stage + 3);
    return { candidates, ious, objectScores } as MaskPrediction; // In this order.
  });
}

function gradients(
  stages: readonly MaskPrediction[],
  of: ReturnType<typeof target>,
  settings: PromptableLossSettings,
) {
  const loss = (...given: tf.Tensor[]) => promptableLoss(stagesOf(given), of, settings).total;
  return tf
    .grads(loss)(tensorsOf(stages))
    .map((gradient) => [...gradient.dataSync()]);
}

t.test("the gradients of both losses are those of finite differences, in every stage", async (t) => {
  const cases = [
    [ADAPTER_LOSS, [prediction(1), prediction(5, 1)]],
    [PRETRAINING_LOSS, [prediction(9, 3)]],
  ] as const;
  for (const [settings, stages] of cases) {
    const of = target([true, false, true]);
    const loss = (...given: tf.Tensor[]) => promptableLoss(stagesOf(given), of, settings).total;
    const deviations = gradientDeviations(loss, tensorsOf(stages), { triedMax: 48 });
    for (const deviation of deviations) t.ok(deviation < 0.01, String(deviation));
    t.equal(deviations.length, 3 * stages.length);
  }
});

t.test("the loss for adapters is Dice, cross-entropy and a tenth of both heads' errors", async (t) => {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const logits = [2, -1, 0.5, -3];
  const truth = [1, 0, 0, 1];
  const shares = logits.map(sigmoid);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const entropy = mean(shares.map((share, pixel) => -Math.log(truth[pixel] ? share : 1 - share)));
  const common = (shares[0] ?? 0) + (shares[3] ?? 0);
  const dice = 1 - (2 * common + 1) / (shares.reduce((sum, share) => sum + share, 0) + 2 + 1);
  // One pixel of three that either has: logits above zero are 0 and 2, the truth 0 and 3.
  const overlap = (0.6 - 1 / 3) ** 2;
  const object = -Math.log(sigmoid(0.4));
  const stage = {
    candidates: tf.tensor4d(logits, [1, 1, 2, 2]),
    ious: tf.tensor2d([[0.6]]),
    objectScores: tf.tensor2d([[0.4]]),
  };
  const of = { masks: tf.tensor3d(truth, [1, 2, 2]), contoured: [true] };
  const expected = entropy + dice + 0.1 * overlap + 0.1 * object;
  const { total, stages } = promptableLoss([stage, stage], of, ADAPTER_LOSS);
  t.ok(Math.abs((total.dataSync()[0] ?? 0) - 2 * expected) < 1e-5, "both stages count alike");
  t.ok(Math.abs((stages[1]?.total.dataSync()[0] ?? 0) - expected) < 1e-5);
  const weighed = promptableLoss([stage, stage], of, { ...ADAPTER_LOSS, stageWeights: [1, 3] });
  t.ok(Math.abs((weighed.total.dataSync()[0] ?? 0) - 4 * expected) < 1e-5);
  t.throws(() => promptableLoss([stage], of, ADAPTER_LOSS), /every stage has a weight/);
});

t.test("an organ that was not contoured counts nowhere", async (t) => {
  const stages = [prediction(1), prediction(5)];
  const of = target([true, false, true]);
  const { total } = promptableLoss(stages, of, ADAPTER_LOSS);
  const others = stages.map(({ candidates, ious, objectScores }) => {
    const without = <T extends tf.Tensor>(tensor: T) => tf.gather(tensor, tf.tensor1d([0, 2], "int32"));
    return { candidates: without(candidates), ious: without(ious), objectScores: without(objectScores) };
  });
  const rest = { masks: tf.gather(of.masks, tf.tensor1d([0, 2], "int32")), contoured: [true, true] };
  t.strictSame(total.dataSync(), promptableLoss(others, rest, ADAPTER_LOSS).total.dataSync());
  for (const gradient of gradients(stages, of, ADAPTER_LOSS)) {
    const size = gradient.length / 3;
    const second = gradient.slice(size, 2 * size);
    t.ok(
      second.every((value) => value === 0),
      "its masks and scores are left alone",
    );
    t.ok(
      [...gradient.slice(0, size), ...gradient.slice(2 * size)].some((value) => value !== 0),
      "the others' are not",
    );
  }
  const withIt = gradients(stages, target(), ADAPTER_LOSS)[0] ?? [];
  t.ok(withIt.slice(withIt.length / 3, (2 * withIt.length) / 3).some((value) => value !== 0));
});

t.test("an object that is absent has no mask to learn, but its absence", async (t) => {
  const [masks = [], , scores = []] = gradients([prediction(1)], target(), PRETRAINING_LOSS);
  t.ok(masks.slice((2 * masks.length) / 3).every((value) => value === 0));
  t.ok((scores[2] ?? 0) > 0, "its score sinks");
});

t.test(
  "where nothing was contoured there is no loss and no gradient, and no tensor is left over",
  async (t) => {
    const stages = [prediction(1), prediction(5)];
    const of = target([false, false, false]);
    const before = tf.memory().numTensors;
    const losses = promptableLoss(stages, of, ADAPTER_LOSS);
    t.equal(losses.total.dataSync()[0], 0);
    tf.dispose(losses as unknown as tf.TensorContainer); // A record of scalars and a list of such.
    const some = promptableLoss(stages, { ...of, contoured: [true, false, true] }, ADAPTER_LOSS);
    tf.dispose(some as unknown as tf.TensorContainer); // As above.
    t.equal(tf.memory().numTensors, before);
    t.ok(
      gradients(stages, of, ADAPTER_LOSS)
        .flat()
        .every((value) => value === 0),
    );
  },
);
