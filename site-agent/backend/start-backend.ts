// Starts one backend in this process and says what it is. It does not choose: a native backend may end the process, so
// choose-backend has tried it in another one before.

import { execFile } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { promisify } from "node:util";
import type { BackendName, BackendReport, ProbeFailure } from "./backend-report.ts";
import { runSelfTest } from "./self-test.ts";
import { installTensorFlowKernels, installTensorFlowOperations } from "./tensorflow-kernels.ts";
import { operationThreads, tensorFlowThreads } from "./tensorflow-threads.ts";
import { loadBackendPackage, tf } from "./tensors.ts";
import {
  installTrainingKernels,
  startedWithSharedMemory,
  startKernelThreads,
} from "./wasm-kernels/install.ts";
import { startWebGpu } from "./webgpu.ts";

const DEVICE_LIST_MS_MAX = 5000;
const DEVICE_COUNT_MAX = 64;
const TEXT_LENGTH_MAX = 200;

/** The parts of tfjs-node's backend object that say what it computes with. */
type NativeBackend = {
  readonly isUsingGpuDevice: boolean;
  readonly binding: { readonly TF_Version: string };
};

/**
 * Start a backend and test its gradients.
 * @param wasmThreads that share the kernels of wasm
 * @throws whatever its package throws when it is absent, half installed or without its libraries
 */
export async function startBackend(name: BackendName, wasmThreads = 1): Promise<BackendReport> {
  const { version, devices, isGpu } = await started(name, wasmThreads);
  return { name, version: version.slice(0, TEXT_LENGTH_MAX), devices, isGpu, selfTest: await runSelfTest() };
}

/** The same, with what was thrown as the reason. It never rejects. */
export async function tryBackend(name: BackendName, wasmThreads = 1): Promise<BackendReport | ProbeFailure> {
  try {
    return await startBackend(name, wasmThreads);
  } catch (error) {
    return { unusable: reasonOf(error) };
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "it could not be started";
  if ("code" in error && error.code === "ERR_MODULE_NOT_FOUND") return "its package is not installed";
  return error.message.split("\n")[0]?.trim() ?? "it could not be started";
}

type Started = Pick<BackendReport, "version" | "devices" | "isGpu">;

function started(name: BackendName, wasmThreads: number): Promise<Started> {
  switch (name) {
    case "tfjs-node-gpu":
    case "tfjs-node":
      return startNative(name);
    case "webgpu":
      return startDawn();
    case "wasm":
      return startWasm(wasmThreads);
    case "cpu":
      return startCpu();
  }
}

async function startDawn(): Promise<Started> {
  const { description, isSoftware } = await startWebGpu();
  const devices = [description.slice(0, TEXT_LENGTH_MAX)];
  return { version: `${tf.version["tfjs-core"]}, Dawn`, devices, isGpu: !isSoftware };
}

async function startNative(name: "tfjs-node-gpu" | "tfjs-node"): Promise<Started> {
  // Its advice on processors belongs to no log of ours; its warnings, of a driver that is missing, do.
  process.env["TF_CPP_MIN_LOG_LEVEL"] ??= "1";
  for (const [name, count] of Object.entries(tensorFlowThreads(availableParallelism())))
    process.env[name] ??= count;
  await loadBackendPackage(`@tensorflow/${name}`);
  await tf.setBackend("tensorflow");
  installTensorFlowOperations();
  const { isUsingGpuDevice, binding } = tf.backend() as unknown as NativeBackend; // What these packages register.
  const stock = `${tf.version["tfjs-core"]}, TensorFlow ${binding.TF_Version}`;
  if (isUsingGpuDevice) return { version: stock, devices: await gpuNames(), isGpu: true };
  const threads = operationThreads(process.env, availableParallelism());
  const kernels = installTensorFlowKernels(`@tensorflow/${name}`, threads);
  const version = kernels ? `${stock}, own kernels with ${kernels.levels[0]}` : stock;
  return { version, devices: cpuNames(), isGpu: false };
}

async function startWasm(threads: number): Promise<Started> {
  await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  tf.enableProdMode();
  const start = async (): Promise<void> => void (await tf.setBackend("wasm"));
  await (threads > 1 ? startedWithSharedMemory(start) : start());
  const kernels = installTrainingKernels();
  // A second start finds them started.
  if (threads > 1 && kernels.threadCount === 1) await startKernelThreads(threads);
  const traits = [
    tf.version["tfjs-core"],
    ...(kernels.fusesMultiplyAdd ? ["fused multiply-add"] : []),
    ...(kernels.threadCount > 1 ? [`${kernels.threadCount} threads`] : []),
  ];
  return { version: traits.join(", "), devices: cpuNames(), isGpu: false };
}

async function startCpu(): Promise<Started> {
  tf.enableProdMode();
  await tf.setBackend("cpu");
  return { version: tf.version["tfjs-core"], devices: cpuNames(), isGpu: false };
}

function cpuNames(): string[] {
  const processors = cpus();
  const [first] = processors;
  return [`${first?.model.trim() ?? "processor"} (${processors.length} logical)`.slice(0, TEXT_LENGTH_MAX)];
}

/** The driver's names; the framework has already said that it uses one of them. */
async function gpuNames(): Promise<string[]> {
  try {
    const query = ["--query-gpu=name", "--format=csv,noheader"];
    const { stdout } = await promisify(execFile)("nvidia-smi", query, { timeout: DEVICE_LIST_MS_MAX });
    const names = stdout.split("\n").filter((line) => line.trim() !== "");
    return names.slice(0, DEVICE_COUNT_MAX).map((line) => line.trim().slice(0, TEXT_LENGTH_MAX));
  } catch {
    return ["GPU"];
  }
}
