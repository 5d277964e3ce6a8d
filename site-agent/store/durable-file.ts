// Replacing a small file so that after a crash either the old or the new content is there, whole. It refuses nothing:
// what the bytes mean is the caller's business.

import { dirname } from "node:path";
import { type Disk, nodeDisk } from "./disk.ts";

/** Write beside the target, fsync, rename over it, fsync the folder. */
export async function replaceFile(path: string, bytes: Uint8Array, disk: Disk = nodeDisk): Promise<void> {
  const temporary = `${path}.new`;
  await disk.write(temporary, bytes);
  await disk.syncFile(temporary);
  await disk.rename(temporary, path);
  await disk.syncFolder(dirname(path));
}
