// The package's folder in node_modules: assembled beside its place, moved there whole, and moved out again where it does
// not work. Nothing else in node_modules is touched; package.json and the lock file are not read by this.

import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ADDON } from "./compile-addon.ts";
import { isFile } from "./fetch-files.ts";
import { NativeError } from "./native-error.ts";
import type { RunCommand } from "./run-command.ts";
import type { SetUpPlan } from "./set-up-plan.ts";

/** Says what the folder was made of. */
const MARKER = "consilium-native.txt";

/** The one function that the package uses of a tool for downloads with fifty packages of its own. */
const FINDER = `"use strict";
// Stands in for @mapbox/node-pre-gyp, of which the package asks only where its addon is. Written by npm run setup:native.
const path = require("node:path");
exports.find = (manifest) => path.join(path.dirname(manifest), ${JSON.stringify(ADDON)});
`;

export const markerOf = (packageFolder: string): Promise<string | null> =>
  readFile(join(packageFolder, MARKER), "utf8").catch(() => null);

export const writeMarker = (packageFolder: string, fingerprint: string): Promise<void> =>
  writeFile(join(packageFolder, MARKER), fingerprint);

/**
 * The package, what it requires at run time, and the stand-in for its finder, without running any of their scripts.
 * @throws NativeError native.no-tool, native.archive
 */
export async function assemblePackage(
  plan: SetUpPlan,
  { store, packageFolder, run }: { store: string; packageFolder: string; run: RunCommand },
): Promise<void> {
  await unpackTarball(join(store, plan.nodePackage.fileName), packageFolder, run);
  const modules = join(packageFolder, "node_modules");
  for (const [name, { fileName }] of Object.entries(plan.dependencies)) {
    await unpackTarball(join(store, fileName), join(modules, name), run);
  }
  const finder = join(modules, "@mapbox/node-pre-gyp");
  await mkdir(finder, { recursive: true });
  await writeFile(join(finder, "index.js"), FINDER);
}

/** A tarball of npm's, whose digest was checked. */
export async function unpackTarball(tarball: string, folder: string, run: RunCommand): Promise<void> {
  await mkdir(folder, { recursive: true });
  const args = ["-xzf", tarball, "-C", folder, "--strip-components=1", "--no-same-owner"];
  const { outcome } = await run({ program: "tar", args });
  if (outcome === "missing") throw new NativeError("native.no-tool", "tar");
  if (outcome === "failed") throw new NativeError("native.archive", "tar");
}

const previousOf = (place: string): string => join(dirname(place), `.${basename(place)}.previous`);

/** Put a finished folder into its place; what was there waits beside it until it is settled. */
export async function installPackage(made: string, place: string): Promise<void> {
  await recoverPlace(place);
  await rename(place, previousOf(place)).catch(ignoreAbsence);
  await rename(made, place);
}

/** It works: what was there before is gone. */
export const settlePackage = (place: string): Promise<void> =>
  rm(previousOf(place), { recursive: true, force: true });

/** It does not work: what was there before is back. */
export async function withdrawPackage(place: string): Promise<void> {
  await rm(place, { recursive: true, force: true });
  await rename(previousOf(place), place).catch(ignoreAbsence);
}

/** After a run that was killed: what it had moved aside is moved back, unless something whole is in the place. */
export async function recoverPlace(place: string): Promise<void> {
  if (await isFile(join(place, "package.json"))) await settlePackage(place);
  else await withdrawPackage(place);
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}

/**
 * Remove what runs that no longer live have left in a folder.
 * @param isAlive whether a process has this number
 */
export async function removeLeftovers(
  folder: string,
  prefix: string,
  isAlive: (processId: number) => boolean,
): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const processId = name.startsWith(prefix) ? Number(name.slice(prefix.length)) : Number.NaN;
    if (!Number.isInteger(processId) || isAlive(processId)) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
}
