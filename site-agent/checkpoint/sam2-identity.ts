// Which SAM 2 a checkpoint is: its size from the shapes of the trunk, its release from one tensor that came with 2.1,
// and, by SHA-256, whether it is one of the published files. Nothing is refused here: a fine-tuned file is unknown, and
// a model of another size has no variant.

import { publishedSam2 } from "@consilium/shared/model/sam2-published.ts";
import { type Sam2VariantName, sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import type { StoredTensors } from "./stored-tensor.ts";

export type Sam2Release = "2.0" | "2.1";

/** Null where the trunk is of no size that this system knows, or where there is no SAM 2 in the file. */
export type Sam2Identity = {
  readonly variant: Sam2VariantName | null;
  readonly release: Sam2Release | null;
  /** Name of the published file, or null. */
  readonly published: string | null;
};

const TRUNK = "image_encoder.trunk.";
const BLOCK = /^image_encoder\.trunk\.blocks\.([0-9]+)\./;

/** @param tensors under their original names */
export function sam2Identity(tensors: StoredTensors, sha256: string): Sam2Identity {
  const published = publishedSam2(sha256);
  const width = tensors.get(`${TRUNK}patch_embed.proj.weight`)?.shape[0];
  if (width === undefined) return { variant: null, release: null, published };
  const blocks = new Set([...tensors.keys()].flatMap((name) => BLOCK.exec(name)?.[1] ?? [])).size;
  const release = tensors.has("no_obj_embed_spatial") ? "2.1" : "2.0";
  return { variant: variantOf(width, blocks), release, published };
}

/** The variant of this embedding width and number of blocks, which tell all of them apart. */
function variantOf(width: number, blocks: number): Sam2VariantName | null {
  const names = Object.keys(sam2Variants) as Sam2VariantName[]; // Object.keys forgets the key type.
  const blocksOf = (name: Sam2VariantName): number =>
    sam2Variants[name].trunk.stages.reduce((sum, count) => sum + count, 0);
  return (
    names.find((name) => sam2Variants[name].trunk.embedDim === width && blocksOf(name) === blocks) ?? null
  );
}

/** One line for people: `known: sam2.1_hiera_tiny`, or `unknown` with what can be seen of it. */
export function describeIdentity({ variant, release, published }: Sam2Identity): string {
  if (published !== null) return `known: ${published}`;
  if (release === null) return "unknown: no image encoder of SAM 2";
  return `unknown: SAM ${release}, ${variant === null ? "of no known size" : `size of ${variant}`}`;
}
