// The step of rfmedsam2's adapters on SAM 2.1 tiny: of each clip two slices and one object, asked with a box in the first
// slice, and in the second with a box and the memory of the first, through which no gradient goes.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { Rfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import { initialRfmedsam2Weights } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { sam2Layout } from "../../site-agent/models/sam2/sam2-layout.ts";
import type { ModelPrompt } from "../../site-agent/prompts/object-prompt.ts";
import type { Differentiated } from "../../site-agent/recipes/recipe.ts";
import { type AskedSlice, addQuestions } from "../../site-agent/recipes/rfmedsam2/add-questions.ts";
import { ClipEncoding } from "../../site-agent/recipes/rfmedsam2/clip-encoding.ts";
import { ClipGradients } from "../../site-agent/recipes/rfmedsam2/clip-gradients.ts";
import { clipLossSettings } from "../../site-agent/recipes/rfmedsam2/clip-objective.ts";
import { ClipPort } from "../../site-agent/recipes/rfmedsam2/clip-port.ts";
import { Rfmedsam2 } from "../../site-agent/recipes/rfmedsam2/model.ts";
import { ADAMW_DEFAULTS } from "../../site-agent/training/adamw.ts";
import { GradientSum } from "../../site-agent/training/gradient-sum.ts";
import type { TrainingSlice } from "../../site-agent/training/training-slice.ts";
import { SLICES_OF_TWO, unet } from "../steps/plans.ts";
import { writeFloats } from "./environment.ts";
import {
  adapterSpecs,
  boxOf,
  divisorOf,
  drawn,
  type Ellipse,
  PUBLISHED,
  SEED,
  tinyConfig,
  tinyWeights,
  writeTinyWeights,
} from "./sam2-tiny.ts";
import type { OpenedStep, PyTorchStep } from "./step.ts";

type Workload = { readonly pixels: number; readonly batch: number };
type Task = {
  readonly published: typeof PUBLISHED;
  readonly size: number;
  readonly batch: number;
  readonly divisor: number;
  readonly loss: Rfmedsam2Config["loss"];
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly gradientNormL2Max: number;
};

const FRAMES = 2;

export function sam2Step(workload: Workload, runs: number): PyTorchStep {
  const write = (folder: string): Promise<void> => writeTask(folder, workload);
  return { row: { model: "SAM 2.1 tiny, adapters", ...workload }, script: "sam2_step.py", runs, write, open };
}

function configOf(pixels: number): Rfmedsam2Config {
  return tinyConfig(pixels, unet(8), { recompute: false, clip: SLICES_OF_TWO });
}

async function writeTask(folder: string, { pixels, batch }: Workload): Promise<void> {
  const config = configOf(pixels);
  const task: Task = {
    ...{
      published: PUBLISHED,
      size: pixels,
      batch,
      loss: config.loss,
      divisor: divisorOf(config),
    },
    ...{ learningRate: 1e-4, weightDecay: 0.01, gradientNormL2Max: 1 },
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "task.json"), JSON.stringify(task));
  await writeTinyWeights(folder, config);
  await writeBatch(folder, config, task);
}

/** Slices as SAM 2 sees them, with channels first; the boxes' corners; what the decoder's cells are to show. */
async function writeBatch(folder: string, config: Rfmedsam2Config, { size, batch }: Task): Promise<void> {
  const model = new Rfmedsam2(config, initialRfmedsam2Weights(config, SEED));
  const places = Array.from({ length: FRAMES * batch }, (_, index) => ({
    frame: Math.floor(index / batch),
    clip: index % batch,
  }));
  const images = tf.tidy(() => {
    const slices = model.images(places.map((place) => drawnSlice(size, place)));
    return tf.transpose(slices, [0, 3, 1, 2]).dataSync() as Float32Array; // Images are float32.
  });
  model.dispose();
  const objects = places.map((place) => ellipseOf(size, place));
  const boxes = objects.map(boxOf).flatMap(({ x1, y1, x2, y2 }) => [x1, y1, x2, y2]);
  const targets = objects.flatMap((object) => [...targetOf(object, size)]);
  await writeFloats(join(folder, "batch.safetensors"), [
    float32Tensor("images", [FRAMES, batch, 3, size, size], images),
    float32Tensor("boxes", [FRAMES, batch, 2, 2], Float32Array.from(boxes)),
    float32Tensor("targets", [FRAMES, batch, size / 4, size / 4], Float32Array.from(targets)),
  ]);
}

type Place = { readonly frame: number; readonly clip: number };

function ellipseOf(size: number, { frame, clip }: Place): Ellipse {
  return {
    x: size * (0.45 + 0.02 * frame + 0.05 * clip),
    y: size * (0.5 - 0.03 * frame),
    width: size * (0.3 + 0.02 * clip),
    height: size * 0.2,
  };
}

function drawnSlice(size: number, place: Place): TrainingSlice {
  const prng = Prng.labelled(SEED, `slice ${place.frame} of clip ${place.clip}`);
  const object = drawn(ellipseOf(size, place), size, 1);
  const image = object.map((inside) => inside + 0.3 * prng.normal());
  return { image, labels: Uint8Array.from(object), height: size, width: size, channels: 1, contoured: [1] };
}

async function open(folder: string): Promise<OpenedStep> {
  const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as Task; // Written above.
  const config = configOf(task.size);
  const model = new Rfmedsam2(config, await tinyWeights(folder, config));
  const gradients = new ClipGradients(model, clipLossSettings(model), ({ code, reason }) =>
    console.error(`${code}: ${reason}`),
  );
  const specs = adapterSpecs(config);
  // Drawn before anything is timed.
  const clips = Array.from({ length: task.batch }, (_, clip) => drawnClip(task.size, clip));
  return {
    parameters: model.parameters,
    ...{ specs, layoutOf: sam2Layout, plan: { ...ADAMW_DEFAULTS, ...task } },
    differentiate: () => differentiate({ model, gradients, clips }),
  };
}

type DrawnClip = {
  readonly slices: readonly TrainingSlice[];
  readonly prompts: readonly ModelPrompt[];
  /** What the decoder's cells are to show. */
  readonly targets: readonly Float32Array[];
};

function drawnClip(size: number, clip: number): DrawnClip {
  const places = [0, 1].map((frame) => ({ frame, clip }));
  const objects = places.map((place) => ellipseOf(size, place));
  return {
    slices: places.map((place) => drawnSlice(size, place)),
    prompts: objects.map((object) => ({ box: boxOf(object), points: [], maskLogits: null })),
    targets: objects.map((object) => targetOf(object, size)),
  };
}

function targetOf(object: Ellipse, size: number): Float32Array {
  return drawn(object, size / 4, 4);
}

type Differentiating = {
  readonly model: Rfmedsam2;
  readonly gradients: ClipGradients;
  readonly clips: readonly DrawnClip[];
};

/** One clip after the other, as the recipe does. */
async function differentiate({ model, gradients, clips }: Differentiating): Promise<Differentiated> {
  const sum = new GradientSum(model.refinerTensors());
  for (const { slices, prompts, targets } of clips) {
    const [first = null, second = null] = prompts;
    const encoding = new ClipEncoding(model, gradients);
    const port = new ClipPort(model, slices, { encoder: encoding });
    const alone: AskedSlice = { slice: 0, prompt: first, memories: [] };
    const [answer] = await port.decode([alone]);
    const { memory } = expectDefined(answer, "an answer");
    const remembered = { slice: 0, isConditioning: true, slot: 0, distance: 1, memory };
    addQuestions(sum, [alone, { slice: 1, prompt: second, memories: [remembered] }], {
      ...{ model, gradients, encoding, slices, port },
      targetsOf: (asked) => ({
        masks: Float32Array.from(asked.flatMap(({ slice }) => [...(targets[slice] ?? [])])),
        counts: asked.map(() => 1 / FRAMES),
      }),
    });
    port.release(memory);
    encoding.dispose();
  }
  return sum.finish(1 / clips.length);
}
