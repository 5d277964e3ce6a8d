// Which backend trains: the first of the preferred ones that starts and computes right gradients. Those that load a
// native library are tried in a child process first: one that does not fit the machine ends the process that loads it.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { BackendError } from "./backend-error.ts";
import { BACKEND_NAMES, type BackendName, BackendReport, type ProbeFailure } from "./backend-report.ts";
import type { ProductFormat } from "./graph/compiled-graph.ts";
import { tryBfloat16 } from "./graph/product-format.ts";
import { startBackend, tryBackend } from "./start-backend.ts";

/** A first load of native libraries from a slow disk takes its time. */
export const PROBE_MS_MAX = 120_000;

const Unusable = Type.Object({ unusable: Type.String({ maxLength: 2000 }) }, { additionalProperties: false });

const PROBE_FILE = fileURLToPath(new URL("./probe-backend.ts", import.meta.url));

export type Probe = (name: BackendName) => Promise<BackendReport | ProbeFailure>;

export type BackendChoice = {
  /** Take this one or none. The pure JavaScript backend is taken only when it is asked for. */
  readonly requested?: BackendName;
  /** Of graphs; float32 where another one is not usable. */
  readonly products?: ProductFormat;
  /** That share the kernels of wasm. */
  readonly wasmThreads?: number;
  readonly probe?: Probe;
};

export type ChosenBackend = {
  readonly backend: BackendReport;
  /** What was preferred or asked for and is not usable here, and why. */
  readonly passedOver: readonly PassedOver[];
};

type PassedOver = { readonly name: string; readonly reason: string };

/**
 * Choose a backend and start it in this process.
 * @throws BackendError `backend.none-usable` that says why each one is not
 */
export async function chooseBackend({
  requested,
  products = "float32",
  wasmThreads = 1,
  probe = (name) => probeInstalled(name, wasmThreads),
}: BackendChoice = {}): Promise<ChosenBackend> {
  const candidates = requested ? [requested] : BACKEND_NAMES.filter((name) => name !== "cpu");
  const passedOver: PassedOver[] = [];
  for (const name of candidates) {
    const reason = whyUnusable(await probe(name), requested === undefined);
    if (reason === undefined)
      return withProducts(products, await startBackend(name, wasmThreads), passedOver);
    passedOver.push({ name, reason });
  }
  const reasons = passedOver.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
  throw new BackendError("backend.none-usable", `No backend can train on this machine. ${reasons}.`);
}

/** The backend, whose version says with what it multiplies and how exactly, and what could not be had. */
function withProducts(
  format: ProductFormat,
  backend: BackendReport,
  passedOver: readonly PassedOver[],
): ChosenBackend {
  if (format === "float32") return { backend, passedOver };
  const trial = tryBfloat16();
  if (!trial.isUsed)
    return { backend, passedOver: [...passedOver, { name: "products in bfloat16", reason: trial.reason }] };
  const measured = `relative error ${trial.error.toExponential(1)}, ${trial.gain.toFixed(1)} times as fast`;
  return {
    backend: { ...backend, version: `${backend.version}, bfloat16 products (${measured})` },
    passedOver,
  };
}

/**
 * CUDA's build without a GPU computes rightly, but no faster than the others, and WebGPU in software very much slower:
 * neither is chosen for a processor.
 */
function whyUnusable(answer: BackendReport | ProbeFailure, isChoice: boolean): string | undefined {
  if ("unusable" in answer) return answer.unusable;
  if (isChoice && answer.name === "tfjs-node-gpu" && !answer.isGpu) return "it lists no GPU";
  if (isChoice && answer.name === "webgpu" && !answer.isGpu) return "it offers a software adapter only";
  return answer.selfTest.passed ? undefined : `wrong results for ${answer.selfTest.failures.join(", ")}`;
}

/** A package that is not there needs no process to say so, and one without native code none that it could end. */
async function probeInstalled(name: BackendName, wasmThreads: number): Promise<BackendReport | ProbeFailure> {
  if (!isInstalled(name)) return { unusable: "its package is not installed" };
  return name === "wasm" || name === "cpu" ? tryBackend(name, wasmThreads) : probeInChild(name);
}

function isInstalled(name: BackendName): boolean {
  try {
    for (const needed of PACKAGES[name]) import.meta.resolve(`${needed}/package.json`);
    return true;
  } catch {
    return false;
  }
}

/** The optional ones. */
const PACKAGES: Readonly<Record<BackendName, readonly string[]>> = {
  "tfjs-node-gpu": ["@tensorflow/tfjs-node-gpu"],
  "tfjs-node": ["@tensorflow/tfjs-node"],
  webgpu: ["webgpu", "@tensorflow/tfjs-backend-webgpu"],
  wasm: [],
  cpu: [],
};

export type ProbeLimits = { readonly timeLimitMs: number; readonly program: string };

/** Start the backend in a process of its own and return its report. It never rejects. */
export function probeInChild(
  name: BackendName,
  { timeLimitMs, program }: ProbeLimits = { timeLimitMs: PROBE_MS_MAX, program: PROBE_FILE },
): Promise<BackendReport | ProbeFailure> {
  return new Promise((resolve) => {
    // The loader is named because the parent may have been started in a way that its options do not show.
    const execArgv = ["--import", import.meta.resolve("tsx")];
    const child = fork(program, [name], { execArgv, stdio: ["ignore", "ignore", "ignore", "ipc"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), timeLimitMs);
    let answer: BackendReport | ProbeFailure = { unusable: "its process ended without an answer" };
    child.on("message", (message) => {
      answer = readAnswer(message);
    });
    child.on("error", () => {
      answer = { unusable: "its process could not be started" };
    });
    child.on("close", () => {
      clearTimeout(timer);
      resolve(child.killed ? { unusable: `it did not start within ${timeLimitMs / 1000} seconds` } : answer);
    });
  });
}

/** The child runs native code: what it sends is checked like anything else from outside. */
function readAnswer(message: unknown): BackendReport | ProbeFailure {
  if (Value.Check(BackendReport, message)) return message;
  if (Value.Check(Unusable, message)) return message;
  return { unusable: "its answer was not understood" };
}
