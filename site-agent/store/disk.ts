// The port through which the stores touch the disk, one system call's worth at a time, so that a test can end the
// process between any two of them. It knows nothing of what the files mean.

import { open, rename, rm, truncate } from "node:fs/promises";

export type Disk = {
  /** Create or replace a file readable by its owner alone. Not durable before `syncFile`. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  /** Not durable before `syncFile`. */
  append(path: string, bytes: Uint8Array): Promise<void>;
  truncate(path: string, length: number): Promise<void>;
  syncFile(path: string): Promise<void>;
  /** Makes creations, renamings and removals inside a folder durable. */
  syncFolder(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** A file that is not there is no fault. */
  remove(path: string): Promise<void>;
};

const ownerOnly = 0o600;

export const nodeDisk: Disk = {
  write: async (path, bytes) => {
    await using file = await open(path, "w", ownerOnly);
    await file.writeFile(bytes);
  },
  append: async (path, bytes) => {
    await using file = await open(path, "a", ownerOnly);
    await file.writeFile(bytes);
  },
  truncate: (path, length) => truncate(path, length),
  syncFile: async (path) => {
    await using file = await open(path, "r+");
    await file.sync();
  },
  syncFolder: async (path) => {
    if (process.platform === "win32") return; // Windows opens no folders; NTFS journals its names by itself.
    await using folder = await open(path, "r");
    await folder.sync();
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { force: true }),
};
