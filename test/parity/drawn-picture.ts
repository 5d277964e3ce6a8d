// The goldens' picture by formula: three scales of noise and a disc (their README, "Numbers by formula").

import { fnv1a, mix } from "../golden/hash-values.ts";

/** [height, width, 3], 0 to 255. */
export function drawnPicture(tag: string, height: number, width: number): Uint8Array {
  const seed = fnv1a(`image${tag}`);
  const disc = {
    row: Math.floor((height * (3 + (seed % 3))) / 8),
    column: Math.floor((width * (3 + ((seed >>> 8) % 3))) / 8),
    radius: Math.floor((Math.min(height, width) * 5) / 16),
  };
  const noise = (scale: number, channel: number, row: number, column: number): number => {
    const place = (Math.imul(row, 4099) + column) * 7 + channel;
    return mix((Math.imul(place, 0x9e3779b1) + seed + Math.imul(scale, 0x01000193)) >>> 0) & 255;
  };
  const picture = new Uint8Array(height * width * 3);
  for (let index = 0; index < picture.length; index += 1) {
    const channel = index % 3;
    const [row, column] = [Math.floor(index / 3 / width), Math.floor(index / 3) % width];
    const coarse = 2 * noise(0, channel, row >> 5, column >> 5);
    const value = (coarse + noise(1, channel, row >> 3, column >> 3) + noise(2, channel, row, column)) >> 2;
    const inside = (column - disc.column) ** 2 + (row - disc.row) ** 2 < disc.radius ** 2;
    picture[index] = Math.min(255, Math.max(0, value + (inside ? 70 - 30 * channel : 0)));
  }
  return picture;
}
