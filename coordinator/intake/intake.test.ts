// finite-and-bounded.ts, uploads.ts and admit.ts as units; what sites can do to them over the wire is in
// test/integration/hostile-site.test.ts.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import t from "tap";
import { plainKernel, simdKernel } from "../aggregation/vector-kernel.ts";
import { FileArtifactStore } from "../versions/artifact-store.ts";
import { MemoryArtifactStore } from "../versions/memory-artifact-store.ts";
import { holdsExactly, TensorReader } from "../versions/tensor-reader.ts";
import { exceeds, measure } from "./finite-and-bounded.ts";
import { type Chunk, Uploads } from "./uploads.ts";

t.test(
  "an update's norm is its L2 norm, and one value that is not finite is found wherever it is",
  async (t) => {
    const length = 70_001;
    const manifest = [
      { name: "a", shape: [length], dtype: "F32" as const },
      { name: "b", shape: [3], dtype: "F32" as const },
    ];
    const measured = async (change: (a: Float32Array, b: Float32Array) => unknown) => {
      const store = new MemoryArtifactStore();
      const [a, b] = [new Float32Array(length).fill(0.01), new Float32Array(3)];
      change(a, b);
      const writer = store.create();
      writer.write(writeTensorBundle([float32Tensor("a", [length], a), float32Tensor("b", [3], b)]));
      const reader = TensorReader.open(store, writer.finish().sha256);
      t.ok(holdsExactly(reader, manifest));
      t.same(await measure(reader, manifest, simdKernel()), await measure(reader, manifest, plainKernel()));
      return measure(reader, manifest, simdKernel());
    };
    const plain = await measured(() => {});
    t.ok(plain.isFinite && Math.abs(plain.normL2 - 0.01 * Math.sqrt(length)) < 1e-6);
    t.ok(
      (await measured((a) => a.fill(3e38))).isFinite,
      "the largest floats are finite, and so is their norm",
    );
    for (const at of [0, 1, 32_767, 32_768, length - 1]) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        t.notOk((await measured((a) => a.fill(bad, at, at + 1))).isFinite, `${bad} at ${at}`);
      }
    }
    t.notOk((await measured((_, b) => b.fill(Number.NaN, 2))).isFinite);
    t.notOk(exceeds(10, 10));
    t.notOk(exceeds(10.00001, 10), "rounding is forgiven");
    t.ok(exceeds(10.01, 10));
  },
);

t.test(
  "an upload is nothing until all of it is there, and each sender has a bounded number of them",
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "consilium-uploads-"));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const store = new FileArtifactStore(join(folder, "blobs"));
    const uploads = new Uploads(join(folder, "uploads"), store);
    const bytes = new Uint8Array(1000).map((_, at) => at);
    const sha256 = blobDigest(bytes);
    const send = (chunk: Partial<Chunk>, part: Uint8Array) =>
      uploads.append(
        { sender: "hospital-a", sha256, offset: 0, length: 1000, lengthMax: 1000, ...chunk },
        Readable.from([Buffer.from(part)]),
      );

    t.same(await send({}, bytes.subarray(0, 400)), { offset: 400, complete: false });
    t.equal(store.size(sha256), null);
    await t.rejects(send({ offset: 0 }, bytes.subarray(0, 400)), { code: "upload.offset-mismatch" });
    await t.rejects(send({ offset: 400, lengthMax: 999 }, bytes.subarray(400)), { code: "upload.too-large" });
    await t.rejects(send({ offset: 400 }, new Uint8Array(601)), { code: "upload.too-large" });
    t.same(
      uploads.state("hospital-a", sha256),
      { offset: 400, complete: false },
      "what was too much is taken back",
    );
    const again = new Uploads(join(folder, "uploads"), store);
    t.same(again.state("hospital-a", sha256), { offset: 400, complete: false }, "also after a restart");
    t.same(await send({ offset: 400 }, bytes.subarray(400)), { offset: 1000, complete: true });
    t.equal(store.size(sha256), 1000);
    t.same(
      uploads.state("hospital-b", sha256),
      { offset: 0, complete: false },
      "another sender has shown nothing",
    );
    for (let at = 0; at < 10; at += 1)
      await send({ sha256: blobDigest(Uint8Array.of(at)) }, bytes.subarray(0, 10));
    t.equal(
      readdirSync(join(folder, "uploads/hospital-a")).filter((name) => !name.endsWith(".done")).length,
      4,
      "the oldest unfinished ones make room",
    );
  },
);
