// The set-up with real files, a real compiler and a real TensorFlow, into a folder of its own. It downloads nothing: the
// files come from the folder that CONSILIUM_NATIVE_CACHE names, which may be this checkout's data/native.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import t from "tap";
import type { BackendReport } from "../backend/backend-report.ts";
import { findCompiler } from "./compile-addon.ts";
import { pinnedFiles } from "./pinned-files.ts";
import { commandRunner, type RunCommand } from "./run-command.ts";
import { setUpNative } from "./set-up.ts";
import { filesOf, planSetUp } from "./set-up-plan.ts";

/** A gradient on the package in the folder, by a Node that knows nothing of this project. */
const PROGRAM = `
  const util = require("node:util");
  util.isNullOrUndefined ??= (value) => value == null;
  util.isArray ??= Array.isArray;
  const tf = require("@tensorflow/tfjs-node");
  const gradient = tf.grad((w) => tf.ones([1, 3, 3, 1]).conv2d(w, 1, "valid").sum());
  const values = [...gradient(tf.ones([2, 2, 1, 1])).dataSync()];
  console.log(JSON.stringify({ backend: tf.getBackend(), values }));
`;

async function whyNot(cache: string | undefined, run: RunCommand): Promise<string | null> {
  if (!cache) return "CONSILIUM_NATIVE_CACHE names no folder of downloads";
  const plan = planSetUp({ kind: "cpu", source: "pip", hasNodeHeaders: true }, pinnedFiles);
  const absent = filesOf(plan).find(({ fileName }) => !existsSync(join(cache, fileName)));
  if (absent) return `CONSILIUM_NATIVE_CACHE has no ${absent.fileName}`;
  return findCompiler(undefined, run).then(
    () => null,
    () => "there is no C++ compiler",
  );
}

t.test("an addon built here against the pinned TensorFlow computes a gradient", async (t) => {
  const run = commandRunner(process.env, new AbortController().signal);
  const cache = process.env["CONSILIUM_NATIVE_CACHE"];
  const skip = await whyNot(cache, run);
  if (skip !== null || !cache) {
    t.pass("the real build", { skip: skip ?? "" });
    return;
  }
  const folder = t.testdir({});
  const scope = join(folder, "node_modules/@tensorflow");
  mkdirSync(scope, { recursive: true });
  const framework = dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs/package.json"));
  for (const name of readdirSync(dirname(framework)).filter((one) => /^tfjs(?!-node)/.test(one)))
    symlinkSync(join(dirname(framework), name), join(scope, name));
  const headers = resolve(process.execPath, "../../include/node");
  const prove = async (): Promise<BackendReport> => {
    const output = execFileSync(process.execPath, ["-e", PROGRAM], { cwd: folder, encoding: "utf8" });
    t.strictSame(JSON.parse(output), { backend: "tensorflow", values: [4, 4, 4, 4] });
    const selfTest = { passed: true, failures: [] };
    return { name: "tfjs-node", version: "", devices: [], isGpu: false, selfTest };
  };
  await setUpNative(
    { kind: "cpu", from: resolve(cache), via: "pip" },
    { store: join(folder, "store"), scope },
    {
      catalogue: pinnedFiles,
      run,
      print: (line) => t.comment(line),
      ticker: () => () => {},
      system: { platform: process.platform, architecture: process.arch, hasGlibc: true },
      nodeHeaders: existsSync(join(headers, "node_api.h")) ? headers : null,
      compilerWish: undefined,
      processId: process.pid,
      isAlive: () => true,
      freeBytes: async () => Number.POSITIVE_INFINITY,
      prove,
    },
  );
  t.ok(existsSync(join(scope, "tfjs-node/consilium-native.txt")), "and what it is made of is noted");
});
