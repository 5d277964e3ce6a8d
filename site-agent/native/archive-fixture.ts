// Writes zip archives for the tests of their reader, and what it is told to get wrong.

import { crc32, deflateRawSync } from "node:zlib";

export type FixtureEntry = {
  readonly name: string;
  readonly data?: Uint8Array | string;
  /** Overrides for hostile archives. */
  readonly method?: number;
  readonly flags?: number;
  readonly mode?: number;
  readonly crc32?: number;
  readonly byteLength?: number;
  readonly storedLength?: number;
  readonly localName?: string;
};

type Header = FixtureEntry & { readonly stored: Buffer; readonly bytes: Buffer; readonly offset: number };

export function archiveOf(entries: readonly FixtureEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const bytes = Buffer.from(entry.data ?? "");
    const stored = entry.method === 0 ? bytes : deflateRawSync(bytes);
    const header: Header = { ...entry, stored, bytes, offset };
    const local = Buffer.concat([localHeader(header), stored]);
    parts.push(local);
    directory.push(centralHeader(header));
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}

function localHeader({ name, localName = name, method = 8 }: Header): Buffer {
  const fixed = Buffer.alloc(30);
  fixed.writeUInt32LE(0x04034b50, 0);
  fixed.writeUInt16LE(method, 8);
  fixed.writeUInt16LE(Buffer.byteLength(localName), 26);
  return Buffer.concat([fixed, Buffer.from(localName)]);
}

function centralHeader(header: Header): Buffer {
  const { name, bytes, stored, offset, method = 8, flags = 0, mode = 0o100644 } = header;
  const fixed = Buffer.alloc(46);
  fixed.writeUInt32LE(0x02014b50, 0);
  fixed.writeUInt16LE(3 << 8, 4);
  fixed.writeUInt16LE(flags, 8);
  fixed.writeUInt16LE(method, 10);
  fixed.writeUInt32LE(header.crc32 ?? crc32(bytes), 16);
  fixed.writeUInt32LE(header.storedLength ?? stored.length, 20);
  fixed.writeUInt32LE(header.byteLength ?? bytes.length, 24);
  fixed.writeUInt16LE(Buffer.byteLength(name), 28);
  fixed.writeUInt32LE((mode << 16) >>> 0, 38);
  fixed.writeUInt32LE(offset, 42);
  return Buffer.concat([fixed, Buffer.from(name)]);
}
