// fedavg.ts and vector-kernel.ts: the arithmetic of aggregation, against the golden numbers, against itself in other
// orders, and the fast kernel against plain loops bit by bit.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Prng } from "@consilium/shared/base/prng.ts";
import {
  float32Tensor,
  float32Values,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import fc from "fast-check";
import t from "tap";
import { compileWat } from "../../test/support/compile-wat.ts";
import type { StoredBlob } from "../versions/artifact-store.ts";
import { MemoryArtifactStore } from "../versions/memory-artifact-store.ts";
import { aggregate, weightOf } from "./fedavg.ts";
import { blockElements, plainKernel, simdKernel, type VectorKernel } from "./vector-kernel.ts";

type Vectors = Record<string, Float32Array>;

function put(store: MemoryArtifactStore, vectors: Vectors): StoredBlob {
  const writer = store.create();
  writer.write(
    writeTensorBundle(
      Object.entries(vectors).map(([name, values]) => float32Tensor(name, [values.length], values)),
    ),
  );
  return writer.finish();
}

function get(store: MemoryArtifactStore, { sha256, bytes }: StoredBlob): Vectors {
  const whole = new Uint8Array(bytes);
  store.open(sha256).readInto(0, whole);
  return Object.fromEntries(
    [...readTensorBundle(whole).tensors].map(([name, tensor]) => [name, float32Values(tensor)]),
  );
}

const manifestOf = (vectors: Vectors) =>
  Object.entries(vectors).map(([name, values]) => ({ name, shape: [values.length], dtype: "F32" as const }));

const random = (prng: Prng, length: number, scale = 1): Float32Array =>
  Float32Array.from({ length }, () => prng.normal() * scale);

t.test("the committed binary is what its text compiles to", async (t) => {
  const text = fileURLToPath(new URL("./vector-kernel.wat", import.meta.url));
  const committed = readFileSync(text.replace(".wat", ".wasm.ts"), "utf8");
  const base64 = (source: string): string =>
    [...source.matchAll(/"([A-Za-z0-9+/=]+)"/g)].map((match) => match[1]).join("");
  t.equal(base64(committed), base64(await compileWat(text)));
});

t.test("the fast kernel gives the bits of the plain loops, for every tail", async (t) => {
  const prng = new Prng(1);
  for (const count of [1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 1000, blockElements - 1, blockElements]) {
    const inputs = Array.from({ length: 5 }, () => random(prng, count, 10 ** prng.int(-20, 20)));
    const run = (kernel: VectorKernel): { sum: number; output: Float32Array } => {
      kernel.input.fill(Number.NaN); // What lies behind the block must not matter.
      kernel.clear(count);
      for (const [at, values] of inputs.entries()) {
        kernel.input.set(values);
        kernel.accumulate(count, at * 7 + 1);
      }
      const sum = kernel.sumOfSquares(count);
      kernel.finish(count, 75);
      return { sum, output: kernel.output.slice(0, count) };
    };
    const [fast, plain] = [run(simdKernel()), run(plainKernel())];
    t.strictSame(Buffer.from(fast.output.buffer), Buffer.from(plain.output.buffer), `${count} elements`);
    t.equal(fast.sum, plain.sum);
  }
});

t.test(
  "FedAvg conforms to the golden numbers of scalars-a",
  { skip: existsSync("../shared/goldens/scalars-a") ? false : "../shared/goldens/scalars-a is not here" },
  async (t) => {
    const bundle = readTensorBundle(
      new Uint8Array(readFileSync("../shared/goldens/scalars-a/data.safetensors")),
    );
    const doubles = (name: string): Float64Array => {
      const { bytes = new Uint8Array() } = bundle.tensors.get(`federated/${name}@f64`) ?? {};
      return new Float64Array(bytes.slice().buffer);
    };
    const [clients, weights, server, expected] = [
      doubles("clients"),
      doubles("weights"),
      doubles("server0"),
      doubles("fedavg"),
    ];
    const store = new MemoryArtifactStore();
    const size = server.length;
    const base = put(store, { x: new Float32Array(size) });
    const deltas = [...weights].map((weight, site) => ({
      delta: put(store, { x: Float32Array.from(clients.subarray(site * size, (site + 1) * size)) }).sha256,
      weight,
    }));
    const result = get(
      store,
      await aggregate({
        store,
        base: base.sha256,
        manifest: manifestOf({ x: new Float32Array(size) }),
        deltas,
        kernel: simdKernel(),
      }),
    )["x"];
    for (const [at, value] of expected.entries())
      t.ok(Math.abs((result?.[at] ?? 0) - value) <= 1e-5 * Math.max(1, Math.abs(value)), `element ${at}`);
    t.ok(expected.length === 12);
  },
);

t.test("tensors outside the manifest are copied, those inside move by the weighted mean", async (t) => {
  const store = new MemoryArtifactStore();
  const base = put(store, { frozen: Float32Array.of(1, 2, 3), trained: Float32Array.of(10, 20) });
  const deltas = [
    { delta: put(store, { trained: Float32Array.of(1, 0) }).sha256, weight: 1 },
    { delta: put(store, { trained: Float32Array.of(0, 8) }).sha256, weight: 3 },
  ];
  const manifest = [{ name: "trained", shape: [2], dtype: "F32" as const }];
  const result = get(
    store,
    await aggregate({ store, base: base.sha256, manifest, deltas, kernel: simdKernel() }),
  );
  t.strictSame(Object.keys(result), ["frozen", "trained"]);
  t.strictSame([...(result["frozen"] ?? [])], [1, 2, 3]);
  t.strictSame([...(result["trained"] ?? [])], [10.25, 26]);
  t.equal(weightOf(50, 20), 20, "no site counts for more than the plan allows");
  t.equal(weightOf(5, 20), 5);
});

t.test(
  "the same updates give the same bytes whatever the layout of their files, and with either kernel",
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.integer({ min: 2, max: 6 }), async (seed, sites) => {
        const prng = new Prng(seed);
        const store = new MemoryArtifactStore();
        const shape: Vectors = {
          b: new Float32Array(5),
          a: new Float32Array(40_000),
          c: new Float32Array(1),
        };
        const draw = (order: readonly string[]): Vectors =>
          Object.fromEntries(
            order.map((name) => [
              name,
              random(Prng.labelled(seed, `${name} ${prng.int(0, 9)}`), shape[name]?.length ?? 0),
            ]),
          );
        const base = put(store, draw(["a", "b", "c"]));
        const updates = Array.from({ length: sites }, () => draw(["a", "b", "c"]));
        const run = async (order: readonly string[], kernel: VectorKernel): Promise<string> => {
          const deltas = updates.map((vectors, site) => ({
            delta: put(
              store,
              Object.fromEntries(order.map((name) => [name, vectors[name] ?? new Float32Array()])),
            ).sha256,
            weight: site + 1,
          }));
          return (await aggregate({ store, base: base.sha256, manifest: manifestOf(shape), deltas, kernel }))
            .sha256;
        };
        const results = [
          await run(["a", "b", "c"], simdKernel()),
          await run(["c", "a", "b"], simdKernel()),
          await run(["b", "c", "a"], plainKernel()),
        ];
        return new Set(results).size === 1;
      }),
      { numRuns: 20 },
    );
  },
);
