// The set-up of native TensorFlow from beginning to end: look, say what will be fetched, fetch, build beside the place,
// move it there, prove it, and undo it where it does not work. It writes below the project's folder only; what the machine
// has is passed in.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { MiB } from "@consilium/shared/base/units.ts";
import type { BackendName, BackendReport, ProbeFailure } from "../backend/backend-report.ts";
import { KERNELS_ADDON } from "../backend/kernels-addon.ts";
import {
  compileAddon,
  compileKernels,
  findCompiler,
  type KernelSources,
  readKernelSources,
} from "./compile-addon.ts";
import { type FetchTools, fetchFile, hasDigest, missingFiles, takeBrought } from "./fetch-files.ts";
import { NativeError } from "./native-error.ts";
import {
  assemblePackage,
  installPackage,
  markerOf,
  recoverPlace,
  removeLeftovers,
  settlePackage,
  unpackTarball,
  withdrawPackage,
  writeMarker,
} from "./package-folder.ts";
import type { Catalogue, PinnedFile } from "./pinned-files.ts";
import { findClients, findMaven, type RegistryClients } from "./registry-clients.ts";
import {
  filesOf,
  fingerprintOf,
  knownFiles,
  planSetUp,
  type SetUpKind,
  type SetUpPlan,
  type TensorFlowSource,
} from "./set-up-plan.ts";
import { linkLibraries, unpackArchive } from "./unpack.ts";

export type SetUpRequest = {
  readonly kind: SetUpKind;
  /** A file or folder that a person has brought. */
  readonly from: string | null;
  /** Take TensorFlow from there; null decides by what there is. */
  readonly via: TensorFlowSource | null;
};

export type SetUpPlaces = {
  /** Keeps the downloads; `npm ci` leaves it alone. */
  readonly store: string;
  /** The folder of the framework's packages in node_modules. */
  readonly scope: string;
};

export type SetUpMachine = FetchTools & {
  /** What is pinned. */
  readonly catalogue: Catalogue;
  readonly system: { readonly platform: string; readonly architecture: string; readonly hasGlibc: boolean };
  /** The folder with the running Node's node_api.h. */
  readonly nodeHeaders: string | null;
  readonly compilerWish: string | undefined;
  readonly processId: number;
  readonly isAlive: (processId: number) => boolean;
  readonly freeBytes: (folder: string) => Promise<number>;
  /** Start the installed package in a process of its own and test its gradients. */
  readonly prove: (backend: BackendName) => Promise<BackendReport | ProbeFailure>;
};

/**
 * Set the package up, or find that it is.
 * @returns what the proven backend says of itself
 * @throws NativeError with everything undone but finished downloads
 */
export async function setUpNative(
  request: SetUpRequest,
  places: SetUpPlaces,
  machine: SetUpMachine,
): Promise<BackendReport> {
  const { system, processId } = machine;
  if (system.platform !== "linux" || system.architecture !== "x64" || !system.hasGlibc)
    throw new NativeError("native.platform", `${system.platform} ${system.architecture}`);
  const compiler = await findCompiler(machine.compilerWish, machine.run);
  const work = join(places.store, `work-${processId}`);
  await mkdir(places.store, { recursive: true });
  await removeLeftovers(places.store, "work-", machine.isAlive);
  await mkdir(work, { recursive: true });
  try {
    const { plan, clients } = await decide(request, { ...places, work }, machine);
    const kernels = await kernelsFor(plan);
    const place = join(places.scope, plan.packageFolder);
    await recoverPlace(place);
    const present = await provenAlready({ plan, kernels }, place, machine);
    if (present) return present;
    await fetchMissing(plan, { store: places.store, work, clients }, machine);
    return await build({ plan, kernels }, { ...places, work, compiler }, machine);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

type Made = { readonly plan: SetUpPlan; readonly kernels: KernelSources | null };

/** They compute on the processor. */
async function kernelsFor({ backend }: SetUpPlan): Promise<KernelSources | null> {
  return backend === "tfjs-node" ? readKernelSources() : null;
}

type Decision = { readonly plan: SetUpPlan; readonly clients: RegistryClients };

async function decide(
  { kind, from, via }: SetUpRequest,
  { store, work }: { store: string; work: string },
  { run, nodeHeaders, catalogue }: SetUpMachine,
): Promise<Decision> {
  const found = await findClients(run);
  const clients = via === "maven" ? { ...found, maven: await findMaven(run) } : found;
  const known = knownFiles(kind, catalogue);
  const brought = from ? await takeBrought(from, { known, store, work }) : [];
  const stored = await storedArchives(store, catalogue);
  const source =
    via ?? (kind === "gpu" ? "pip" : chooseSource({ there: [...brought, ...stored], clients }, catalogue));
  return { plan: planSetUp({ kind, source, hasNodeHeaders: nodeHeaders !== null }, catalogue), clients };
}

async function storedArchives(store: string, { cpuWheel, cpuJar }: Catalogue): Promise<PinnedFile[]> {
  const found: PinnedFile[] = [];
  for (const file of [cpuWheel, cpuJar])
    if (await hasDigest(join(store, file.fileName), file)) found.push(file);
  return found;
}

/**
 * Where TensorFlow for the processor comes from: the first archive that is there decides, then whose client is.
 * @param there what was brought before what is stored
 */
export function chooseSource(
  { there, clients }: { there: readonly PinnedFile[]; clients: RegistryClients },
  { cpuWheel, cpuJar }: Catalogue,
): TensorFlowSource {
  const first = there.find((file) => file === cpuWheel || file === cpuJar);
  if (first) return first === cpuJar ? "maven" : "pip";
  return !clients.python && clients.maven ? "maven" : "pip";
}

async function provenAlready(
  { plan, kernels }: Made,
  place: string,
  { print, prove }: SetUpMachine,
): Promise<BackendReport | null> {
  if ((await markerOf(place)) !== fingerprintOf(plan, kernels)) return null;
  const answer = await prove(plan.backend);
  if (!isProven(answer)) return null;
  print(`${plan.packageFolder} is set up already, and computes right gradients.`);
  return answer;
}

/** What is wrong with a backend. */
function faultOf(answer: BackendReport | ProbeFailure): string | null {
  if ("unusable" in answer) return answer.unusable;
  const { passed, failures } = answer.selfTest;
  return passed ? null : `wrong results for ${failures.join(", ")}`;
}

function isProven(answer: BackendReport | ProbeFailure): answer is BackendReport {
  return faultOf(answer) === null;
}

async function fetchMissing(
  plan: SetUpPlan,
  places: { store: string; work: string; clients: RegistryClients },
  machine: SetUpMachine,
): Promise<void> {
  const { print } = machine;
  const missing = await missingFiles(filesOf(plan), places.store);
  const megabytes = missing.reduce((sum, file) => sum + file.megabytes, 0);
  if (missing.length > 0) print(`To be downloaded: about ${megabytes} MB:`);
  for (const { fileName, registry, megabytes: size } of missing)
    print(`  ${size} MB  ${fileName} (${registry})`);
  if (missing.length === 0) print("Nothing to be downloaded: all files are there, with the pinned digests.");
  const free = await machine.freeBytes(places.store);
  if (free < plan.diskBytes) {
    const detail = `${Math.ceil(plan.diskBytes / MiB)} MiB wanted, ${Math.floor(free / MiB)} MiB free`;
    throw new NativeError("native.no-space", detail);
  }
  for (const file of missing) await fetchFile(file, places, machine);
}

type BuildPlaces = SetUpPlaces & { readonly work: string; readonly compiler: string };

async function build(wanted: Made, places: BuildPlaces, machine: SetUpMachine): Promise<BackendReport> {
  const place = join(places.scope, wanted.plan.packageFolder);
  return proveOrWithdraw(await putInPlace(wanted, place, places, machine), place, machine);
}

/** @returns what was made: without kernels where they do not compile */
async function putInPlace(
  { plan, kernels }: Made,
  place: string,
  { store, scope, work, compiler }: BuildPlaces,
  machine: SetUpMachine,
): Promise<Made> {
  const { run, print, processId } = machine;
  const prefix = `.${plan.packageFolder}.made-`;
  await removeLeftovers(scope, prefix, machine.isAlive);
  const packageFolder = join(scope, `${prefix}${processId}`);
  try {
    print(`Unpacking ${plan.archives.length === 1 ? "TensorFlow" : "TensorFlow and CUDA"} ...`);
    await assemblePackage(plan, { store, packageFolder, run });
    for (const archive of plan.archives) await unpackArchive(store, archive, packageFolder);
    await linkLibraries(packageFolder);
    print(`Compiling the addon with ${compiler} ...`);
    const nodeHeaders = await headersFor(plan, { store, work }, machine);
    const compilation = { compiler, packageFolder, nodeHeaders, hasHeaders: plan.hasHeaders };
    await compileAddon(compilation, machine);
    const built = kernels && (await compileKernels(compilation, kernels.names, machine)) ? kernels : null;
    if (kernels && !built) print(`Our own kernels did not compile: ${WITHOUT_KERNELS}`);
    await installPackage(packageFolder, place);
    return { plan, kernels: built };
  } finally {
    await rm(packageFolder, { recursive: true, force: true });
  }
}

const WITHOUT_KERNELS = "TensorFlow goes without them, and is slower.";

async function headersFor(
  { nodeHeaders }: SetUpPlan,
  { store, work }: { store: string; work: string },
  machine: SetUpMachine,
): Promise<string> {
  if (machine.nodeHeaders !== null) return machine.nodeHeaders;
  const folder = join(work, "node-headers");
  if (nodeHeaders) await unpackTarball(join(store, nodeHeaders.fileName), folder, machine.run);
  return join(folder, "include");
}

async function proveOrWithdraw(made: Made, place: string, machine: SetUpMachine): Promise<BackendReport> {
  machine.print("Starting it in a process of its own and testing its gradients ...");
  let isSettled = false;
  try {
    const { answer, kernels } = await proveBest(made, place, machine);
    if (!isProven(answer)) throw new NativeError("native.unproven", faultOf(answer) ?? "");
    await writeMarker(place, fingerprintOf(made.plan, kernels));
    isSettled = true;
    return answer;
  } finally {
    if (isSettled) await settlePackage(place);
    else await withdrawPackage(place);
  }
}

/** Our kernels are taken out where it does not work with them. */
async function proveBest(
  { plan, kernels }: Made,
  place: string,
  { print, prove }: SetUpMachine,
): Promise<{ answer: BackendReport | ProbeFailure; kernels: KernelSources | null }> {
  const answer = await prove(plan.backend);
  const fault = faultOf(answer);
  if (kernels === null || fault === null) return { answer, kernels };
  print(`It does not work with our own kernels (${fault}): ${WITHOUT_KERNELS}`);
  await rm(join(place, KERNELS_ADDON));
  return { answer: await prove(plan.backend), kernels: null };
}
