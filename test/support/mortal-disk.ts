// A disk that stops serving after a number of calls, as the disk of a process that dies does: the call it dies in is
// not done, or half done where it writes. What was done before stays.

import { type Disk, nodeDisk } from "../../site-agent/store/disk.ts";

export class ProcessDied extends Error {
  override name = "ProcessDied";
}

export type MortalDisk = Disk & { readonly calls: () => number };

/** @param diesAtCall 1 for the first call; writes of that call get half of their bytes through. */
export function mortalDisk(diesAtCall: number): MortalDisk {
  let calls = 0;
  const step = async (act: () => Promise<void>, half?: () => Promise<void>): Promise<void> => {
    calls += 1;
    if (calls < diesAtCall) return act();
    if (calls === diesAtCall) await half?.();
    throw new ProcessDied("the process has died");
  };
  const halfOf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, Math.ceil(bytes.length / 2));
  return {
    calls: () => calls,
    write: (path, bytes) =>
      step(
        () => nodeDisk.write(path, bytes),
        () => nodeDisk.write(path, halfOf(bytes)),
      ),
    append: (path, bytes) =>
      step(
        () => nodeDisk.append(path, bytes),
        () => nodeDisk.append(path, halfOf(bytes)),
      ),
    truncate: (path, length) => step(() => nodeDisk.truncate(path, length)),
    syncFile: (path) => step(() => nodeDisk.syncFile(path)),
    syncFolder: (path) => step(() => nodeDisk.syncFolder(path)),
    rename: (from, to) => step(() => nodeDisk.rename(from, to)),
    remove: (path) => step(() => nodeDisk.remove(path)),
  };
}
