// Which adapters a SAM 2.1 model is given, as a record: kinds, widths and places. It computes no image and lists no
// tensor. Sources: Xie et al. 2025 (RFMedSAM 2) for convolutional adapters; Houlsby et al. 2019 for the bottleneck; Hu et
// al. 2022 for low-rank updates. Inferred: RFMedSAM 2 names the parts that have adapters and the layers of one; their
// widths, their start and the exact places are not published, and are this record's choices.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";

const closed = { additionalProperties: false };
const ENTRIES_MAX = 8;

/** Channels inside an adapter: a number, or the channels of its image divided by one. */
const Width = Type.Union([
  Type.Object({ divisor: Type.Integer({ minimum: 1, maximum: 64 }) }, closed),
  Type.Object({ channels: Type.Integer({ minimum: 1, maximum: 4096 }) }, closed),
]);

/** Places where an adapter is given a whole image [B, H, W, C]: the result of an attention, or a level of the neck. */
const ImagePlacement = Type.Union([
  Type.Literal("trunk-attention"),
  Type.Literal("memory-self-attention"),
  Type.Literal("memory-cross-attention"),
  Type.Literal("decoder-image-to-token"),
  Type.Literal("neck-lateral"),
]);
export type ImagePlacement = Static<typeof ImagePlacement>;
const ImagePlacements = Type.Array(ImagePlacement, { minItems: 1, maxItems: 5, uniqueItems: true });

/** Linear layers of the trunk's attention that a low-rank update is added to. */
const ProjectionPlacement = Type.Union([Type.Literal("trunk-qkv"), Type.Literal("trunk-proj")]);
export type ProjectionPlacement = Static<typeof ProjectionPlacement>;

/** `inner-residual`: the depth-wise convolution is a branch beside the bottleneck, not a step within it. */
const Order = Type.Union([Type.Literal("sequential"), Type.Literal("inner-residual")]);
export type AdapterOrder = Static<typeof Order>;

const AdapterEntry = Type.Union([
  Type.Object(
    { kind: Type.Literal("dwconv"), width: Width, order: Order, placements: ImagePlacements },
    closed,
  ),
  Type.Object({ kind: Type.Literal("cnn"), width: Width, placements: ImagePlacements }, closed),
  Type.Object({ kind: Type.Literal("bottleneck"), width: Width, placements: ImagePlacements }, closed),
  Type.Object(
    {
      kind: Type.Literal("lora"),
      rank: Type.Integer({ minimum: 1, maximum: 256 }),
      /** The update is scaled by alpha / rank. */
      alpha: Type.Number({ exclusiveMinimum: 0, maximum: 1024 }),
      placements: Type.Array(ProjectionPlacement, { minItems: 1, maxItems: 2, uniqueItems: true }),
    },
    closed,
  ),
]);

/** A place belongs to one entry at most. */
export const AdapterPlan = Type.Array(AdapterEntry, { minItems: 1, maxItems: ENTRIES_MAX });
export type AdapterPlan = Static<typeof AdapterPlan>;

export type AdapterErrorCode = "adapters.plan-malformed" | "adapters.plan-inconsistent";

export class AdapterError extends Error {
  override name = "AdapterError";
  readonly code: AdapterErrorCode;

  constructor(code: AdapterErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** @throws AdapterError that names every fault at once. */
export function parseAdapterPlan(value: unknown): AdapterPlan {
  if (!Value.Check(AdapterPlan, value)) {
    const faults = Value.Errors(AdapterPlan, value).map((error) => `${error.instancePath} ${error.message}`);
    throw new AdapterError("adapters.plan-malformed", `Not a plan of adapters: ${faults.join("; ")}.`);
  }
  const places: string[] = value.flatMap(({ placements }) => [...placements]);
  const repeated = [...new Set(places.filter((place, index) => places.indexOf(place) !== index))];
  if (repeated.length === 0) return value;
  const message = `Give each of these places one adapter only: ${repeated.join(", ")}.`;
  throw new AdapterError("adapters.plan-inconsistent", message);
}

/**
 * RFMedSAM 2: depth-wise convolutional adapters behind the attention over image embeddings in trunk, memory attention and
 * mask decoder, and convolutional ones in the neck. Inferred: a quarter of the channels inside, as in the same authors'
 * MaskSAM, and the steps of a depth-wise adapter one after another.
 */
export const RFMEDSAM2_ADAPTERS: AdapterPlan = [
  {
    kind: "dwconv",
    width: { divisor: 4 },
    order: "sequential",
    placements: [
      "trunk-attention",
      "memory-self-attention",
      "memory-cross-attention",
      "decoder-image-to-token",
    ],
  },
  { kind: "cnn", width: { divisor: 4 }, placements: ["neck-lateral"] },
];
