// Brings each pinned file into the project's store of downloads. A file that is there with the right digest is not fetched
// again; one with another digest never gets there. A file is whole in the store or not there at all.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { NativeError } from "./native-error.ts";
import type { PinnedFile } from "./pinned-files.ts";
import { fetchCommand, type RegistryClients } from "./registry-clients.ts";
import type { RunCommand } from "./run-command.ts";

const FOLDER_DEPTH_MAX = 8;
const PROGRESS_MS = 3000;

/** Calls back at an interval until the returned function is called. */
export type Ticker = (intervalMs: number, tick: () => void) => () => void;

export type FetchTools = {
  readonly run: RunCommand;
  readonly print: (line: string) => void;
  readonly ticker: Ticker;
};

export async function hasDigest(path: string, { digest }: PinnedFile): Promise<boolean> {
  if (!(await isFile(path))) return false;
  const hash = createHash(digest.algorithm);
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return hash.digest("hex") === digest.hex;
}

export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false;
}

/**
 * Take what a person has brought into the store.
 * @param from one archive under any name, or a folder with files under their own names
 * @throws NativeError native.from, native.digest
 */
export async function takeBrought(
  from: string,
  { known, store, work }: { known: readonly PinnedFile[]; store: string; work: string },
): Promise<PinnedFile[]> {
  const found = await stat(from).catch(() => null);
  if (found?.isFile()) {
    for (const file of known) {
      if (!(await hasDigest(from, file))) continue;
      await intoStore({ path: from, file, store, work });
      return [file];
    }
    throw new NativeError("native.digest", basename(from));
  }
  if (!found?.isDirectory()) throw new NativeError("native.from");
  const taken: PinnedFile[] = [];
  for (const file of known) {
    const path = join(from, file.fileName);
    if (!(await isFile(path))) continue;
    if (!(await hasDigest(path, file))) throw new NativeError("native.digest", file.fileName);
    await intoStore({ path, file, store, work });
    taken.push(file);
  }
  return taken;
}

type Arrival = {
  readonly path: string;
  readonly file: PinnedFile;
  readonly store: string;
  readonly work: string;
};

/** A copy that is renamed, and looked at again after copying. */
async function intoStore({ path, file, store, work }: Arrival): Promise<void> {
  const target = join(store, file.fileName);
  if (await hasDigest(target, file)) return;
  const copy = join(work, file.fileName);
  await copyFile(path, copy);
  if (!(await hasDigest(copy, file))) throw new NativeError("native.digest", file.fileName);
  await rename(copy, target);
}

/** Those that the store does not have, whole and right. What is damaged is removed from it. */
export async function missingFiles(files: readonly PinnedFile[], store: string): Promise<PinnedFile[]> {
  const missing: PinnedFile[] = [];
  for (const file of files) {
    const path = join(store, file.fileName);
    if (await hasDigest(path, file)) continue;
    await rm(path, { force: true });
    missing.push(file);
  }
  return missing;
}

/**
 * Fetch one file through its registry's client.
 * @throws NativeError native.no-client, native.no-tool, native.download, native.digest
 */
export async function fetchFile(
  file: PinnedFile,
  { store, work, clients }: { store: string; work: string; clients: RegistryClients },
  { run, print, ticker }: FetchTools,
): Promise<void> {
  const folder = join(work, `fetch-${file.fileName}`);
  await mkdir(folder, { recursive: true });
  const command = fetchCommand(file, clients, folder);
  if (!command) throw new NativeError("native.no-client", file.registry);
  print(`Fetching ${file.fileName} (${file.megabytes} MB) with ${file.registry} ...`);
  const stopTicking = ticker(PROGRESS_MS, () => {
    void folderBytes(folder).then((bytes) => {
      // Clients may hold a file twice while they put it down.
      print(`  ${Math.min(Math.round(bytes / 1e6), file.megabytes)} of ${file.megabytes} MB`);
    });
  });
  try {
    const { outcome, output } = await run(command);
    if (outcome === "missing") throw new NativeError("native.no-tool", command.program);
    if (outcome === "failed") {
      print(output.trim());
      throw new NativeError("native.download", file.fileName);
    }
    const arrived = join(folder, file.fileName);
    if (!(await isFile(arrived))) throw new NativeError("native.download", file.fileName);
    if (!(await hasDigest(arrived, file))) throw new NativeError("native.digest", file.fileName);
    await rename(arrived, join(store, file.fileName));
  } finally {
    stopTicking();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What lies below a folder now; files that vanish while it is counted count nothing. */
async function folderBytes(folder: string, depth = 0): Promise<number> {
  if (depth > FOLDER_DEPTH_MAX) return 0;
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) bytes += await folderBytes(path, depth + 1);
    else bytes += (await stat(path).catch(() => null))?.size ?? 0;
  }
  return bytes;
}
