// Stages 0 to 2 of a volume beside PyTorch, on the same weights, slices and questions, in one run. A figure counts only
// where the masks agree. Prints one JSON document; ratios are ours over PyTorch's, below 1 where we are faster.
// npm run bench -- volume-against-pytorch [PIXELS]

import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { BackendName } from "../site-agent/backend/backend-report.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { tensorFlowThreads } from "../site-agent/backend/tensorflow-threads.ts";
import { printBesidePyTorch, printedInBestLayout, readFloats, root } from "./pytorch/environment.ts";
import { openVolume, writeVolume } from "./pytorch/sam2-volume.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";

type Timed = { readonly cpuSeconds: number; readonly wallSeconds: number };
type Measured = Timed & {
  /** Relative L2 error of all masks together against PyTorch's. */
  readonly maskError: number;
};

const PIXELS = 256;
const RUNS = 1;
/** In the first volume graphs are recorded and compared. */
const WARM_UPS = 1;
const BACKENDS = ["tfjs-node", "wasm"] as const satisfies readonly BackendName[];
const THREADS = [1, 2];
const MASK_ERROR_MAX = 1e-3;

/** In a process of its own, with the number of threads in its environment. */
async function measureHere(folder: string): Promise<Measured> {
  const { refine } = await openVolume(folder);
  const runs: Timed[] = [];
  let masks: readonly Float32Array[] = [];
  for (let index = 0; index < WARM_UPS + RUNS; index += 1) {
    const [cpu, wall] = [process.cpuUsage(), performance.now()];
    masks = await refine();
    const { user, system } = process.cpuUsage(cpu);
    const wallSeconds = (performance.now() - wall) / 1000;
    if (index >= WARM_UPS) runs.push({ cpuSeconds: (user + system) / 1e6, wallSeconds });
  }
  const seconds = runs.map(({ cpuSeconds }) => cpuSeconds).sort((a, b) => a - b);
  return {
    cpuSeconds: expectDefined(seconds[Math.floor(RUNS / 2)], "a run"),
    wallSeconds: Math.min(...runs.map(({ wallSeconds }) => wallSeconds)),
    maskError: await maskError(folder, masks),
  };
}

async function maskError(folder: string, found: readonly Float32Array[]): Promise<number> {
  const expected = expectDefined(
    (await readFloats(join(folder, "answers.safetensors"))).get("masks"),
    "masks",
  );
  const pixels = expected.length / found.length;
  if (found.some(({ length }) => length !== pixels)) return Number.POSITIVE_INFINITY;
  let [difference, size] = [0, 0];
  found.forEach((mask, index) => {
    mask.forEach((logit, pixel) => {
      const other = expected[index * pixels + pixel] ?? Number.NaN;
      difference += (logit - other) ** 2;
      size += other ** 2;
    });
  });
  return Math.sqrt(difference / size);
}

async function compare(pixels: number): Promise<object[]> {
  const folder = join(root, "data/bench-tasks", `volume-${pixels}`);
  await startBackend("wasm"); // On which the questions are noted.
  await writeVolume(folder, pixels);
  const rows: object[] = [];
  for (const threads of THREADS) {
    const words = [folder, String(threads), String(RUNS)];
    const pytorch = await printedInBestLayout<Timed>("sam2_volume.py", words);
    const row: Record<string, unknown> = { pixels, threads, pytorch };
    for (const backend of BACKENDS) {
      if (backend === "wasm" && threads > 1) continue; // It has one.
      const environment = tensorFlowThreads(threads);
      const ours = (await answerOfChild(import.meta.url, [backend, folder], { environment })) as
        | Measured
        | undefined; // What the child below sends.
      row[backend] = ours ? compared(ours, pytorch) : { skipped: "the backend is not installed here" };
    }
    console.error(JSON.stringify(row));
    rows.push(row);
  }
  return rows;
}

function compared(ours: Measured, pytorch: Timed): object {
  if (!(ours.maskError <= MASK_ERROR_MAX)) return { ...ours, doesNotCount: "masks differ" };
  return {
    ...ours,
    cpuRatio: ours.cpuSeconds / pytorch.cpuSeconds,
    wallRatio: ours.wallSeconds / pytorch.wallSeconds,
  };
}

const [first, folder] = process.argv.slice(2);
if (process.send && folder) {
  await startBackend(
    expectDefined(
      BACKENDS.find((name) => name === first),
      "a backend",
    ),
  );
  process.send(await measureHere(folder));
  process.disconnect();
} else {
  await printBesidePyTorch(() => compare(Number(first ?? PIXELS)));
}
