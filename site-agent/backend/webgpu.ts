// WebGPU without a browser: Dawn finds an adapter of any vendor through Vulkan, Metal or Direct3D 12, and the framework's
// backend takes it for a browser's. Both packages are optional.

import { BackendError } from "./backend-error.ts";
import { loadBackendPackage, tf } from "./tensors.ts";

type Adapter = {
  readonly info: {
    readonly vendor: string;
    readonly description: string;
    readonly isFallbackAdapter: boolean;
  };
};
type Gpu = { requestAdapter(options: { powerPreference: "high-performance" }): Promise<Adapter | null> };
/** The package `webgpu`, as far as it is used. */
type Dawn = { readonly globals: object; create(options: readonly string[]): Gpu };

export type WebGpuAdapter = {
  /** The driver's names. */
  readonly description: string;
  /** Computes on the processor. */
  readonly isSoftware: boolean;
};

/**
 * Start the backend on the adapter that Dawn prefers.
 * @throws BackendError `backend.no-adapter` where no driver offers one
 */
export async function startWebGpu(): Promise<WebGpuAdapter> {
  const dawn = (await import(DAWN)) as Dawn; // An optional package: it need not be there to be compiled against.
  const gpu = dawn.create([]);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    const message =
      "No graphics driver offers an adapter. Install the vendor's driver and the Vulkan loader (on Debian: libvulkan1).";
    throw new BackendError("backend.no-adapter", message);
  }
  // Where the framework looks for it, as in a browser. Node has had a navigator of its own since version 21.
  Object.assign(globalThis, dawn.globals);
  const navigator = (globalThis as { navigator?: object }).navigator ?? {};
  Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  await loadBackendPackage("@tensorflow/tfjs-backend-webgpu");
  await tf.setBackend("webgpu");
  const { vendor, description, isFallbackAdapter } = adapter.info;
  return { description: `${vendor} ${description}`.trim(), isSoftware: isFallbackAdapter };
}

const DAWN = "webgpu";
