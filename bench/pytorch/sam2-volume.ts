// A volume of 64 slices with two organs for stages 0 to 2. The prompter runs on it, and what it would have to say is drawn:
// of initial weights it says nothing. What refinement asks of SAM 2 is noted once and asked of PyTorch again.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor } from "@consilium/shared/encoding/tensor-bundle.ts";
import { plainConvUNetParameters } from "@consilium/shared/model/plain-conv-unet.ts";
import type { Rfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import { initialPartWeights } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import type { FrameMemory } from "../../site-agent/models/sam2/memory-bank.ts";
import { type PrompterOutput, prompterOutput } from "../../site-agent/prompts/prompter-output.ts";
import { ClipPort } from "../../site-agent/recipes/rfmedsam2/clip-port.ts";
import { Rfmedsam2 } from "../../site-agent/recipes/rfmedsam2/model.ts";
import { prompterOnClip } from "../../site-agent/recipes/rfmedsam2/prompter-clip.ts";
import { refinementPlanOf } from "../../site-agent/recipes/rfmedsam2/refinement-plan-of.ts";
import { mergedClip, refineClip } from "../../site-agent/refinement/refine-clip.ts";
import type {
  DecodeAnswer,
  DecodeRequest,
  RefinementModel,
} from "../../site-agent/refinement/refine-objects.ts";
import type { TrainingSlice } from "../../site-agent/training/training-slice.ts";
import { unet } from "../steps/plans.ts";
import { writeFloats } from "./environment.ts";
import {
  divisorOf,
  drawn,
  type Ellipse,
  PUBLISHED,
  SEED,
  tinyConfig,
  tinyWeights,
  writeTinyWeights,
} from "./sam2-tiny.ts";

const SLICES = 64;
const ORGANS = 2;
/** Of the prompter's first stage. */
const FEATURES = 16;
/** What the prompter is as sure of as it may be. */
const SURE = 0.98;

/** A question in numbers, as the script reads it; ids count the questions. */
type NotedQuestion = {
  readonly id: number;
  readonly slice: number;
  readonly box: readonly (readonly [number, number])[];
  /** Row among the masks that were asked with. */
  readonly mask: number;
  readonly memories: readonly {
    readonly of: number;
    readonly slot: number;
    readonly distance: number;
  }[];
};

export type OpenedVolume = {
  /** @returns the masks that SAM 2 answered with, question by question */
  readonly refine: () => Promise<readonly Float32Array[]>;
};

/** With the questions, for which the volume is refined once on the running backend. */
export async function writeVolume(folder: string, pixels: number): Promise<void> {
  const config = configOf(pixels);
  await mkdir(folder, { recursive: true });
  await writeTinyWeights(folder, config);
  const prompter = initialPartWeights(config, "prompter", SEED);
  await writeFloats(
    join(folder, "prompter.safetensors"),
    plainConvUNetParameters(config.prompter).map(({ name, shape }) =>
      float32Tensor(name, shape, expectDefined(prompter.get(name), name)),
    ),
  );
  const model = new Rfmedsam2(config, await tinyWeights(folder, config));
  const slices = drawnSlices(pixels);
  const { calls, masks } = await notedQuestions(model, slices);
  const images = slices.flatMap((slice) => [
    ...tf.tidy(() => tf.transpose(model.images([slice]), [0, 3, 1, 2]).dataSync()),
  ]);
  const grey = slices.flatMap(({ image }) => [...image]);
  const { height, width } = model.sizes.maskGrid;
  await writeFloats(join(folder, "volume.safetensors"), [
    float32Tensor("slices", [SLICES, 1, pixels, pixels], Float32Array.from(grey)),
    float32Tensor("images", [SLICES, 3, pixels, pixels], Float32Array.from(images)),
    float32Tensor(
      "masks",
      [masks.length, height, width],
      Float32Array.from(masks.flatMap((mask) => [...mask])),
    ),
  ]);
  const { prompter: network } = config;
  const task = { published: PUBLISHED, size: pixels, divisor: divisorOf(config), prompter: network, calls };
  await writeFile(join(folder, "task.json"), JSON.stringify(task));
  model.dispose();
}

export async function openVolume(folder: string): Promise<OpenedVolume> {
  const { size } = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as { size: number }; // Written above.
  const config = configOf(size);
  const model = new Rfmedsam2(config, await tinyWeights(folder, config));
  const slices = drawnSlices(size);
  return {
    async refine() {
      await prompterOnClip(model.prompting, slices);
      const masks: Float32Array[] = [];
      await refined(model, slices, (_, answers) => void masks.push(...answers.map(({ logits }) => logits)));
      return masks;
    },
  };
}

function configOf(pixels: number): Rfmedsam2Config {
  const config = tinyConfig(pixels, unet(FEATURES), {});
  return { ...config, refinement: { ...config.refinement, clipSlices: SLICES } };
}

/** Two organs that swell and shrink from slice to slice. */
function organOf(pixels: number, organ: number, slice: number): Ellipse {
  const share = 0.6 + 0.4 * Math.sin((Math.PI * (slice + 0.5)) / SLICES);
  return {
    x: pixels * (0.3 + 0.4 * organ),
    y: pixels * (0.4 + 0.2 * organ + 0.001 * slice),
    width: pixels * (0.3 - 0.05 * organ) * share,
    height: pixels * 0.25 * share,
  };
}

function organMasks(pixels: number, slice: number): Float32Array[] {
  return Array.from({ length: ORGANS }, (_, organ) => drawn(organOf(pixels, organ, slice), pixels, 1));
}

function drawnSlices(pixels: number): TrainingSlice[] {
  return Array.from({ length: SLICES }, (_, slice) => {
    const prng = Prng.labelled(SEED, `slice ${slice}`);
    const masks = organMasks(pixels, slice);
    const labels = new Uint8Array(pixels * pixels);
    masks.forEach((mask, organ) => {
      mask.forEach((inside, pixel) => {
        if (inside) labels[pixel] = organ + 1;
      });
    });
    const image = Float32Array.from(labels, (label) => label + 0.3 * prng.normal());
    return { image, labels, height: pixels, width: pixels, channels: 1, contoured: [1, 2] };
  });
}

/** As if the prompter had found the organs. */
function drawnOutput(slices: readonly TrainingSlice[], pixels: number): PrompterOutput {
  const classCount = ORGANS + 1;
  const shares = new Float32Array(SLICES * pixels * pixels * classCount).fill((1 - SURE) / ORGANS);
  slices.forEach(({ labels }, slice) => {
    labels.forEach((label, pixel) => {
      shares[(slice * pixels * pixels + pixel) * classCount + label] = SURE;
    });
  });
  return prompterOutput(shares, { depth: SLICES, height: pixels, width: pixels, classCount });
}

type Heard = (
  requests: readonly DecodeRequest<FrameMemory>[],
  answers: readonly DecodeAnswer<FrameMemory>[],
) => void;

async function refined(model: Rfmedsam2, slices: readonly TrainingSlice[], hear: Heard): Promise<void> {
  const output = drawnOutput(slices, expectDefined(slices[0], "a slice").width);
  const port = new ClipPort(model, slices);
  const heard: RefinementModel<FrameMemory> = {
    ...{ image: port.image, maskGrid: port.maskGrid, objectsAtOnce: port.objectsAtOnce },
    release: (memory) => port.release(memory),
    decode: async (requests) => {
      const answers = await port.decode(requests);
      hear(requests, answers);
      return answers;
    },
  };
  try {
    const { stageTwo } = await refineClip(output, heard, refinementPlanOf(model));
    const { refinement } = model.config;
    mergedClip(stageTwo, output, {
      maskGrid: model.sizes.maskGrid,
      ...{ arbiter: "prompter", acceptance: refinement },
    });
  } finally {
    port.dispose();
  }
}

async function notedQuestions(
  model: Rfmedsam2,
  slices: readonly TrainingSlice[],
): Promise<{ calls: NotedQuestion[][]; masks: Float32Array[] }> {
  const ids = new Map<FrameMemory, number>();
  const masks: Float32Array[] = [];
  const calls: NotedQuestion[][] = [];
  await refined(model, slices, (requests, answers) => {
    const call = requests.map(({ slice, prompt, memories }, index): NotedQuestion => {
      const box = expectDefined(prompt?.box ?? undefined, "a box");
      const id = ids.size;
      ids.set(expectDefined(answers[index], "an answer").memory, id);
      masks.push(expectDefined(prompt?.maskLogits ?? undefined, "a mask"));
      return {
        ...{ id, slice, mask: masks.length - 1 },
        box: [
          [box.x1, box.y1],
          [box.x2, box.y2],
        ],
        memories: memories.map(({ memory, slot, distance }) => ({
          of: expectDefined(ids.get(memory), "a memory of an answer"),
          ...{ slot, distance },
        })),
      };
    });
    calls.push(call);
  });
  return { calls, masks };
}
