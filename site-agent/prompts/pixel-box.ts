// Boxes round masks, in pixels of a slice. Corners are the outermost pixels of the mask, as in SAM 2's own training, so
// a box of one pixel has equal corners; the prompt encoder adds the half pixel.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { pixelsOf, type SliceSize } from "./slice-size.ts";

export type PixelBox = { readonly x1: number; readonly y1: number; readonly x2: number; readonly y2: number };

/** The smallest box round a mask [height, width]; null where the mask is empty. */
export function tightBox(mask: Uint8Array, { height, width }: SliceSize): PixelBox | null {
  let [x1, y1, x2, y2] = [width, height, -1, -1];
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    if (mask[pixel] === 0) continue;
    const x = pixel % width;
    const y = Math.floor(pixel / width);
    x1 = Math.min(x1, x);
    x2 = Math.max(x2, x);
    y1 = Math.min(y1, y);
    y2 = y;
  }
  return x2 < 0 ? null : { x1, y1, x2, y2 };
}

export type BoxMargin = { readonly share: number; readonly pixelsMin: number };

/** Inferred: the paper gives no margin; 2 % of the side and at least one pixel. */
export const PROMPTER_MARGIN: BoxMargin = { share: 0.02, pixelsMin: 1 };

/** The box with a margin on every side, inside the slice. */
export function widenedBox(box: PixelBox, { share, pixelsMin }: BoxMargin, size: SliceSize): PixelBox {
  const marginX = Math.max(pixelsMin, share * (box.x2 - box.x1 + 1));
  const marginY = Math.max(pixelsMin, share * (box.y2 - box.y1 + 1));
  return clippedBox(
    { x1: box.x1 - marginX, y1: box.y1 - marginY, x2: box.x2 + marginX, y2: box.y2 + marginY },
    size,
  );
}

export type BoxJitter = { readonly share: number; readonly pixelsMax: number };

/** SAM 2's training: up to a tenth of the side and 20 pixels of the model's image. */
export const SAM2_JITTER: BoxJitter = { share: 0.1, pixelsMax: 20 };

/** Every coordinate moved on its own, uniformly within the bounds, inside the slice (SAM 2, training/utils). */
export function jitteredBox(
  box: PixelBox,
  { share, pixelsMax }: BoxJitter,
  { size, prng }: { readonly size: SliceSize; readonly prng: Prng },
): PixelBox {
  const boundX = Math.min(share * (box.x2 - box.x1), pixelsMax);
  const boundY = Math.min(share * (box.y2 - box.y1), pixelsMax);
  const x1 = box.x1 + prng.uniform(-boundX, boundX);
  const y1 = box.y1 + prng.uniform(-boundY, boundY);
  const x2 = box.x2 + prng.uniform(-boundX, boundX);
  const y2 = box.y2 + prng.uniform(-boundY, boundY);
  return clippedBox({ x1, y1, x2, y2 }, size);
}

function clippedBox({ x1, y1, x2, y2 }: PixelBox, { height, width }: SliceSize): PixelBox {
  const within = (value: number, most: number): number => Math.min(Math.max(value, 0), most);
  return {
    x1: within(x1, width - 1),
    y1: within(y1, height - 1),
    x2: within(x2, width - 1),
    y2: within(y2, height - 1),
  };
}

/** The pixels whose centres a box covers, as a mask [height, width]: what a box says without any model. */
export function filledBox({ x1, y1, x2, y2 }: PixelBox, size: SliceSize): Uint8Array {
  const mask = new Uint8Array(pixelsOf(size));
  for (let y = Math.ceil(y1); y <= Math.floor(y2); y += 1) {
    mask.fill(1, y * size.width + Math.ceil(x1), y * size.width + Math.floor(x2) + 1);
  }
  return mask;
}

/**
 * Boxes of one slice painted as labels [height, width]: the baseline that every box-prompted model is measured against.
 * Where boxes overlap the smaller one is on top, because the larger one still shows round it.
 */
export function filledBoxLabels(
  boxes: readonly { readonly label: number; readonly box: PixelBox }[],
  size: SliceSize,
): Uint8Array {
  const area = ({ x1, y1, x2, y2 }: PixelBox): number => (x2 - x1 + 1) * (y2 - y1 + 1);
  const labels = new Uint8Array(pixelsOf(size));
  for (const { label, box } of [...boxes].sort((a, b) => area(b.box) - area(a.box) || a.label - b.label)) {
    filledBox(box, size).forEach((isIn, pixel) => {
      if (isIn === 1) labels[pixel] = label;
    });
  }
  return labels;
}
