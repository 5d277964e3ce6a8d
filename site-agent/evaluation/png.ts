// Encodes an RGB picture as a PNG file (ISO/IEC 15948): one IHDR, one IDAT without row filters, one IEND. Writing only.

import { crc32, deflateSync } from "node:zlib";
import { assert } from "@consilium/shared/base/assert.ts";

/** 8 bits per sample, [height, width, 3]. */
export interface RgbPicture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const BIT_DEPTH = 8;
const TRUECOLOUR = 2;

export function encodePng({ width, height, pixels }: RgbPicture): Uint8Array {
  assert(pixels.length === width * height * 3, "a picture has three samples per pixel");
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, BIT_DEPTH);
  header.setUint8(9, TRUECOLOUR);
  const rows = new Uint8Array(height * (1 + width * 3)); // Each row begins with its filter type, 0.
  for (let row = 0; row < height; row += 1) {
    rows.set(pixels.subarray(row * width * 3, (row + 1) * width * 3), row * (1 + width * 3) + 1);
  }
  return Buffer.concat([
    SIGNATURE,
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(body.length + 8);
  frame.writeUInt32BE(data.length, 0);
  frame.set(body, 4);
  frame.writeUInt32BE(crc32(body), body.length + 4);
  return frame;
}
