// Where a plan of adapters takes hold of one SAM 2.1 model: every single adapter with its widths, under the name of the
// part that it follows. The order is that of the plan, and within a placement that of the model.

import { unreachable } from "../base/assert.ts";
import {
  AdapterError,
  type AdapterOrder,
  type AdapterPlan,
  type ImagePlacement,
  type ProjectionPlacement,
} from "./adapters.ts";
import type { Sam2Config } from "./sam2.ts";
import { hieraBlocks } from "./sam2-trunk.ts";

/** `name` is the official name of the part whose result an adapter changes, or of the linear layer that it updates. */
export type ImageAdapterPlace = {
  readonly name: string;
  readonly channels: number;
  /** Channels inside. */
  readonly width: number;
} & (
  | { readonly kind: "dwconv"; readonly order: AdapterOrder }
  | { readonly kind: "cnn" }
  | { readonly kind: "bottleneck" }
);

export type LoraPlace = {
  readonly kind: "lora";
  readonly name: string;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly rank: number;
  readonly scale: number;
};

export type AdapterPlace = ImageAdapterPlace | LoraPlace;

/** @throws AdapterError `adapters.plan-inconsistent` that names every width that does not divide its channels. */
export function adapterPlaces(plan: AdapterPlan, config: Sam2Config): AdapterPlace[] {
  const places = plan.flatMap((entry): AdapterPlace[] => {
    if (entry.kind === "lora") {
      const { kind, rank, alpha, placements } = entry;
      const targets = placements.flatMap((placement) => projections(placement, config));
      return targets.map((target) => ({ kind, ...target, rank, scale: alpha / rank }));
    }
    const { placements, width, ...kind } = entry;
    const targets = placements.flatMap((placement) => images(placement, config));
    return targets.map((target) => ({ ...kind, ...target, width: inside(width, target.channels) }));
  });
  const broken = places.filter((place) => place.kind !== "lora" && !Number.isInteger(place.width));
  if (broken.length === 0) return places;
  const names = broken.map(({ name }) => name).join(", ");
  const message = `The divisor of the adapters' width does not divide the channels of: ${names}.`;
  throw new AdapterError("adapters.plan-inconsistent", message);
}

type Width = Exclude<AdapterPlan[number], { kind: "lora" }>["width"];

function inside(width: Width, channels: number): number {
  return "divisor" in width ? channels / width.divisor : width.channels;
}

type Image = { readonly name: string; readonly channels: number };

function images(
  placement: ImagePlacement,
  { trunk, neck, memoryAttention, maskDecoder }: Sam2Config,
): Image[] {
  const { channels } = neck;
  switch (placement) {
    case "trunk-attention":
      return hieraBlocks(trunk).map(({ index, outChannels }) => ({
        name: `image_encoder.trunk.blocks.${index}.attn`,
        channels: outChannels,
      }));
    case "memory-self-attention":
      return named(
        memoryAttention.layerCount,
        (layer) => `memory_attention.layers.${layer}.self_attn`,
        channels,
      );
    case "memory-cross-attention":
      return named(
        memoryAttention.layerCount,
        (layer) => `memory_attention.layers.${layer}.cross_attn_image`,
        channels,
      );
    case "decoder-image-to-token":
      return named(
        maskDecoder.depth,
        (layer) => `sam_mask_decoder.transformer.layers.${layer}.cross_attn_image_to_token`,
        channels,
      );
    case "neck-lateral":
      // The neck counts from the lowest resolution, whose levels are the dropped ones.
      return named(trunk.stages.length, (level) => `image_encoder.neck.convs.${level}`, channels).slice(
        neck.scalp,
      );
    default:
      return unreachable(placement, "placement");
  }
}

function named(count: number, nameOf: (index: number) => string, channels: number): Image[] {
  return Array.from({ length: count }, (_, index) => ({ name: nameOf(index), channels }));
}

type Projection = Pick<LoraPlace, "name" | "inChannels" | "outChannels">;

function projections(placement: ProjectionPlacement, { trunk }: Sam2Config): Projection[] {
  return hieraBlocks(trunk).map(({ index, inChannels, outChannels }) => {
    const name = `image_encoder.trunk.blocks.${index}.attn`;
    switch (placement) {
      case "trunk-qkv":
        return { name: `${name}.qkv`, inChannels, outChannels: 3 * outChannels };
      case "trunk-proj":
        return { name: `${name}.proj`, inChannels: outChannels, outChannels };
      default:
        return unreachable(placement, "placement");
    }
  });
}
