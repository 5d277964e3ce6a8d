// PyTorch and well-kept model code from PyPI, in a virtual environment under data/ that is made once.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  type BundledTensor,
  float32Values,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import { machine } from "../steps/machine.ts";

const PACKAGES = ["torch==2.15.0", "dynamic-network-architectures==0.4.4"];
/** Its own build would fetch PyTorch a second time, and compile a CUDA part that a processor has no use for. */
const SAM2_PACKAGES = ["torchvision", "hydra-core", "iopath", "setuptools", "wheel"];
const SAM2 = ["--no-build-isolation", "--no-deps", "sam2==1.1.0"];

const run = promisify(execFile);
export const root = fileURLToPath(new URL("../..", import.meta.url));
const environment = join(root, "data/bench-pytorch");
const python = join(environment, "bin/python");

/** Prints one JSON document: what was measured and on what machine, or why PyTorch cannot be had. */
export async function printBesidePyTorch(measure: () => Promise<object[]>): Promise<void> {
  const failed = await makeEnvironment().then(
    () => null,
    (error: unknown) => (error instanceof Error ? error.message.slice(0, 200) : String(error)),
  );
  if (failed) return console.log(JSON.stringify({ skipped: `PyTorch cannot be had here: ${failed}` }));
  const results = await measure();
  console.log(JSON.stringify({ machine: machine(), results }, undefined, 2));
}

/** 5.5 GB with the CUDA libraries that PyPI's PyTorch asks for. */
async function makeEnvironment(): Promise<void> {
  if (existsSync(join(environment, "complete"))) return;
  console.error(`making ${environment} with PyTorch from PyPI; a few minutes`);
  await mkdir(environment, { recursive: true });
  await run("python3", ["-m", "venv", environment]);
  for (const words of [[...PACKAGES, ...SAM2_PACKAGES], SAM2]) {
    const env = { ...process.env, SAM2_BUILD_CUDA: "0" };
    await run(python, ["-m", "pip", "install", "--quiet", ...words], { maxBuffer: 2 ** 24, env });
  }
  await writeFile(join(environment, "complete"), "");
}

/** What a script of this folder prints. */
export async function printedBy(script: string, words: readonly string[]): Promise<unknown> {
  const { stdout } = await run(python, [fileURLToPath(new URL(script, import.meta.url)), ...words]);
  return JSON.parse(stdout);
}

const LAYOUTS = ["contiguous", "channels_last"];

type Timed = { readonly cpuSeconds: number };

/** What a script prints in the better of PyTorch's two memory formats, which is its last word. */
export async function printedInBestLayout<T extends Timed>(
  script: string,
  words: readonly string[],
): Promise<T & { readonly layout: string }> {
  const each = [];
  for (const layout of LAYOUTS)
    each.push({ ...((await printedBy(script, [...words, layout])) as T), layout }); // As the script prints it.
  return each.reduce((best, one) => (one.cpuSeconds < best.cpuSeconds ? one : best));
}

export async function readFloats(file: string): Promise<Map<string, Float32Array>> {
  const { tensors } = readTensorBundle(new Uint8Array(await readFile(file)));
  return new Map([...tensors].map(([name, tensor]) => [name, float32Values(tensor)]));
}

export async function writeFloats(file: string, tensors: readonly BundledTensor[]): Promise<void> {
  await writeFile(file, writeTensorBundle(tensors));
}
