// Reading NIfTI-1 and NIfTI-2 files, plain or gzipped, into volumes and label maps. Every fault of a file ends in a
// NiftiError; memory is bounded by the size that the header announces, which is itself bounded.

import { open } from "node:fs/promises";
import type { Grid } from "./grid.ts";
import { inflateAll, inflateStart, isGzip } from "./gzip-bounded.ts";
import { NiftiError } from "./nifti-error.ts";
import { niftiGeometry, type OrientationSource } from "./nifti-geometry.ts";
import { type NiftiHeader, niftiFileBytes, parseNiftiHeader } from "./nifti-header.ts";
import { decodeLabelmap, decodeVolume } from "./nifti-voxels.ts";
import type { Labelmap, Volume } from "./volume.ts";

/** 2 GiB less a byte: the most that Node reads at once. */
const NIFTI_FILE_BYTES_MAX = 2 ** 31 - 1;

export interface NiftiImage {
  readonly volume: Volume;
  readonly header: NiftiHeader;
  readonly orientation: OrientationSource;
  /** Voxels that held no finite number and were set to 0. */
  readonly replacedVoxels: number;
}

export interface NiftiLabels {
  readonly labelmap: Labelmap;
  readonly header: NiftiHeader;
  readonly orientation: OrientationSource;
}

/** @throws NiftiError */
export async function readNiftiImage(path: string): Promise<NiftiImage> {
  return decodeNiftiImage(await readBounded(path));
}

/** @throws NiftiError */
export async function readNiftiLabels(path: string): Promise<NiftiLabels> {
  return decodeNiftiLabels(await readBounded(path));
}

/** @param file bytes of a .nii or .nii.gz file. @throws NiftiError */
export async function decodeNiftiImage(file: Uint8Array): Promise<NiftiImage> {
  const { bytes, header, grid, orientation } = await unpack(file);
  return { ...decodeVolume(bytes, header, grid), header, orientation };
}

/** @param file bytes of a .nii or .nii.gz file. @throws NiftiError */
export async function decodeNiftiLabels(file: Uint8Array): Promise<NiftiLabels> {
  const { bytes, header, grid, orientation } = await unpack(file);
  return { labelmap: decodeLabelmap(bytes, header, grid), header, orientation };
}

interface Unpacked {
  readonly bytes: Uint8Array;
  readonly header: NiftiHeader;
  readonly grid: Grid;
  readonly orientation: OrientationSource;
}

/** Header first: its announced size is the bound for the rest. */
async function unpack(file: Uint8Array): Promise<Unpacked> {
  const header = parseNiftiHeader(isGzip(file) ? await inflateStart(file) : file);
  const { grid, source } = niftiGeometry(header);
  const bytes = isGzip(file) ? await inflateAll(file, niftiFileBytes(header)) : file;
  return { bytes, header, grid, orientation: source };
}

async function readBounded(path: string): Promise<Uint8Array> {
  try {
    await using file = await open(path, "r");
    const status = await file.stat();
    if (!status.isFile()) throw new NiftiError("nifti.file.unreadable");
    if (status.size > NIFTI_FILE_BYTES_MAX) throw new NiftiError("nifti.file.large");
    return await file.readFile();
  } catch (cause) {
    if (cause instanceof NiftiError) throw cause;
    throw new NiftiError("nifti.file.unreadable", { cause });
  }
}
