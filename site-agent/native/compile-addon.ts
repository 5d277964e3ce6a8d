// Compiles the two sources of the package's addon against TensorFlow's C interface, with one call of the compiler: no
// node-gyp, no make, no Python; and with another call our own kernels. Both addons find their libraries beside themselves,
// wherever the project lies.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { KERNELS_ADDON } from "../backend/kernels-addon.ts";
import { NativeError } from "./native-error.ts";
import { type Command, firstPresent, type RunCommand } from "./run-command.ts";

/** Of the interface between addons and Node; every supported Node has it. */
const NAPI_VERSION = 8;
/** Where the package's own lookup expects the addon. */
export const ADDON = `lib/napi-v${NAPI_VERSION}/tfjs_binding.node`;
const COMPILERS = ["g++", "c++", "clang++"];
/** For archives that bring no headers. */
const DECLARATIONS = fileURLToPath(new URL("./c-interface", import.meta.url));
/** Of our kernels, whose loops choose their instructions when they are loaded: what was built here runs elsewhere too. */
const KERNEL_SOURCES = fileURLToPath(new URL("./kernels", import.meta.url));
/** Which is no part of the addon. */
const TEST_PROGRAM = "check-loops.cc";
const FINDS_ITS_LIBRARIES = "-Wl,-rpath,$ORIGIN/../../deps/lib";

/** @param wish the value of CXX, which comes first. @throws NativeError native.no-compiler */
export async function findCompiler(wish: string | undefined, run: RunCommand): Promise<string> {
  const candidates = wish ? [wish, ...COMPILERS] : COMPILERS;
  const found = await firstPresent(candidates, ["--version"], run);
  if (!found) throw new NativeError("native.no-compiler");
  return found;
}

export type Compilation = {
  readonly compiler: string;
  readonly packageFolder: string;
  /** With node_api.h in it. */
  readonly nodeHeaders: string;
  readonly hasHeaders: boolean;
};

export function compileCommand({ compiler, packageFolder, nodeHeaders, hasHeaders }: Compilation): Command {
  const at = (path: string): string => join(packageFolder, path);
  const includes = [nodeHeaders, packageFolder, hasHeaders ? at("deps/include") : DECLARATIONS];
  return {
    program: compiler,
    args: [
      ...["-std=c++17", "-O2", "-fPIC", "-shared", `-DNAPI_VERSION=${NAPI_VERSION}`],
      ...includes.flatMap((folder) => ["-I", folder]),
      ...[at("binding/tfjs_backend.cc"), at("binding/tfjs_binding.cc"), "-o", at(ADDON)],
      ...["-L", at("deps/lib"), FINDS_ITS_LIBRARIES, "-ltensorflow", "-ltensorflow_framework"],
    ],
  };
}

export function compileKernelsCommand(
  { compiler, packageFolder, nodeHeaders }: Compilation,
  sources: readonly string[],
): Command {
  return {
    program: compiler,
    args: [
      ...[
        "-std=c++17",
        "-O3",
        "-fPIC",
        "-shared",
        "-pthread",
        "-Wno-psabi",
        `-DNAPI_VERSION=${NAPI_VERSION}`,
      ],
      ...["-I", nodeHeaders, "-I", DECLARATIONS],
      ...sources.filter((name) => name.endsWith(".cc")).map((name) => join(KERNEL_SOURCES, name)),
      ...["-o", join(packageFolder, KERNELS_ADDON), "-L", join(packageFolder, "deps/lib")],
      ...[FINDS_ITS_LIBRARIES, "-ltensorflow_framework"],
    ],
  };
}

export type KernelSources = { readonly names: readonly string[]; readonly sha256: string };

/** The sources of our kernels, and a digest of all of them by which a change is noticed. */
export async function readKernelSources(): Promise<KernelSources> {
  const names = (await readdir(KERNEL_SOURCES)).filter((name) => name !== TEST_PROGRAM).sort();
  const digest = createHash("sha256");
  for (const name of names) digest.update(`${name}\0`).update(await readFile(join(KERNEL_SOURCES, name)));
  return { names, sha256: digest.digest("hex") };
}

type CompileTools = { readonly run: RunCommand; readonly print: (line: string) => void };

/** @throws NativeError native.compile, after the compiler's own words */
export async function compileAddon(compilation: Compilation, tools: CompileTools): Promise<void> {
  await mkdir(dirname(join(compilation.packageFolder, ADDON)), { recursive: true });
  if (!(await compiles(compileCommand(compilation), tools)))
    throw new NativeError("native.compile", compilation.compiler);
}

/** @returns false after the compiler's own words; training is slower without them, and just as right */
export function compileKernels(
  compilation: Compilation,
  sources: readonly string[],
  tools: CompileTools,
): Promise<boolean> {
  return compiles(compileKernelsCommand(compilation, sources), tools);
}

async function compiles(command: Command, { run, print }: CompileTools): Promise<boolean> {
  const { outcome, output } = await run(command);
  if (outcome !== "done") print(output.trim());
  return outcome === "done";
}
