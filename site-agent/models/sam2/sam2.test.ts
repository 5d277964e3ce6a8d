import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import t from "tap";
import { loadBackendPackage, tf } from "../../backend/tensors.ts";
import { installTrainingKernels } from "../../backend/wasm-kernels/install.ts";
import { bestMask, singleMask, stabilityScores } from "./mask-choice.ts";
import { focalLoss, maskLosses, OFFICIAL_MASK_LOSS } from "./mask-losses.ts";
import { type Remembering, selectMemories } from "./memory-selection.ts";
import { Sam2 } from "./sam2.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const { micro } = sam2Variants;

/** The rule of the specification's own values: tensors in the order of their names, 0.05 sin(0.37 i + k). */
function sineWeights(config = micro): Map<string, Float32Array> {
  const specs = sam2Parameters(config).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return new Map(
    specs.map(({ name, shape }, k) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const offset = name.endsWith(".weight") && shape.length === 1 ? 1 : 0;
      const values = Float32Array.from({ length: count }, (_, i) => 0.05 * Math.sin(0.37 * i + k) + offset);
      return [name, values];
    }),
  );
}

t.test("a model gives every tensor back, and leaves none over", async (t) => {
  const before = tf.memory().numTensors;
  const model = new Sam2(micro, sineWeights());
  const weights = tf.memory().numTensors;
  const images = tf.randomUniform<tf.Rank.R4>([1, 128, 128, 3], -1, 1, "float32", 3);
  const features = model.encode(images);
  const points = { coordinates: [40, 60], labels: [1], pointCount: 1 };
  const bank = { conditioning: new Map(), tracked: new Map() };
  const at = { frameCount: 2, reverse: false, training: true, features, bank };
  const first = model.track({ ...at, frame: 0, prompts: { points }, isFirst: true });
  bank.conditioning.set(0, first.memory);
  const second = model.track({ ...at, frame: 1, prompts: {}, isFirst: false });
  t.strictSame(second.highMasks.shape, [1, 1, 128, 128]);
  t.strictSame(second.candidates.shape, [1, 3, 128, 128]);
  t.ok(second.lowMasks.dataSync().every(Number.isFinite));
  tf.dispose([first, second, features, images]);
  t.equal(tf.memory().numTensors, weights);
  model.dispose();
  t.equal(tf.memory().numTensors, before);
});

t.test("the trunk takes rectangular images, odd windows and odd grids", async (t) => {
  const trunk = { ...micro.trunk, windows: [8, 7, 5, 5] };
  const model = new Sam2({ ...micro, trunk }, sineWeights());
  tf.tidy(() => {
    const { embedding, fine } = model.encode(tf.zeros([2, 128, 64, 3]));
    t.strictSame(embedding.shape, [2, 8, 4, 32]);
    t.strictSame(fine?.[0].shape, [2, 32, 16, 4]);
  });
  t.throws(() => model.encode(tf.zeros([1, 112, 128, 3])), /multiple of 32 rows/);
  model.dispose();
});

t.test("an adapter that adds nothing changes nothing, and one that adds reaches the masks", async (t) => {
  const places: string[] = [];
  let shift = 0;
  const adapt = (name: string, image: tf.Tensor4D): tf.Tensor4D => {
    places.push(name);
    return tf.add(image, shift);
  };
  const plain = new Sam2(micro, sineWeights());
  const adapted = new Sam2(micro, sineWeights(), { hooks: { adapt } });
  const images = tf.zeros<tf.Rank.R4>([1, 128, 128, 3]);
  const masks = (model: Sam2) =>
    tf.tidy(() => model.segment(model.encode(images), { boxes: [10, 10, 60, 60] }).masks.dataSync());
  t.strictSame(masks(adapted), masks(plain));
  t.equal(places.length, 7 + 4 + 2, "blocks of the trunk, laterals of the neck, layers of the decoder");
  shift = 0.5;
  t.notSame(masks(adapted), masks(plain));
  plain.dispose();
  adapted.dispose();
});

const remembering: Remembering = {
  ...{ frame: 9, frameCount: 20, reverse: false, training: false },
  ...{ conditioning: [0], tracked: [1, 2, 3, 4, 5, 6, 7, 8] },
};

t.test("a frame remembers all conditioning frames and the six before it, the newest last", async (t) => {
  const { memories, pointers } = selectMemories(remembering, micro.tracking);
  t.strictSame(memories[0], { frame: 0, slot: 0 });
  t.strictSame(
    memories.slice(1).map(({ frame }) => frame),
    [3, 4, 5, 6, 7, 8],
  );
  t.strictSame(
    memories.slice(1).map(({ slot }) => slot),
    [1, 2, 3, 4, 5, 6],
  );
  t.strictSame(
    pointers.map(({ frame }) => frame),
    [0, 8, 7, 6, 5, 4, 3, 2, 1],
  );
  t.equal(pointers[0]?.distance, 9 / 15);
});

t.test(
  "towards the first frame the order of time turns round, and the future is not pointed at",
  async (t) => {
    const back = { ...remembering, frame: 5, reverse: true, conditioning: [9, 2], tracked: [8, 7, 6] };
    const { memories, pointers } = selectMemories(back, micro.tracking);
    t.strictSame(
      memories.map(({ frame }) => frame),
      [9, 2, 8, 7, 6],
    );
    t.strictSame(
      pointers.map(({ frame }) => frame),
      [9, 6, 7, 8],
    );
    t.equal(pointers[0]?.distance, 4 / 15);
    const training = selectMemories({ ...back, training: true }, micro.tracking);
    t.strictSame(
      training.pointers.map(({ frame }) => frame),
      [9, 2, 6, 7, 8],
      "training points everywhere",
    );
  },
);

t.test("older memories keep their stride, and conditioning frames their limit", async (t) => {
  const strided = selectMemories(remembering, { ...micro.tracking, memoryStride: 3 });
  t.strictSame(
    strided.memories.map(({ frame }) => frame),
    [0, 3, 6, 8],
  );
  const many = { ...remembering, conditioning: [0, 4, 8, 12, 16], tracked: [7] };
  const limited = selectMemories(many, { ...micro.tracking, conditioningFrameCountMax: 3 });
  t.strictSame(
    limited.memories.map(({ frame }) => frame),
    [8, 12, 4, 7],
  );
});

t.test("an unstable single mask gives way to the best of the others", async (t) => {
  const stable = tf.tensor4d([5, 5, -5, -5], [1, 1, 2, 2]);
  const unstable = tf.tensor4d([5, 0, 0, -5], [1, 1, 2, 2]);
  t.strictSame(
    [...stabilityScores(tf.concat([stable, unstable], 1), 0.05).dataSync()],
    [1, Math.fround(1 / 3)],
  );
  t.strictSame(
    [...stabilityScores(tf.fill([1, 1, 2, 2], -9), 0.05).dataSync()],
    [1],
    "an empty mask is stable",
  );
  const rule = { stabilityDelta: 0.05, stabilityMin: 0.98 };
  const decoded = (first: tf.Tensor4D) => ({
    masks: tf.concat<tf.Tensor4D>([first, tf.fill([1, 1, 2, 2], 1), tf.fill([1, 1, 2, 2], 2)], 1),
    ious: tf.tensor2d([[0.9, 0.2, 0.4]]),
    tokens: tf.ones<tf.Rank.R3>([1, 3, 4]),
    objectScores: tf.ones<tf.Rank.R2>([1, 1]),
  });
  t.strictSame([...singleMask(decoded(stable), rule).masks.dataSync()], [5, 5, -5, -5]);
  t.strictSame([...singleMask(decoded(unstable), rule).masks.dataSync()], [2, 2, 2, 2]);
  t.strictSame([...singleMask(decoded(unstable), null).masks.dataSync()], [5, 0, 0, -5]);
  t.equal(bestMask(decoded(stable)).ious.dataSync()[0], Math.fround(0.9));
});

t.test("gradients reach the chosen mask only, and none at all when the object is absent", async (t) => {
  const candidates = tf.tensor4d([3, 3, -3, -3, -3, -3, 3, 3], [1, 2, 2, 2]);
  const ious = tf.tensor2d([[0.5, 0.5]]);
  const objectScores = tf.tensor2d([[0]]);
  const gradient = (target: number[]) =>
    tf.grad((masks: tf.Tensor) => {
      const prediction = { candidates: masks as tf.Tensor4D, ious, objectScores }; // As above.
      return maskLosses(prediction, tf.tensor3d(target, [1, 2, 2]), OFFICIAL_MASK_LOSS).total;
    })(candidates);
  const [first, second] = tf.split(gradient([1, 1, 0, 0]), 2, 1).map((part) => part.dataSync());
  t.ok(
    first?.every((value) => value !== 0),
    "the mask that fits is trained",
  );
  t.ok(
    second?.every((value) => value === 0),
    "the other is left alone",
  );
  t.ok(
    gradient([0, 0, 0, 0])
      .dataSync()
      .every((value) => value === 0),
  );
});

t.test("a single mask has no choice", async (t) => {
  const candidates = tf.tensor4d([3, 3, -3, -3], [1, 1, 2, 2]);
  const prediction = { candidates, ious: tf.tensor2d([[0.5]]), objectScores: tf.tensor2d([[0]]) };
  const { mask, total } = maskLosses(prediction, tf.tensor3d([1, 1, 0, 0], [1, 2, 2]), OFFICIAL_MASK_LOSS);
  t.ok((mask.dataSync()[0] ?? 0) > 0 && Number.isFinite(total.dataSync()[0]));
  const alone = { masks: candidates, ious: prediction.ious, tokens: tf.ones<tf.Rank.R3>([1, 1, 4]) };
  t.equal(bestMask(alone).masks, candidates);
});

t.test("the focal loss of one pixel is that of its formula", async (t) => {
  // Lin et al. 2017, equation 5: -alpha (1 - p)^gamma log p at p = sigmoid(1).
  const p = 1 / (1 + Math.exp(-1));
  const expected = -0.25 * (1 - p) ** 2 * Math.log(p);
  const [found = 0] = focalLoss(tf.tensor1d([1]), tf.tensor1d([1]), { alpha: 0.25, gamma: 2 }).dataSync();
  t.ok(Math.abs(found - expected) < 1e-7);
});

t.test("blocks that are computed again give the same gradients and keep less", async (t) => {
  const trainable = sam2Parameters(micro).filter(({ name }) =>
    /blocks\.\d\.attn|memory_attention/.test(name),
  );
  const images = tf.randomUniform<tf.Rank.R4>([1, 128, 128, 3], -1, 1, "float32", 5);
  const step = (recompute: boolean) => {
    const model = new Sam2(micro, sineWeights(), { trainable, recompute });
    const before = tf.memory().numTensors;
    let keptBytes = 0;
    const loss = () => {
      const bank = { conditioning: new Map(), tracked: new Map() };
      const features = model.encode(images);
      const at = { frameCount: 2, reverse: false, training: true, features, bank };
      const points = { coordinates: [40, 60], labels: [1], pointCount: 1 };
      const first = model.track({ ...at, frame: 0, prompts: { points }, isFirst: true });
      bank.conditioning.set(0, first.memory);
      const { lowMasks } = model.track({ ...at, frame: 1, prompts: {}, isFirst: false });
      keptBytes = tf.memory().numBytes;
      return tf.mean(tf.square(lowMasks)) as tf.Scalar; // A mean over all axes.
    };
    const tensors = [...model.parameters.trainable().values()];
    const { value, grads } = tf.valueAndGrads(loss)(tensors);
    const gradients = grads.map((gradient) => gradient.dataSync());
    tf.dispose([value, grads]);
    t.equal(tf.memory().numTensors, before, "nothing is left over");
    model.dispose();
    return { gradients, keptBytes };
  };
  const [kept, again] = [step(false), step(true)];
  const size = (values: number[]) => values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const [all, allAgain] = [kept, again].map(({ gradients }) => gradients.flatMap((one) => Array.from(one)));
  const difference = (all ?? []).map((value, index) => value - (allAgain?.[index] ?? Number.NaN));
  t.ok(size(difference) < 1e-5 * size(all ?? []), `off by ${size(difference)} of ${size(all ?? [])}`);
  t.ok(again.gradients.some((gradient) => gradient.some((value) => value !== 0)));
  t.ok(again.keptBytes < 0.7 * kept.keptBytes, `${again.keptBytes} bytes in place of ${kept.keptBytes}`);
  images.dispose();
});
