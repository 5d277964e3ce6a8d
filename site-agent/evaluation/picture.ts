// A slice as a picture for the site's own eyes: intensities in grey, the outlines of truth and prediction in each
// label's colour, truth drawn solid and prediction dashed in a paler tone. It carries no text.

import { percentiles } from "../data/percentile.ts";
import type { RgbPicture } from "./png.ts";

export interface LabelledBox {
  readonly label: number;
  readonly box: { readonly x1: number; readonly y1: number; readonly x2: number; readonly y2: number };
}

export interface PictureSource {
  readonly width: number;
  readonly height: number;
  /** [height, width]. */
  readonly intensities: Float32Array;
  readonly truth: Uint8Array | null;
  readonly prediction: Uint8Array | null;
  /** Boxes round objects, in voxels with their last ones included, drawn in their labels' colours. */
  readonly boxes?: readonly LabelledBox[];
  /** Screen pixels along each edge of a voxel. */
  readonly magnification: number;
}

/** Distinct on grey, also for most colour-blind readers (Okabe and Ito 2008, black left out). */
const COLOURS: readonly (readonly [number, number, number])[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [0, 114, 178],
  [213, 94, 0],
  [204, 121, 167],
];
/** Share of intensities that are shown pure black, and pure white. */
const SATURATED_SHARE = 0.01;
const DASH_PIXELS = 3;
const PALE = 0.45;

export function renderSlice(source: PictureSource): RgbPicture {
  const { magnification, truth, prediction } = source;
  const picture: RgbPicture = {
    width: source.width * magnification,
    height: source.height * magnification,
    pixels: greyPixels(source),
  };
  if (truth) drawOutlines(picture, source, { labels: truth, isDashed: false });
  if (prediction) drawOutlines(picture, source, { labels: prediction, isDashed: true });
  for (const box of source.boxes ?? []) drawBox(picture, box, magnification);
  return picture;
}

/** Pictures beside each other, top edges in line, on black. */
export function sideBySide(pictures: readonly RgbPicture[], gap = 4): RgbPicture {
  const width =
    pictures.reduce((sum, picture) => sum + picture.width, 0) + gap * Math.max(0, pictures.length - 1);
  const height = Math.max(0, ...pictures.map((picture) => picture.height));
  const pixels = new Uint8Array(width * height * 3);
  let left = 0;
  for (const picture of pictures) {
    for (let row = 0; row < picture.height; row += 1) {
      const from = row * picture.width * 3;
      pixels.set(picture.pixels.subarray(from, from + picture.width * 3), (row * width + left) * 3);
    }
    left += picture.width + gap;
  }
  return { width, height, pixels };
}

function greyPixels({ width, height, intensities, magnification }: PictureSource): Uint8Array {
  const [low = 0, high = 1] = percentiles(intensities, [SATURATED_SHARE, 1 - SATURATED_SHARE]);
  const range = Math.max(high - low, 1e-12);
  const across = width * magnification;
  const pixels = new Uint8Array(across * height * magnification * 3);
  for (let pixel = 0; pixel * 3 < pixels.length; pixel += 1) {
    const row = Math.floor(Math.floor(pixel / across) / magnification);
    const column = Math.floor((pixel % across) / magnification);
    const grey = (255 * ((intensities[row * width + column] ?? 0) - low)) / range;
    pixels.fill(Math.max(0, Math.min(255, Math.round(grey))), pixel * 3, pixel * 3 + 3);
  }
  return pixels;
}

/** Colours the screen pixels inside a label that touch another label. */
function drawOutlines(
  picture: RgbPicture,
  { width, height, magnification }: PictureSource,
  { labels, isDashed }: { labels: Uint8Array; isDashed: boolean },
): void {
  const labelAt = (x: number, y: number): number => {
    const column = Math.floor(x / magnification);
    const row = Math.floor(y / magnification);
    return column < 0 || row < 0 || column >= width || row >= height
      ? 0
      : (labels[row * width + column] ?? 0);
  };
  for (let y = 0; y < picture.height; y += 1) {
    for (let x = 0; x < picture.width; x += 1) {
      const label = labelAt(x, y);
      if (label === 0) continue;
      const isInner =
        labelAt(x - 1, y) === label &&
        labelAt(x + 1, y) === label &&
        labelAt(x, y - 1) === label &&
        labelAt(x, y + 1) === label;
      if (isInner || (isDashed && Math.floor((x + y) / DASH_PIXELS) % 2 === 1)) continue;
      picture.pixels.set(colourOf(label, isDashed), (y * picture.width + x) * 3);
    }
  }
}

/** Along the outer edge of the voxels at its borders. */
function drawBox(picture: RgbPicture, { label, box }: LabelledBox, magnification: number): void {
  const inside = (value: number, size: number): number => Math.max(0, Math.min(size - 1, value));
  const left = inside(Math.floor(box.x1 * magnification), picture.width);
  const right = inside(Math.ceil((box.x2 + 1) * magnification) - 1, picture.width);
  const top = inside(Math.floor(box.y1 * magnification), picture.height);
  const bottom = inside(Math.ceil((box.y2 + 1) * magnification) - 1, picture.height);
  const paint = (x: number, y: number): void =>
    picture.pixels.set(colourOf(label, false), (y * picture.width + x) * 3);
  for (let x = left; x <= right; x += 1) {
    paint(x, top);
    paint(x, bottom);
  }
  for (let y = top; y <= bottom; y += 1) {
    paint(left, y);
    paint(right, y);
  }
}

function colourOf(label: number, isPale: boolean): number[] {
  const colour = COLOURS[(label - 1) % COLOURS.length] ?? [255, 255, 255];
  return isPale ? colour.map((value) => Math.round(value + PALE * (255 - value))) : [...colour];
}
