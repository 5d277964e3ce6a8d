// `npm run setup:native [-- cpu|gpu] [--from PATH] [--via pip|maven]`: gives the site agent TensorFlow for Node, built here.
// The composition root of this step; it reads the machine, prints, and sets the exit code.

import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { describeBackend } from "../backend/backend-report.ts";
import { chooseBackend, probeInChild } from "../backend/choose-backend.ts";
import { NativeError } from "./native-error.ts";
import { pinnedFiles } from "./pinned-files.ts";
import { commandRunner } from "./run-command.ts";
import { type SetUpMachine, type SetUpRequest, setUpNative } from "./set-up.ts";
import { SET_UP_KINDS, type SetUpKind } from "./set-up-plan.ts";

const USAGE = `usage: npm run setup:native -- [cpu|gpu] [--from PATH] [--via pip|maven]

  cpu            TensorFlow 2.21 for the processor (the default): a download of 275 MB, 1.1 GB on the disk with it
  gpu            TensorFlow 2.21 for CUDA 12 with NVIDIA's libraries: a download of 3.4 GB, 9 GB on the disk
  --from PATH    without internet: the wheel or the jar, or a folder with all files (data/native of another machine)
  --via NAME     where TensorFlow comes from; without it pip, and Maven (cpu only) where there is no Python

Needs g++ or clang++. Downloads are kept in data/native, checked against pinned digests. Run it again after npm ci.`;

const root = fileURLToPath(new URL("../..", import.meta.url));
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());

const request = readRequest();
if (request === "help") console.log(USAGE);
else if (request === null) {
  console.error(USAGE);
  process.exitCode = 2;
} else await setUp(request);

function readRequest(): SetUpRequest | "help" | null {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { from: { type: "string" }, via: { type: "string" }, help: { type: "boolean" } },
    });
    if (values.help) return "help";
    const [kind = "cpu", ...others] = positionals;
    const { from = null, via = null } = values;
    if (others.length > 0 || !isKind(kind) || (via !== null && via !== "pip" && via !== "maven")) return null;
    if (kind === "gpu" && via === "maven") return null;
    return { kind, from: from === null ? null : resolve(process.env["INIT_CWD"] ?? ".", from), via };
  } catch {
    return null; // Options that are not known.
  }
}

function isKind(text: string): text is SetUpKind {
  return SET_UP_KINDS.some((kind) => kind === text);
}

async function setUp(wanted: SetUpRequest): Promise<void> {
  try {
    const places = { store: join(root, "data/native"), scope: frameworkScope() };
    const backend = await setUpNative(wanted, places, thisMachine());
    console.log(`Proven: ${backend.name} ${backend.version} on ${backend.devices.join(", ")}.`);
    if (wanted.kind === "gpu" && !backend.isGpu)
      console.log(
        "IT LISTS NO GPU here: it is passed over. Look at the driver (nvidia-smi), or set up `cpu`.",
      );
    await sayChoice();
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    console.error(
      stopping.signal.aborted ? "Stopped; run it again to go on." : `${error.code}: ${error.message}`,
    );
    process.exitCode = 1;
  }
}

/** The same choice that `consilium-site check` and `run` make. */
async function sayChoice(): Promise<void> {
  const { backend, passedOver } = await chooseBackend();
  console.log(`consilium-site will now choose ${backend.name}. ${describeBackend(backend)}`);
  for (const { name, reason } of passedOver) console.log(`  not usable here: ${name}: ${reason}`);
}

/** Beside the framework itself, so that both are one engine. */
function frameworkScope(): string {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs/package.json")));
  } catch (error) {
    throw new NativeError("native.no-framework", "", { cause: error });
  }
}

function thisMachine(): SetUpMachine {
  const headers = resolve(process.execPath, "../../include/node");
  return {
    catalogue: pinnedFiles,
    run: commandRunner(process.env, stopping.signal),
    print: (line) => console.log(line),
    ticker: (intervalMs, tick) => {
      const timer = setInterval(tick, intervalMs);
      return () => clearInterval(timer);
    },
    system: { platform: process.platform, architecture: process.arch, hasGlibc: hasGlibc() },
    nodeHeaders: existsSync(join(headers, "node_api.h")) ? headers : null,
    compilerWish: process.env["CXX"],
    processId: process.pid,
    isAlive,
    freeBytes: async (folder) => {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    },
    prove: probeInChild,
  };
}

/** Only glibc's builds of Node name its version. */
function hasGlibc(): boolean {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }; // As Node documents it.
  return report.header?.glibcVersionRuntime !== undefined;
}

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
