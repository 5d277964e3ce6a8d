// What a set-up consists of: which files, which entries of the archives go where, how much room it takes. Pure
// decisions over pinned-files; nothing is fetched here.

import { GiB, MiB } from "@consilium/shared/base/units.ts";
import type { BackendName } from "../backend/backend-report.ts";
import type { Catalogue, PinnedFile } from "./pinned-files.ts";

export const SET_UP_KINDS = ["cpu", "gpu"] as const;
export type SetUpKind = (typeof SET_UP_KINDS)[number];
export type TensorFlowSource = "pip" | "maven";

/** Entries of an archive by exact name, or all below a folder but C headers and Python files, which several wheels have. Paths are below the package. */
export type Unpacking = {
  readonly file: PinnedFile;
  readonly entries: Readonly<Record<string, string>>;
  readonly folder?: { readonly from: string; readonly to: string };
  readonly bytesMax: number;
};

export type SetUpPlan = {
  readonly backend: BackendName;
  /** The folder that the package gets below its scope. */
  readonly packageFolder: string;
  readonly nodePackage: PinnedFile;
  /** Put below the package's own node_modules, so that nothing else is disturbed. */
  readonly dependencies: Readonly<Record<string, PinnedFile>>;
  readonly nodeHeaders: PinnedFile | null;
  readonly archives: readonly Unpacking[];
  /** Where the compiler finds TensorFlow's C headers: from the archive, or our own declarations. */
  readonly hasHeaders: boolean;
  /** That must be free: the downloads and what is unpacked of them. */
  readonly diskBytes: number;
};

const LIBRARIES = ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"];

/** All that the binding's two sources include. */
const HEADERS = [
  "tensorflow/c/c_api.h",
  "tensorflow/c/c_api_macros.h",
  "tensorflow/c/eager/c_api.h",
  "tensorflow/c/tf_attrtype.h",
  "tensorflow/c/tf_buffer.h",
  "tensorflow/c/tf_datatype.h",
  "tensorflow/c/tf_status.h",
  "tensorflow/c/tf_tensor.h",
  "tensorflow/c/tf_tstring.h",
  "tensorflow/core/platform/ctstring.h",
  "tensorflow/core/platform/ctstring_internal.h",
  "tsl/platform/ctstring.h",
  "tsl/platform/ctstring_internal.h",
  "xla/tsl/c/tsl_status.h",
];

function libraryEntries(folder: string): Record<string, string> {
  return Object.fromEntries(LIBRARIES.map((name) => [`${folder}/${name}`, `deps/lib/${name}`]));
}

function tensorFlowWheel(file: PinnedFile): Unpacking {
  const headers = HEADERS.map((name) => [`tensorflow/include/${name}`, `deps/include/${name}`]);
  return {
    file,
    entries: { ...libraryEntries("tensorflow"), ...Object.fromEntries(headers) },
    bytesMax: 2 * GiB,
  };
}

/** TensorFlow looks for CUDA in `../nvidia`, seen from its libraries. */
function cudaWheel(file: PinnedFile): Unpacking {
  return { file, entries: {}, folder: { from: "nvidia/", to: "deps/nvidia/" }, bytesMax: 3 * GiB };
}

function tensorFlowJar(file: PinnedFile): Unpacking {
  return { file, entries: libraryEntries("org/tensorflow/internal/c_api/linux-x86_64"), bytesMax: 1 * GiB };
}

export type PlanWish = {
  readonly kind: SetUpKind;
  /** Where TensorFlow comes from; Maven has it for `cpu` only. */
  readonly source: TensorFlowSource;
  /** Whether the running Node came with its C headers. */
  readonly hasNodeHeaders: boolean;
};

function archivesOf({ kind, source }: PlanWish, catalogue: Catalogue): Unpacking[] {
  if (kind === "gpu") return [tensorFlowWheel(catalogue.gpuWheel), ...catalogue.cudaWheels.map(cudaWheel)];
  return [source === "maven" ? tensorFlowJar(catalogue.cpuJar) : tensorFlowWheel(catalogue.cpuWheel)];
}

export function planSetUp(wish: PlanWish, catalogue: Catalogue): SetUpPlan {
  const { kind, hasNodeHeaders } = wish;
  const archives = archivesOf(wish, catalogue);
  const name = kind === "gpu" ? "tfjs-node-gpu" : "tfjs-node";
  return {
    backend: name,
    packageFolder: name,
    nodePackage: catalogue.nodePackages[kind],
    dependencies: catalogue.dependencies,
    nodeHeaders: hasNodeHeaders ? null : catalogue.nodeHeaders,
    archives,
    hasHeaders: archives[0]?.file.registry === "pip",
    diskBytes: kind === "gpu" ? 10 * GiB : 1300 * MiB,
  };
}

/** In the order in which they are fetched: the small ones first. */
export function filesOf(plan: SetUpPlan): PinnedFile[] {
  return [
    plan.nodePackage,
    ...Object.values(plan.dependencies),
    ...(plan.nodeHeaders ? [plan.nodeHeaders] : []),
    ...plan.archives.map(({ file }) => file),
  ];
}

/** Every file that can serve this kind, by which those are known that a person has brought. */
export function knownFiles(
  kind: SetUpKind,
  { nodePackages, dependencies, nodeHeaders, ...archives }: Catalogue,
): PinnedFile[] {
  const { cpuWheel, cpuJar, gpuWheel, cudaWheels } = archives;
  const others = [nodePackages[kind], ...Object.values(dependencies), nodeHeaders];
  return [...(kind === "gpu" ? [gpuWheel, ...cudaWheels] : [cpuWheel, cpuJar]), ...others];
}

/** What the set-up is made of, for noticing that it is there already. @param kernels our own, where they are built */
export function fingerprintOf(plan: SetUpPlan, kernels: { readonly sha256: string } | null): string {
  const files = filesOf(plan).map(
    ({ fileName, digest }) => `${digest.algorithm}:${digest.hex} ${fileName}\n`,
  );
  return [...files, ...(kernels ? [`sha256:${kernels.sha256} kernels\n`] : [])].join("");
}
