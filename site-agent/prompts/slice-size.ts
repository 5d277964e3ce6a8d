// Sizes of slices and volumes in pixels, and where a pixel lies in its array: rows from the top, slices one after another.

/** One slice; arrays over it are [height, width]. */
export type SliceSize = { readonly height: number; readonly width: number };

/** A stack of slices; arrays over it are [depth, height, width]. */
export type StackSize = SliceSize & { readonly depth: number };

export function pixelsOf({ height, width }: SliceSize): number {
  return height * width;
}
