import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import t, { type Test } from "tap";
import { archiveOf, type FixtureEntry } from "./archive-fixture.ts";
import type { Unpacking } from "./set-up-plan.ts";
import { placeEntries } from "./unpack.ts";
import { type ArchiveEntry, extractEntry, openArchive } from "./zip-archive.ts";

const refused = { name: "NativeError", code: "native.archive" };

function written(t: Test, bytes: Uint8Array): string {
  const file = join(t.testdir(), "archive.whl");
  writeFileSync(file, bytes);
  return file;
}

async function extracted(file: string, name: string, to: string): Promise<string> {
  const archive = await openArchive(file);
  await extractEntry(archive, expectDefined(archive.entries.get(name), name), to);
  return readFileSync(to, "utf8");
}

t.test("single files are taken out, compressed and not, with their right to be run", async (t) => {
  const file = written(
    t,
    archiveOf([
      { name: "a/library.so", data: "abc".repeat(5000) },
      { name: "a/plain.h", data: "plain", method: 0 },
      { name: "bin/tool", data: "tool", mode: 0o100755 },
      { name: "a/empty" },
      { name: "folder/", mode: 0o40755 },
    ]),
  );
  const to = (name: string): string => join(file, "..", name);
  t.equal(await extracted(file, "a/library.so", to("library")), "abc".repeat(5000));
  t.equal(await extracted(file, "a/plain.h", to("plain")), "plain");
  t.equal(await extracted(file, "bin/tool", to("tool")), "tool");
  t.equal(await extracted(file, "a/empty", to("empty")), "");
  t.equal(statSync(to("tool")).mode & 0o100, 0o100);
  t.equal(statSync(to("plain")).mode & 0o111, 0);
  await t.rejects(extracted(file, "a/plain.h", to("plain")), { code: "EEXIST" }, "nothing is written over");
});

t.test("an archive that is cut short anywhere is refused", async (t) => {
  const whole = archiveOf([
    { name: "a", data: "some data" },
    { name: "b", data: "more" },
  ]);
  for (let length = 0; length < whole.length; length += 1)
    await t.rejects(openArchive(written(t, whole.subarray(0, length))), refused, `${length} bytes`);
  await t.rejects(openArchive(written(t, Buffer.concat([whole, Buffer.of(0)]))), refused, "and one too long");
});

t.test("names that could leave the folder, links and what no wheel has are refused", async (t) => {
  const hostile: Record<string, FixtureEntry[]> = {
    "a way up": [{ name: "a/../../b" }],
    "an absolute path": [{ name: "/etc/passwd" }],
    "an empty segment": [{ name: "a//b" }],
    "a backslash": [{ name: "a\\..\\b" }],
    "a drive": [{ name: "C:x" }],
    "a control character": [{ name: "a\u0000b" }],
    "a link": [{ name: "a", data: "/etc", mode: 0o120777 }],
    "one name twice": [{ name: "a" }, { name: "a" }],
    encryption: [{ name: "a", flags: 1 }],
    "another compression": [{ name: "a", method: 12 }],
    "sizes of zip64": [{ name: "a", byteLength: 0xffffffff }],
    "a stored entry of two sizes": [{ name: "a", data: "abc", method: 0, byteLength: 4 }],
  };
  for (const [what, entries] of Object.entries(hostile))
    await t.rejects(openArchive(written(t, archiveOf(entries))), refused, what);
});

t.test("an entry that is not what the directory says is refused", async (t) => {
  const lies: Record<string, FixtureEntry> = {
    "more data than announced": { name: "a", data: "x".repeat(100_000), byteLength: 10 },
    "less data than announced": { name: "a", data: "abc", byteLength: 10 },
    "another checksum": { name: "a", data: "abc", crc32: 1 },
    "another local name": { name: "a", data: "abc", localName: "b" },
    "data over the directory": { name: "a", data: "abc", storedLength: 40 },
  };
  for (const [what, entry] of Object.entries(lies)) {
    const file = written(t, archiveOf([entry]));
    await t.rejects(extracted(file, "a", join(file, "../out")), refused, what);
  }
  const damaged = archiveOf([{ name: "a", data: "abcdefgh".repeat(50) }]);
  damaged.fill(0xff, 31, 40);
  const file = written(t, damaged);
  await t.rejects(extracted(file, "a", join(file, "../out")), refused, "damaged data");
  t.notOk(existsSync(join(file, "../escaped")));
});

t.test("only what a plan names is placed, and within its bounds", async (t) => {
  const entry = (name: string, byteLength = 10): [string, ArchiveEntry] => [
    name,
    { name, byteLength, storedLength: 1, isDeflated: true, crc32: 0, headerOffset: 0, isExecutable: false },
  ];
  const entries = new Map([
    entry("tensorflow/lib.so"),
    entry("tensorflow/other.py"),
    entry("nvidia/cublas/lib/libcublas.so.12"),
    entry("nvidia/cublas/include/cublas.h"),
    entry("nvidia/cublas/"),
  ]);
  const file = { registry: "pip", request: "", fileName: "", megabytes: 1 } as const;
  const base: Unpacking = {
    file: { ...file, digest: { algorithm: "sha256", hex: "" } },
    entries: { "tensorflow/lib.so": "deps/lib/lib.so" },
    bytesMax: 100,
  };
  const places = (unpacking: Unpacking): string[] => placeEntries(entries, unpacking).map(({ to }) => to);
  t.strictSame(places(base), ["deps/lib/lib.so"]);
  const cuda = { ...base, entries: {}, folder: { from: "nvidia/", to: "deps/nvidia/" } };
  t.strictSame(places(cuda), ["deps/nvidia/cublas/lib/libcublas.so.12"]);
  t.throws(() => places({ ...base, bytesMax: 9 }), refused);
  t.throws(() => places({ ...base, entries: { "tensorflow/absent.so": "x" } }), refused);
  t.throws(() => places({ ...cuda, folder: { from: "absent/", to: "x/" } }), refused);
});
