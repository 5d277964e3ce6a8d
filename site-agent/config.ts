// The agent's settings from the environment, read once. What must agree between sites travels in the signed plan, and
// whatever weakens a protection is named on the command line, never here.

import { type Entries, EnvironmentReader } from "@consilium/shared/base/environment.ts";
import { GiB, MiB } from "@consilium/shared/base/units.ts";
import { BACKEND_NAMES, WASM_THREADS_MAX } from "./backend/backend-report.ts";
import { PRODUCT_FORMATS, type ProductFormat } from "./backend/graph/compiled-graph.ts";

const logLevels = ["silent", "fatal", "error", "warn", "info", "debug"] as const;
export const BACKEND_WISHES = ["auto", ...BACKEND_NAMES] as const;

type BackendWish = (typeof BACKEND_WISHES)[number];

/** With what a site computes. */
export type ComputeWish = {
  readonly backend: BackendWish;
  readonly products: ProductFormat;
  /** That share the kernels of wasm. */
  readonly wasmThreads: number;
};

export type SiteConfig = ComputeWish & {
  /** The home folder, where no --home is given. */
  readonly home: string;
  readonly logLevel: (typeof logLevels)[number];
  /** Memory that prepared slices may take between rounds. */
  readonly preparedBytesMax: number;
};

/** @throws EnvironmentError naming every fault */
export function readConfig(entries: Entries): SiteConfig {
  const read = new EnvironmentReader(entries);
  const config: SiteConfig = Object.freeze({
    home: read.text("CONSILIUM_HOME", "./site"),
    logLevel: read.oneOf("CONSILIUM_LOG", "warn", logLevels),
    backend: read.oneOf("CONSILIUM_BACKEND", "auto", BACKEND_WISHES),
    products: read.oneOf("CONSILIUM_PRODUCTS", "float32", PRODUCT_FORMATS),
    wasmThreads: read.integer("CONSILIUM_WASM_THREADS", 1, { min: 1, max: WASM_THREADS_MAX }),
    preparedBytesMax: read.integer("CONSILIUM_PREPARED_MIB", 4096, { min: 64, max: (512 * GiB) / MiB }) * MiB,
  });
  read.finish();
  return config;
}
