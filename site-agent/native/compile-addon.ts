// Compiles the two sources of the package's addon against TensorFlow's C interface, with one call of the compiler: no
// node-gyp, no make, no Python. The addon finds its libraries beside itself, wherever the project lies.

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { NativeError } from "./native-error.ts";
import { type Command, firstPresent, type RunCommand } from "./run-command.ts";

/** Of the interface between addons and Node; every supported Node has it. */
const NAPI_VERSION = 8;
/** Where the package's own lookup expects the addon. */
export const ADDON = `lib/napi-v${NAPI_VERSION}/tfjs_binding.node`;
const COMPILERS = ["g++", "c++", "clang++"];
/** For archives that bring no headers. */
const DECLARATIONS = fileURLToPath(new URL("./c-interface", import.meta.url));

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
      ...[
        "-L",
        at("deps/lib"),
        "-Wl,-rpath,$ORIGIN/../../deps/lib",
        "-ltensorflow",
        "-ltensorflow_framework",
      ],
    ],
  };
}

/** @throws NativeError native.compile, after the compiler's own words */
export async function compileAddon(
  compilation: Compilation,
  { run, print }: { run: RunCommand; print: (line: string) => void },
): Promise<void> {
  await mkdir(dirname(join(compilation.packageFolder, ADDON)), { recursive: true });
  const { outcome, output } = await run(compileCommand(compilation));
  if (outcome === "done") return;
  print(output.trim());
  throw new NativeError("native.compile", compilation.compiler);
}
