import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256 } from "@consilium/shared/base/brand.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import t from "tap";
import { mortalDisk } from "../../test/support/mortal-disk.ts";
import { BlobStore } from "./blobs.ts";
import { replaceFile } from "./durable-file.ts";

const bytesOf = (seed: number, length: number): Uint8Array => {
  const prng = new Prng(seed);
  return Uint8Array.from({ length }, () => prng.int(0, 255));
};

t.test("a blob is read back under its SHA-256, and one blob is kept once", async (t) => {
  const folder = t.testdir({});
  const store = await BlobStore.open(folder);
  const bytes = bytesOf(1, 1000);
  const digest = await store.write(bytes);
  t.equal(digest, blobDigest(bytes));
  t.equal(await store.write(bytes), digest);
  t.equal(store.storedBytes, 1000);
  t.strictSame(new Uint8Array(await store.read(digest)), bytes);
  t.equal(await store.bytesOf(digest), 1000);
  t.equal(await store.bytesOf(blobDigest(bytesOf(2, 3))), null);
  await t.rejects(store.read(blobDigest(bytesOf(2, 3))), { code: "blob.unknown" });
  t.equal((await BlobStore.open(folder)).storedBytes, 1000, "counted again on opening");
});

t.test("a blob damaged on the disk is refused and gone", async (t) => {
  const folder = t.testdir({});
  const store = await BlobStore.open(folder);
  const digest = await store.write(bytesOf(1, 1000));
  const path = join(folder, "sha256", digest.slice(0, 2), digest);
  const bytes = await readFile(path);
  bytes[500] = (bytes[500] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await t.rejects(store.read(digest), { code: "blob.damaged" });
  t.equal(await store.bytesOf(digest), null);
});

t.test("an arrival goes on where it stopped and must be exactly what was announced", async (t) => {
  const folder = t.testdir({});
  const bytes = bytesOf(3, 5000);
  const digest = blobDigest(bytes);
  const first = await (await BlobStore.open(folder)).arrive(digest, bytes.length);
  await first.append(bytes.subarray(0, 2000));

  const store = await BlobStore.open(folder);
  const second = await store.arrive(digest, bytes.length);
  t.equal(second.receivedBytes, 2000);
  await second.append(bytes.subarray(2000));
  await t.rejects(second.append(Uint8Array.of(1)), { code: "blob.too-large" });
  await second.finish();
  t.strictSame(new Uint8Array(await store.read(digest)), bytes);

  const other = blobDigest(bytesOf(4, 10));
  const wrong = await store.arrive(other, 10);
  await wrong.append(bytesOf(5, 10));
  await t.rejects(wrong.finish(), { code: "blob.digest-mismatch" });
  const short = await store.arrive(other, 10);
  t.equal(short.receivedBytes, 0, "what was wrong was thrown away");
  await short.append(bytesOf(4, 10).subarray(0, 9));
  await t.rejects(short.finish(), { code: "blob.digest-mismatch" });
  t.equal(await store.bytesOf(other), null);
});

t.test("the store is bounded, and pruning keeps what it is told to keep", async (t) => {
  const folder = t.testdir({});
  const store = await BlobStore.open(folder, { bytesMax: 3000 });
  const one = await store.write(bytesOf(1, 1000));
  const two = await store.write(bytesOf(2, 1000));
  await t.rejects(store.write(bytesOf(3, 1001)), { code: "blob.store-full" });
  await t.rejects(store.arrive(sha256("a".repeat(64)), 1001), { code: "blob.store-full" });
  await t.rejects(store.arrive(sha256("a".repeat(64)), 5 * 2 ** 30), { code: "blob.too-large" });
  const arriving = await store.arrive(blobDigest(bytesOf(4, 500)), 500);
  await arriving.append(bytesOf(4, 500).subarray(0, 10));
  t.equal(await store.prune(new Set([two])), 1);
  t.equal(await store.bytesOf(one), null);
  t.equal(store.storedBytes, 1000);
  t.strictSame(await readdir(join(folder, "arriving")), []);
});

t.test("whichever disk call the process dies in, a blob is there whole or not at all", async (t) => {
  const root = t.testdir({});
  const bytes = bytesOf(7, 4000);
  const digest = blobDigest(bytes);
  for (let calls = 1; ; calls += 1) {
    const folder = join(root, String(calls));
    const disk = mortalDisk(calls);
    let isAcknowledged = false;
    try {
      const store = await BlobStore.open(folder, { disk });
      const arrival = await store.arrive(digest, bytes.length);
      await arrival.append(bytes.subarray(0, 1500));
      await arrival.append(bytes.subarray(1500));
      await arrival.finish();
      await store.write(bytesOf(8, 50));
      isAcknowledged = true;
    } catch {
      // Dead in mid-call.
    }
    const survivor = await BlobStore.open(folder);
    const found = await survivor.bytesOf(digest);
    if (isAcknowledged) t.equal(found, bytes.length);
    if (found !== null) t.equal((await survivor.read(digest)).length, bytes.length);
    const arrival = await survivor.arrive(digest, bytes.length);
    await arrival.append(bytes.subarray(arrival.receivedBytes));
    await arrival.finish();
    t.strictSame(new Uint8Array(await survivor.read(digest)), bytes, `went on after dying in call ${calls}`);
    if (disk.calls() < calls) break;
  }
});

t.test(
  "replacing a file leaves the old or the new content, whichever call the process dies in",
  async (t) => {
    const root = t.testdir({});
    for (let calls = 1; calls <= 4; calls += 1) {
      const folder = join(root, String(calls));
      await mkdir(folder);
      const path = join(folder, "file");
      await replaceFile(path, new TextEncoder().encode("old"));
      await t.rejects(replaceFile(path, new TextEncoder().encode("new"), mortalDisk(calls)));
      t.equal(await readFile(path, "utf8"), calls <= 3 ? "old" : "new");
    }
  },
);
