// FedAvg over stored updates beside a plain copy of the same bytes in memory, in one run. Prints JSON.
// npm run bench -- aggregation [--megabytes 40] [--sites 20]

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { aggregate } from "@consilium/coordinator/aggregation/fedavg.ts";
import {
  plainKernel,
  simdKernel,
  type VectorKernel,
} from "@consilium/coordinator/aggregation/vector-kernel.ts";
import { FileArtifactStore } from "@consilium/coordinator/versions/artifact-store.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";

const { values } = parseArgs({
  options: { megabytes: { type: "string", default: "40" }, sites: { type: "string", default: "20" } },
});
const [megabytes, sites] = [Number(values.megabytes), Number(values.sites)];
const elements = Math.round((megabytes * 1e6) / 4);
const repetitions = 5;

const folder = mkdtempSync(join(tmpdir(), "consilium-bench-"));
try {
  const store = new FileArtifactStore(folder);
  const put = (seed: number): ReturnType<ReturnType<FileArtifactStore["create"]>["finish"]> => {
    const prng = new Prng(seed);
    const block = Float32Array.from({ length: 4096 }, () => prng.normal());
    const weights = Float32Array.from({ length: elements }, (_, at) => block[at % block.length] ?? 0);
    const writer = store.create();
    writer.write(writeTensorBundle([float32Tensor("weights", [elements], weights)]));
    return writer.finish();
  };
  const base = put(0).sha256;
  const deltas = Array.from({ length: sites }, (_, site) => ({
    delta: put(site + 1).sha256,
    weight: site + 1,
  }));
  const manifest = [{ name: "weights", shape: [elements], dtype: "F32" as const }];
  const run = (kernel: VectorKernel) => aggregate({ store, base, manifest, deltas, kernel });
  const updateBytes = 4 * elements * sites;
  const rss = process.memoryUsage().rss;
  const simd = await measure(() => run(simdKernel()));
  const rssGrowthMB = (process.memoryUsage().rss - rss) / 1e6;
  const plain = await measure(() => run(plainKernel()));
  const [source, target] = [new Uint8Array(4 * elements), new Uint8Array(4 * elements)];
  const copy = await measure(async () => {
    for (let site = 0; site < sites; site += 1) target.set(source);
  });
  const rate = ({ wallSeconds, cpuSeconds }: Timing) => ({
    wallSeconds,
    cpuSeconds,
    gigabytesPerSecond: updateBytes / wallSeconds / 1e9,
  });
  const result = {
    what: "FedAvg from disk to disk, checked by digest",
    sites,
    megabytesPerUpdate: megabytes,
    simd: rate(simd),
    plainLoops: rate(plain),
    memcpy: rate(copy),
    ratioToMemcpy: copy.wallSeconds / simd.wallSeconds,
    rssGrowthMB,
  };
  console.log(JSON.stringify(result, null, 2));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

type Timing = { readonly wallSeconds: number; readonly cpuSeconds: number };

/** The median of several runs after one to warm up. */
async function measure(work: () => Promise<unknown>): Promise<Timing> {
  await work();
  const runs: Timing[] = [];
  for (let at = 0; at < repetitions; at += 1) {
    const [cpu, startMs] = [process.cpuUsage(), performance.now()];
    await work();
    const { user, system } = process.cpuUsage(cpu);
    runs.push({ wallSeconds: (performance.now() - startMs) / 1000, cpuSeconds: (user + system) / 1e6 });
  }
  runs.sort((a, b) => a.wallSeconds - b.wallSeconds);
  return runs[Math.floor(repetitions / 2)] ?? { wallSeconds: Number.NaN, cpuSeconds: Number.NaN };
}
