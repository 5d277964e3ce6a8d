import t from "tap";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { composedLoss, deepSupervisionLoss, diceCrossEntropy, levelWeights } from "./losses.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

type Small = { logits: number[][]; classes: number[]; drawn: number[] };

/** Loss and gradient of one image of some pixels in a row. */
function lossOf({ logits, classes, drawn }: Small, compute = diceCrossEntropy) {
  return tf.tidy(() => {
    const pixels = logits.length;
    const classCount = drawn.length;
    const target = {
      classes: tf.tensor3d(classes, [1, 1, pixels], "int32"),
      drawn: tf.tensor2d(drawn, [1, classCount]),
    };
    const given = tf.tensor4d(logits.flat(), [1, 1, pixels, classCount]);
    const { value, grad } = tf.valueAndGrad((x) => compute(x as tf.Tensor4D, target))(given); // Four axes stay four.
    const gradient = [...grad.dataSync()];
    return {
      value: value.dataSync()[0] ?? 0,
      gradient: logits.map((_, pixel) => gradient.slice(pixel * classCount, (pixel + 1) * classCount)),
    };
  });
}

function softmax(row: readonly number[]): number[] {
  const sum = row.reduce((total, value) => total + Math.exp(value), 0);
  return row.map((value) => Math.exp(value) / sum);
}

/** nnU-Net's DC_and_CE_loss written down for one image, with every organ drawn. */
function plainLoss({ logits, classes, drawn }: Small): number {
  const probabilities = logits.map(softmax);
  const crossEntropy = probabilities.map((row, pixel) => -Math.log(row[classes[pixel] ?? 0] ?? 0));
  const dice = drawn.slice(1).map((_, index) => {
    const organ = index + 1;
    const inside = classes.map((found) => Number(found === organ));
    const predicted = probabilities.map((row) => row[organ] ?? 0);
    const intersection = predicted.reduce((sum, value, pixel) => sum + value * (inside[pixel] ?? 0), 0);
    const total = [...predicted, ...inside].reduce((sum, value) => sum + value, 0);
    return (2 * intersection + 1e-5) / (total + 1e-5);
  });
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return mean(crossEntropy) - mean(dice);
}

const someLogits = [
  [0.3, -1, 0.8, 0.1],
  [2, 0.5, -0.5, 1],
  [-1, 1.5, 0.2, 0],
  [0.1, 0.2, 0.3, -2],
  [1, -0.4, 0.6, 0.9],
];
const someClasses = [0, 0, 1, 3, 2];

t.test("with every organ drawn the loss is nnU-Net's", async (t) => {
  const given = { logits: someLogits, classes: someClasses, drawn: [1, 1, 1, 1] };
  for (const compute of [diceCrossEntropy, composedLoss]) {
    t.ok(Math.abs(lossOf(given, compute).value - plainLoss(given)) < 1e-6, compute.name);
  }
});

t.test("an organ that was not drawn is never called background", async (t) => {
  // Organ 2 was not drawn: where nothing else is, its logit and the background's are pushed in proportion to their
  // probabilities, so neither gains on the other.
  const drawn = [1, 1, 0, 1];
  for (const compute of [diceCrossEntropy, composedLoss]) {
    const { gradient } = lossOf({ logits: someLogits, classes: [0, 0, 0, 0, 0], drawn }, compute);
    gradient.forEach((row, pixel) => {
      const [background = 0, , organ = 0] = softmax(someLogits[pixel] ?? []);
      t.ok((row[2] ?? 0) < 0, `${compute.name}, pixel ${pixel}: its logit rises`);
      t.ok(
        Math.abs((row[2] ?? 0) / organ - (row[0] ?? 0) / background) < 1e-5,
        "as the background's share does",
      );
    });
  }
  const everywhere = lossOf({ logits: someLogits, classes: [0, 0, 0, 0, 0], drawn: [1, 1, 1, 1] });
  t.ok((everywhere.gradient[0]?.[2] ?? 0) > 0, "the plain loss would push it down");
});

t.test("an organ that was not drawn has no Dice term, and its stray labels say nothing", async (t) => {
  const stray = lossOf({ logits: someLogits, classes: [0, 2, 1, 3, 2], drawn: [1, 1, 0, 1] });
  const background = lossOf({ logits: someLogits, classes: [0, 0, 1, 3, 0], drawn: [1, 1, 0, 1] });
  t.strictSame(stray, background);
  const none = lossOf({ logits: someLogits, classes: [0, 0, 0, 0, 0], drawn: [1, 0, 0, 0] });
  t.ok(Math.abs(none.value) < 1e-6, "nothing was drawn: there is nothing to learn");
  t.ok(none.gradient.flat().every((value) => Math.abs(value) < 1e-6));
});

t.test("Dice is that of the whole batch, over the images that drew the organ", async (t) => {
  const logits = tf.tensor4d([...someLogits.flat(), ...someLogits.flat().reverse()], [2, 1, 5, 4]);
  const classes = tf.tensor3d([...someClasses, 3, 2, 1, 0, 0], [2, 1, 5], "int32");
  const loss = (drawn: number[]) =>
    diceCrossEntropy(logits, { classes, drawn: tf.tensor2d(drawn, [2, 4]) }).dataSync()[0];
  const joined = {
    logits: [...someLogits, ...[4, 3, 2, 1, 0].map((pixel) => [...(someLogits[pixel] ?? [])].reverse())],
    classes: [...someClasses, 3, 2, 1, 0, 0],
    drawn: [1, 1, 1, 1],
  };
  t.ok(Math.abs((loss([1, 1, 1, 1, 1, 1, 1, 1]) ?? 0) - plainLoss(joined)) < 1e-6);
  t.not(loss([1, 1, 1, 1, 1, 1, 0, 1]), loss([1, 1, 1, 1, 1, 1, 1, 1]));
});

t.test("lower levels weigh half as much each and see every stride-th pixel", async (t) => {
  t.strictSame(levelWeights(1), [1]);
  t.strictSame(levelWeights(3), [4 / 7, 2 / 7, 1 / 7]);
  tf.tidy(() => {
    const full = tf.randomNormal<tf.Rank.R4>([1, 4, 6, 2], 0, 1, "float32", 3);
    const half = tf.randomNormal<tf.Rank.R4>([1, 2, 2, 2], 0, 1, "float32", 4);
    const values = Int32Array.from({ length: 24 }, (_, index) => Number(index % 5 === 0));
    const classes = tf.tensor3d(values, [1, 4, 6], "int32");
    const drawn = tf.ones<tf.Rank.R2>([1, 2]);
    // Rows 1 and 3, columns 1 and 4: stride over 2 on, as the goldens' notes say.
    const sampled = [7, 10, 19, 22].map((pixel) => values[pixel] ?? 0);
    const lower = tf.tensor3d(sampled, [1, 2, 2], "int32");
    const one = (logits: tf.Tensor4D, of: tf.Tensor3D) =>
      diceCrossEntropy(logits, { classes: of, drawn }).dataSync()[0] ?? 0;
    const together = deepSupervisionLoss([full, half], { classes, drawn }).dataSync()[0] ?? 0;
    t.ok(Math.abs(together - (2 * one(full, classes) + one(half, lower)) / 3) < 1e-6);
  });
});
