import t from "tap";
import { gradientDeviations } from "../../test/support/finite-differences.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import {
  type MaskLossSettings,
  type MaskPrediction,
  maskLosses,
  OFFICIAL_MASK_LOSS,
} from "../models/sam2/mask-losses.ts";
import { ADAPTER_LOSS } from "./promptable-losses.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const SIDE = 4;
const CENTRES = [
  [1, 1],
  [2, 1],
  [1, 2],
] as const;

/** Three objects, the last of which is not in the slice, and what each counts. */
function target(counts = [1, 1, 1]) {
  const masks = CENTRES.flatMap(([row, column], object) =>
    Array.from({ length: SIDE * SIDE }, (_, pixel) => {
      const distance = Math.hypot(Math.floor(pixel / SIDE) - row, (pixel % SIDE) - column);
      return Number(object < 2 && distance < 1.5);
    }),
  );
  return { masks: tf.tensor3d(masks, [3, SIDE, SIDE]), counts: tf.tensor2d(counts, [3, 1]) };
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

function tensorsOf({ candidates, ious, objectScores }: MaskPrediction): tf.Tensor[] {
  return [candidates, ious, objectScores];
}

function lossOf(of: ReturnType<typeof target>, settings: MaskLossSettings) {
  return (...[candidates, ious, objectScores]: tf.Tensor[]): tf.Scalar => {
    const given = { candidates, ious, objectScores } as MaskPrediction; // In the order of `tensorsOf`.
    return maskLosses(given, of.masks, settings, of.counts).total;
  };
}

function gradients(stage: MaskPrediction, of: ReturnType<typeof target>, settings: MaskLossSettings) {
  return tf
    .grads(lossOf(of, settings))(tensorsOf(stage))
    .map((gradient) => [...gradient.dataSync()]);
}

t.test("the gradients of both losses are those of finite differences", async (t) => {
  const cases = [
    [ADAPTER_LOSS, prediction(1)],
    [ADAPTER_LOSS, prediction(5, 1)],
    [OFFICIAL_MASK_LOSS, prediction(9, 3)],
  ] as const;
  for (const [settings, stage] of cases) {
    const loss = lossOf(target([1, 0.3, 0.5]), settings);
    const deviations = gradientDeviations(loss, tensorsOf(stage), { triedMax: 48 });
    for (const deviation of deviations) t.ok(deviation < 0.01, String(deviation));
    t.equal(deviations.length, 3);
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
  const expected = entropy + dice + 0.1 * overlap + 0.1 * object;
  const masks = tf.tensor3d(truth, [1, 2, 2]);
  const total = (counts?: tf.Tensor2D): number =>
    maskLosses(stage, masks, ADAPTER_LOSS, counts).total.dataSync()[0] ?? 0;
  t.ok(Math.abs(total() - expected) < 1e-5);
  t.ok(Math.abs(total(tf.tensor2d([[3]])) - 3 * expected) < 1e-5, "it counts as often as it is told to");
});

t.test(
  "an object that does not count is not trained, and the others are as they were without it",
  async (t) => {
    const stage = prediction(1);
    const of = target([1, 0, 1]);
    const rest = tf.tensor1d([0, 2], "int32");
    const others = {
      candidates: tf.gather(stage.candidates, rest),
      ious: tf.gather(stage.ious, rest),
      objectScores: tf.gather(stage.objectScores, rest),
    };
    const alone = maskLosses(others, tf.gather(of.masks, rest), ADAPTER_LOSS).total.dataSync()[0] ?? 0;
    const together = lossOf(of, ADAPTER_LOSS)(...tensorsOf(stage)).dataSync()[0] ?? 0;
    t.ok(Math.abs(3 * together - 2 * alone) < 1e-5, "sums over objects, as means of three and of two");
    for (const gradient of gradients(stage, of, ADAPTER_LOSS)) {
      const size = gradient.length / 3;
      t.ok(
        gradient.slice(size, 2 * size).every((value) => value === 0),
        "its masks and scores are left alone",
      );
      t.ok(
        [...gradient.slice(0, size), ...gradient.slice(2 * size)].some((value) => value !== 0),
        "the others' are not",
      );
    }
    const withIt = gradients(stage, target(), ADAPTER_LOSS)[0] ?? [];
    t.ok(withIt.slice(withIt.length / 3, (2 * withIt.length) / 3).some((value) => value !== 0));
  },
);

t.test("an object that is absent has no mask to learn, but its absence", async (t) => {
  const [masks = [], , scores = []] = gradients(prediction(1), target(), OFFICIAL_MASK_LOSS);
  t.ok(masks.slice((2 * masks.length) / 3).every((value) => value === 0));
  t.ok((scores[2] ?? 0) > 0, "its score sinks");
});
