// SAM 2.1 tiny with adapters as both sides have it: its record, weights in a file under PyTorch's names, and drawn objects.

import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor } from "@consilium/shared/encoding/tensor-bundle.ts";
import { adapterParameters } from "@consilium/shared/model/adapters-parameters.ts";
import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { PlainConvUNetConfig } from "@consilium/shared/model/plain-conv-unet.ts";
import { parseRfmedsam2Config, type Rfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { draftRfmedsam2Config } from "@consilium/shared/model/rfmedsam2-draft.ts";
import { initialPartWeights } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants, withImageSize } from "@consilium/shared/model/sam2-variants.ts";
import type { PixelBox } from "../../site-agent/prompts/pixel-box.ts";
import { readFloats, writeFloats } from "./environment.ts";

export const SEED = 1;
/** The package's own record of the model. */
export const PUBLISHED = "sam2.1_hiera_t.yaml";
/** Adapters begin at zero, where most of their tensors have no gradient. */
const ADAPTER_NOISE = 0.02;
/** The object counts as there: what does not is not drawn. */
const PRESENT_LOGIT = 5;
const PRESENCE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias";

/** The choice of a more stable mask is left out: it may fall otherwise where two are nearly alike. */
export function tinyConfig(
  pixels: number,
  prompter: PlainConvUNetConfig,
  changes: Partial<Rfmedsam2Config>,
): Rfmedsam2Config {
  const normalisation = { kind: "zscore" } as const;
  const size = { variant: "tiny", imageSize: pixels, trains: "adapters" } as const;
  const tiny = withImageSize(sam2Variants.tiny, pixels);
  return parseRfmedsam2Config({
    ...draftRfmedsam2Config({ ...size, prompter, normalisation }),
    sam2: { ...tiny, maskDecoder: { ...tiny.maskDecoder, dynamicMultimask: null } },
    ...changes,
  });
}

export function adapterSpecs(config: Rfmedsam2Config): ParameterSpec[] {
  return adapterParameters(config.adapters, sam2Of(config));
}

export function divisorOf({ adapters }: Rfmedsam2Config): number {
  const [first] = adapters;
  if (first?.kind !== "dwconv" || !("divisor" in first.width)) throw new Error("adapters of another kind");
  return first.width.divisor;
}

/** SAM 2 and its adapters, as the package names them. */
export async function writeTinyWeights(folder: string, config: Rfmedsam2Config): Promise<void> {
  const noise = Prng.labelled(SEED, "adapters against PyTorch");
  const weights = new Map([
    ...initialPartWeights(config, "sam2", SEED),
    [PRESENCE, Float32Array.of(PRESENT_LOGIT)],
    ...[...initialPartWeights(config, "adapters", SEED)].map(
      ([name, values]) =>
        [name, values.map((value) => value + noise.uniform(-ADAPTER_NOISE, ADAPTER_NOISE))] as const,
    ),
  ]);
  const specs = [...sam2Parameters(sam2Of(config)), ...adapterSpecs(config)];
  await writeFloats(
    join(folder, "weights.safetensors"),
    specs.map(({ name, shape }) => float32Tensor(name, shape, expectDefined(weights.get(name), name))),
  );
}

/** Of all parts, under our names; the prompter's are initial ones. */
export async function tinyWeights(
  folder: string,
  config: Rfmedsam2Config,
): Promise<Map<string, Float32Array>> {
  const given = await readFloats(join(folder, "weights.safetensors"));
  const part = (name: string): string => (name.includes(".adapter.") ? "adapters" : "sam2");
  return new Map([
    ...[...initialPartWeights(config, "prompter", SEED)].map(
      ([name, values]) => [`prompter.${name}`, values] as const,
    ),
    ...[...given].map(([name, values]) => [`${part(name)}.${name}`, values] as const),
  ]);
}

/** In pixels of the image. */
export type Ellipse = {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
};

export function boxOf({ x, y, width, height }: Ellipse): PixelBox {
  return { x1: x - width / 2, y1: y - height / 2, x2: x + width / 2, y2: y + height / 2 };
}

/** 1 within, 0 elsewhere, on a grid of cells with this side. */
export function drawn({ x, y, width, height }: Ellipse, side: number, cell: number): Float32Array {
  return Float32Array.from({ length: side * side }, (_, index) => {
    const [column, row] = [index % side, Math.floor(index / side)];
    const across = (2 * ((column + 0.5) * cell - x)) / width;
    const down = (2 * ((row + 0.5) * cell - y)) / height;
    return across ** 2 + down ** 2 <= 1 ? 1 : 0;
  });
}
