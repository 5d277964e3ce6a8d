// The step of rfmedsam2's adapters on SAM 2.1 tiny: of each clip two slices and one object, asked with a box in the first
// slice, and in the second with a box and the memory of the first, through which no gradient goes.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor } from "@consilium/shared/encoding/tensor-bundle.ts";
import { adapterParameters } from "@consilium/shared/model/adapters-parameters.ts";
import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import { parseRfmedsam2Config, type Rfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { draftRfmedsam2Config } from "@consilium/shared/model/rfmedsam2-draft.ts";
import { initialPartWeights, initialRfmedsam2Weights } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants, withImageSize } from "@consilium/shared/model/sam2-variants.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { sam2Layout } from "../../site-agent/models/sam2/sam2-layout.ts";
import type { ModelPrompt } from "../../site-agent/prompts/object-prompt.ts";
import type { PixelBox } from "../../site-agent/prompts/pixel-box.ts";
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
import { readFloats, writeFloats } from "./environment.ts";
import type { OpenedStep, PyTorchStep } from "./step.ts";

type Workload = { readonly pixels: number; readonly batch: number };
type Task = {
  /** The package's own record of the model. */
  readonly published: string;
  readonly size: number;
  readonly batch: number;
  readonly divisor: number;
  readonly loss: Rfmedsam2Config["loss"];
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly gradientNormL2Max: number;
};

const SEED = 1;
const FRAMES = 2;
/** Adapters begin at zero, where most of their tensors have no gradient. */
const ADAPTER_NOISE = 0.02;
/** The object counts as there: what does not is not drawn. */
const PRESENT_LOGIT = 5;
const PRESENCE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias";

export function sam2Step(workload: Workload, runs: number): PyTorchStep {
  const write = (folder: string): Promise<void> => writeTask(folder, workload);
  return { row: { model: "SAM 2.1 tiny, adapters", ...workload }, script: "sam2_step.py", runs, write, open };
}

/** The choice of a more stable mask is left out: it may fall otherwise where two are nearly alike. */
function configOf(pixels: number): Rfmedsam2Config {
  const normalisation = { kind: "zscore" } as const;
  const size = { variant: "tiny", imageSize: pixels, trains: "adapters" } as const;
  const tiny = withImageSize(sam2Variants.tiny, pixels);
  return parseRfmedsam2Config({
    ...draftRfmedsam2Config({ ...size, prompter: unet(8), normalisation }),
    sam2: { ...tiny, maskDecoder: { ...tiny.maskDecoder, dynamicMultimask: null } },
    recompute: false,
    clip: SLICES_OF_TWO,
  });
}

function trainedSpecs(config: Rfmedsam2Config): ParameterSpec[] {
  return adapterParameters(config.adapters, sam2Of(config));
}

async function writeTask(folder: string, { pixels, batch }: Workload): Promise<void> {
  const config = configOf(pixels);
  const task: Task = {
    ...{
      published: "sam2.1_hiera_t.yaml",
      size: pixels,
      batch,
      loss: config.loss,
      divisor: divisorOf(config),
    },
    ...{ learningRate: 1e-4, weightDecay: 0.01, gradientNormL2Max: 1 },
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "task.json"), JSON.stringify(task));
  const noise = Prng.labelled(SEED, "adapters against PyTorch");
  const weights = new Map([
    ...initialPartWeights(config, "sam2", SEED),
    [PRESENCE, Float32Array.of(PRESENT_LOGIT)],
    ...[...initialPartWeights(config, "adapters", SEED)].map(
      ([name, values]) =>
        [name, values.map((value) => value + noise.uniform(-ADAPTER_NOISE, ADAPTER_NOISE))] as const,
    ),
  ]);
  const specs = [...sam2Parameters(sam2Of(config)), ...trainedSpecs(config)];
  await writeFloats(
    join(folder, "weights.safetensors"),
    specs.map(({ name, shape }) => float32Tensor(name, shape, expectDefined(weights.get(name), name))),
  );
  await writeBatch(folder, config, task);
}

function divisorOf({ adapters }: Rfmedsam2Config): number {
  const [first] = adapters;
  if (first?.kind !== "dwconv" || !("divisor" in first.width)) throw new Error("adapters of another kind");
  return first.width.divisor;
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
type Ellipse = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

/** In pixels of the image. */
function ellipseOf(size: number, { frame, clip }: Place): Ellipse {
  return {
    x: size * (0.45 + 0.02 * frame + 0.05 * clip),
    y: size * (0.5 - 0.03 * frame),
    width: size * (0.3 + 0.02 * clip),
    height: size * 0.2,
  };
}

function boxOf({ x, y, width, height }: Ellipse): PixelBox {
  return { x1: x - width / 2, y1: y - height / 2, x2: x + width / 2, y2: y + height / 2 };
}

/** 1 within, 0 elsewhere, on a grid of cells with this side. */
function drawn({ x, y, width, height }: Ellipse, side: number, cell: number): Float32Array {
  return Float32Array.from({ length: side * side }, (_, index) => {
    const [column, row] = [index % side, Math.floor(index / side)];
    const across = (2 * ((column + 0.5) * cell - x)) / width;
    const down = (2 * ((row + 0.5) * cell - y)) / height;
    return across ** 2 + down ** 2 <= 1 ? 1 : 0;
  });
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
  const model = new Rfmedsam2(config, await weightsOf(folder, config));
  const gradients = new ClipGradients(model, clipLossSettings(model), ({ code, reason }) =>
    console.error(`${code}: ${reason}`),
  );
  const specs = trainedSpecs(config);
  // Drawn before anything is timed.
  const clips = Array.from({ length: task.batch }, (_, clip) => drawnClip(task.size, clip));
  return {
    parameters: model.parameters,
    ...{ specs, layoutOf: sam2Layout, plan: { ...ADAMW_DEFAULTS, ...task } },
    differentiate: () => differentiate({ model, gradients, clips }),
  };
}

async function weightsOf(folder: string, config: Rfmedsam2Config): Promise<Map<string, Float32Array>> {
  const given = await readFloats(join(folder, "weights.safetensors"));
  const part = (name: string): string => (name.includes(".adapter.") ? "adapters" : "sam2");
  return new Map([
    ...[...initialPartWeights(config, "prompter", SEED)].map(
      ([name, values]) => [`prompter.${name}`, values] as const,
    ),
    ...[...given].map(([name, values]) => [`${part(name)}.${name}`, values] as const),
  ]);
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
