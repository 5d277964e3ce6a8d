// Which SAM 2 a checkpoint is: its size from the shapes of the trunk, its release from one tensor that came with 2.1,
// and, by SHA-256, whether it is one of the published files. Nothing is refused here: a fine-tuned file is unknown, and
// a model of another size has no variant.

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

/** SHA-256 of the .pt files that Meta published, as mirrors of them state. */
const PUBLISHED: ReadonlyMap<string, string> = new Map([
  ["7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", "sam2.1_hiera_tiny"],
  ["6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", "sam2.1_hiera_small"],
  ["a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", "sam2.1_hiera_base_plus"],
  ["2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", "sam2.1_hiera_large"],
]);

const TRUNK = "image_encoder.trunk.";
const BLOCK = /^image_encoder\.trunk\.blocks\.([0-9]+)\./;

/** @param tensors under their original names */
export function sam2Identity(tensors: StoredTensors, sha256: string): Sam2Identity {
  const published = PUBLISHED.get(sha256) ?? null;
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
