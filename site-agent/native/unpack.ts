// Puts what a plan names from its archives into the package's folder, and nothing else of them.

import { mkdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { NativeError } from "./native-error.ts";
import type { Unpacking } from "./set-up-plan.ts";
import { type ArchiveEntry, extractEntry, openArchive } from "./zip-archive.ts";

/** Names under which the linker looks for the two libraries. */
const LINKER_NAMES = {
  "libtensorflow.so": "libtensorflow_cc.so.2",
  "libtensorflow_framework.so": "libtensorflow_framework.so.2",
} as const;

type Placed = { readonly entry: ArchiveEntry; readonly to: string };

/** Which entries go where. @throws NativeError native.archive when one is missing or all are too large */
export function placeEntries(
  entries: ReadonlyMap<string, ArchiveEntry>,
  { entries: wanted, folder, bytesMax }: Unpacking,
): Placed[] {
  const placed = Object.entries(wanted).map(([name, to]) => {
    const entry = entries.get(name);
    if (!entry) throw new NativeError("native.archive", `without ${name}`);
    return { entry, to };
  });
  if (folder) {
    for (const entry of entries.values()) {
      const isWanted = entry.name.startsWith(folder.from) && !entry.name.endsWith("/");
      if (!isWanted || entry.name.includes("/include/") || entry.name.endsWith(".py")) continue;
      placed.push({ entry, to: folder.to + entry.name.slice(folder.from.length) });
    }
  }
  const bytes = placed.reduce((sum, { entry }) => sum + entry.byteLength, 0);
  if (placed.length === 0 || bytes > bytesMax) throw new NativeError("native.archive", `${bytes} bytes`);
  return placed;
}

/** @throws NativeError native.archive */
export async function unpackArchive(
  store: string,
  unpacking: Unpacking,
  packageFolder: string,
): Promise<void> {
  const archive = await openArchive(join(store, unpacking.file.fileName));
  const made = new Set<string>();
  for (const { entry, to } of placeEntries(archive.entries, unpacking)) {
    const path = join(packageFolder, to);
    await mkdir(dirname(path), { recursive: true });
    if (made.has(to)) throw new NativeError("native.archive", "one place for two entries");
    made.add(to);
    await extractEntry(archive, entry, path);
  }
}

/** The linker's names for the libraries. */
export async function linkLibraries(packageFolder: string): Promise<void> {
  const folder = join(packageFolder, "deps/lib");
  for (const [name, target] of Object.entries(LINKER_NAMES)) await symlink(target, join(folder, name));
}
