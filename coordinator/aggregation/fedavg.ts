// FedAvg (McMahan et al. 2017) over stored updates: new = base + sum(n_k * delta_k) / sum(n_k), in float64, in the
// order of the sites given, block by block, rounded once to float32. The same inputs give the same bytes in any order
// of arrival, and memory does not grow with the number of sites.

import { setImmediate as nextTurn } from "node:timers/promises";
import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { TensorRange } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import type { ArtifactStore, BlobWriter, StoredBlob } from "../versions/artifact-store.ts";
import { TensorReader } from "../versions/tensor-reader.ts";
import { blockElements, type VectorKernel } from "./vector-kernel.ts";

/** Blocks between two looks at the event loop. */
const blocksPerTurn = 32;

export type WeightedDelta = { readonly delta: Sha256; readonly weight: number };

export type Aggregation = {
  readonly store: ArtifactStore;
  readonly base: Sha256;
  readonly manifest: ParameterManifest;
  /** In the order of summation. Weights are whole numbers of examples. */
  readonly deltas: readonly WeightedDelta[];
  readonly kernel: VectorKernel;
};

/** The examples that a site counts with. */
export function weightOf(examples: number, examplesPerSiteMax: number): number {
  return Math.min(examples, examplesPerSiteMax);
}

/** @returns the new weights: the base's tensors in the base's order, those of the manifest moved by the mean delta */
export async function aggregate({ store, base, manifest, deltas, kernel }: Aggregation): Promise<StoredBlob> {
  const total = deltas.reduce((sum, { weight }) => sum + weight, 0);
  assert(deltas.length > 0 && total > 0, "an aggregate needs updates that count");
  const open: TensorReader[] = [];
  const writer = store.create();
  try {
    const from = opened(open, TensorReader.open(store, base));
    const updates = deltas.map(({ delta, weight }) => ({
      reader: opened(open, TensorReader.open(store, delta)),
      weight,
    }));
    const trained = new Set(manifest.map(({ name }) => name));
    writer.write(writeBundleHeader([...from.tensors.values()]));
    const pace = { blocks: 0 };
    for (const tensor of from.tensors.values()) {
      const mix = { from, tensor, writer, pace };
      if (trained.has(tensor.name)) await moveTensor(mix, updates, { kernel, total });
      else await copyTensor(mix);
    }
    return writer.finish();
  } catch (error) {
    writer.abandon();
    throw error;
  } finally {
    for (const reader of open) reader.close();
  }
}

type Mix = {
  readonly from: TensorReader;
  readonly tensor: TensorRange;
  readonly writer: BlobWriter;
  readonly pace: { blocks: number };
};
type Update = { readonly reader: TensorReader; readonly weight: number };

async function moveTensor(
  { from, tensor, writer, pace }: Mix,
  updates: readonly Update[],
  { kernel, total }: { kernel: VectorKernel; total: number },
): Promise<void> {
  const parts = updates.map(({ reader, weight }) => ({
    reader,
    weight,
    part: expectDefined(reader.tensors.get(tensor.name), tensor.name),
  }));
  const elements = tensor.byteLength / 4;
  for (let first = 0; first < elements; first += blockElements) {
    const count = Math.min(blockElements, elements - first);
    const input = kernel.input.subarray(0, count);
    kernel.clear(count);
    for (const { reader, weight, part } of parts) {
      reader.readFloats(part, first, input);
      kernel.accumulate(count, weight);
    }
    from.readFloats(tensor, first, input);
    kernel.finish(count, total);
    writer.write(new Uint8Array(kernel.output.buffer, kernel.output.byteOffset, 4 * count));
    await breathe(pace);
  }
}

async function copyTensor({ from, tensor, writer, pace }: Mix): Promise<void> {
  const block = new Uint8Array(Math.min(4 * blockElements, tensor.byteLength));
  for (let offset = 0; offset < tensor.byteLength; offset += block.length) {
    const part = block.subarray(0, tensor.byteLength - offset);
    from.readBytes(tensor, offset, part);
    writer.write(part);
    await breathe(pace);
  }
}

/** Heartbeats and requests are served in between. */
async function breathe(pace: { blocks: number }): Promise<void> {
  pace.blocks += 1;
  if (pace.blocks % blocksPerTurn === 0) await nextTurn();
}

function opened(open: TensorReader[], reader: TensorReader): TensorReader {
  open.push(reader);
  return reader;
}
