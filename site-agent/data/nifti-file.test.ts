import { randomBytes } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { spacingOf, toWorld, type Vec3 } from "./affine.ts";
import { isSameGrid, makeGrid } from "./grid.ts";
import { NiftiError, type NiftiErrorCode } from "./nifti-error.ts";
import { decodeNiftiImage, decodeNiftiLabels, type NiftiImage, readNiftiImage } from "./nifti-file.ts";
import { NIFTI1, NIFTI2, type NiftiLayout } from "./nifti-layout.ts";
import { encodeLabelNifti, encodeVolumeNifti } from "./nifti-write.ts";
import { makeLabelmap, makeVolume } from "./volume.ts";

interface FileOptions {
  layout?: NiftiLayout;
  little?: boolean;
  code?: number;
  bits?: number;
  dims?: readonly number[];
  pixdim?: readonly number[];
  slope?: number;
  intercept?: number;
  qformCode?: number;
  sformCode?: number;
  quaternion?: Vec3;
  qoffset?: Vec3;
  rows?: readonly number[];
  units?: number;
  extensionBytes?: number;
  write?: (view: DataView, offset: number, value: number, little: boolean) => void;
  values?: readonly number[];
}

/** A NIfTI file built field by field, independent of the product's writer. */
function niftiFile(options: FileOptions = {}): Uint8Array {
  const { layout = NIFTI1, little = true, code = 16, bits = 32, values = [0, 1, 2, 3, 4, 5] } = options;
  const { dims = [3, 3, 2, 1, 1, 1, 1, 1], pixdim = [1, 1, 1, 1], extensionBytes = 0 } = options;
  const { write = (view, offset, value, le) => view.setFloat32(offset, value, le) } = options;
  const offset = layout.headerBytes + 4 + extensionBytes;
  const view = new DataView(new ArrayBuffer(offset + (values.length * bits) / 8));
  const bytes = new Uint8Array(view.buffer);
  view.setInt32(0, layout.headerBytes, little);
  bytes.set(layout.magic, layout.magicAt);
  dims.forEach((size, index) => {
    layout.writeDimension(view, index, size, little);
  });
  const reals = (at: number, list: readonly number[]): void => {
    list.forEach((value, index) => {
      layout.writeReal(view, at + index * layout.realBytes, value, little);
    });
  };
  reals(layout.pixdimAt, pixdim);
  reals(layout.slopeAt, [options.slope ?? 0, options.intercept ?? 0]);
  reals(layout.quaternionAt, options.quaternion ?? [0, 0, 0]);
  reals(layout.qoffsetAt, options.qoffset ?? [0, 0, 0]);
  reals(layout.sformRowsAt, options.rows ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]);
  layout.writeCode(view, layout.qformCodeAt, options.qformCode ?? 0, little);
  layout.writeCode(view, layout.sformCodeAt, options.sformCode ?? 1, little);
  layout.writeUnits(view, options.units ?? 2, little);
  view.setInt16(layout.datatypeAt, code, little);
  view.setInt16(layout.bitsPerVoxelAt, bits, little);
  layout.writeVoxelOffset(view, offset, little);
  values.forEach((value, index) => {
    write(view, offset + (index * bits) / 8, value, little);
  });
  return bytes;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "read",
    (error) => (error instanceof NiftiError ? error.code : `not coded: ${error}`),
  );
}

const SETTERS: readonly [string, number, number, NonNullable<FileOptions["write"]>, readonly number[]][] = [
  ["uint8", 2, 8, (v, o, x) => v.setUint8(o, x), [0, 1, 2, 127, 128, 255]],
  ["int8", 256, 8, (v, o, x) => v.setInt8(o, x), [-128, -1, 0, 1, 2, 127]],
  ["int16", 4, 16, (v, o, x, le) => v.setInt16(o, x, le), [-32768, -1024, 0, 1, 3071, 32767]],
  ["uint16", 512, 16, (v, o, x, le) => v.setUint16(o, x, le), [0, 1, 2, 300, 40_000, 65_535]],
  ["int32", 8, 32, (v, o, x, le) => v.setInt32(o, x, le), [-(2 ** 24), -1, 0, 1, 70_000, 2 ** 24]],
  ["uint32", 768, 32, (v, o, x, le) => v.setUint32(o, x, le), [0, 1, 2, 70_000, 2 ** 24, 2 ** 31]],
  ["float32", 16, 32, (v, o, x, le) => v.setFloat32(o, x, le), [-1.5, 0, 0.25, 1, 1e6, 1.7e6]],
  ["float64", 64, 64, (v, o, x, le) => v.setFloat64(o, x, le), [-1.5, 0, 0.25, 1, 1e6, 1e30]],
  ["int64", 1024, 64, (v, o, x, le) => v.setBigInt64(o, BigInt(x), le), [-5, -1, 0, 1, 2 ** 24, 2 ** 40]],
  ["uint64", 1280, 64, (v, o, x, le) => v.setBigUint64(o, BigInt(x), le), [0, 1, 2, 3, 2 ** 24, 2 ** 40]],
];

t.test("every voxel type is read in both byte orders and both versions", async (t) => {
  for (const [name, code, bits, write, values] of SETTERS) {
    for (const layout of [NIFTI1, NIFTI2]) {
      for (const little of [true, false]) {
        const file = niftiFile({ layout, little, code, bits, write, values });
        const { volume } = await decodeNiftiImage(file);
        t.strictSame([...volume.voxels], values.map(Math.fround), `${name} ${layout.headerBytes} ${little}`);
        t.strictSame([...volume.grid.shape], [3, 2, 1]);
      }
    }
  }
});

t.test("slope and intercept scale the values unless the slope is zero", async (t) => {
  const plain = await decodeNiftiImage(niftiFile({ slope: 0, intercept: 99 }));
  t.strictSame([...plain.volume.voxels], [0, 1, 2, 3, 4, 5]);
  const scaled = await decodeNiftiImage(niftiFile({ slope: 2, intercept: -1024 }));
  t.strictSame([...scaled.volume.voxels], [-1024, -1022, -1020, -1018, -1016, -1014]);
  t.equal(await codeOf(decodeNiftiImage(niftiFile({ slope: Number.NaN }))), "nifti.scaling");
  t.equal(
    await codeOf(decodeNiftiImage(niftiFile({ slope: 1, intercept: Number.POSITIVE_INFINITY }))),
    "nifti.scaling",
  );
});

t.test("the sform wins over the qform, the qform over the voxel size", async (t) => {
  const rows = [-2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30];
  const common = { rows, pixdim: [-1, 2, 3, 4], quaternion: [0, 0, 1] as Vec3, qoffset: [7, 8, 9] as Vec3 };
  const sform = await decodeNiftiImage(niftiFile({ ...common, sformCode: 1, qformCode: 1 }));
  t.strictSame([...toWorld(sform.volume.grid.affine, [1, 1, 0])], [8, 23, 30]);
  t.equal(sform.orientation, "sform");
  // A half turn about z, and qfac -1, which turns the third axis round: (b, c, d) = (0, 0, 1).
  const qform = await decodeNiftiImage(niftiFile({ ...common, sformCode: 0, qformCode: 1 }));
  t.strictSame([...toWorld(qform.volume.grid.affine, [1, 1, 1])], [5, 5, 5]);
  t.equal(qform.orientation, "qform");
  const none = await decodeNiftiImage(niftiFile({ ...common, sformCode: 0, qformCode: 0 }));
  t.strictSame([...toWorld(none.volume.grid.affine, [1, 1, 1])], [2, 3, 4]);
  t.equal(none.orientation, "none");
});

t.test("a quaternion gives the rotation of the NIfTI standard", async (t) => {
  // A quarter turn about x: a = b = cos 45 degrees; i stays, j goes to +z, k to -y (right-handed, qfac 1).
  const quaternion: Vec3 = [Math.SQRT1_2, 0, 0];
  const { volume } = await decodeNiftiImage(
    niftiFile({ sformCode: 0, qformCode: 2, quaternion, pixdim: [1, 2, 3, 4] }),
  );
  const at = (index: Vec3): number[] =>
    toWorld(volume.grid.affine, index).map((value) => Number(value.toFixed(5)) + 0);
  t.strictSame(at([1, 0, 0]), [2, 0, 0]);
  t.strictSame(at([0, 1, 0]), [0, 0, 3]);
  t.strictSame(at([0, 0, 1]), [0, -4, 0]);
});

t.test("metres and micrometres become millimetres", async (t) => {
  const metres = await decodeNiftiImage(
    niftiFile({ units: 1, pixdim: [1, 0.001, 0.001, 0.001], sformCode: 0 }),
  );
  t.ok(spacingOf(metres.volume.grid.affine).every((step) => Math.abs(step - 1) < 1e-6));
  const microns = await decodeNiftiImage(niftiFile({ units: 3, pixdim: [1, 500, 500, 500], sformCode: 0 }));
  t.ok(microns.volume.grid.spacingMm.every((step) => Math.abs(step - 0.5) < 1e-9));
});

t.test(
  "a flat image and a file of one volume in four dimensions are volumes; extensions are skipped",
  async (t) => {
    const flat = await decodeNiftiImage(niftiFile({ dims: [2, 3, 2, 0, 0, 0, 0, 0], pixdim: [1, 1, 1, 0] }));
    t.strictSame([...flat.volume.grid.shape], [3, 2, 1]);
    const four = await decodeNiftiImage(niftiFile({ dims: [4, 3, 2, 1, 1, 1, 1, 1], extensionBytes: 64 }));
    t.strictSame([...four.volume.voxels], [0, 1, 2, 3, 4, 5]);
  },
);

const FAULTS: readonly [string, NiftiErrorCode, () => Uint8Array][] = [
  ["nothing", "nifti.header.short", () => new Uint8Array(0)],
  ["half a header", "nifti.header.short", () => niftiFile().subarray(0, 200)],
  ["random bytes", "nifti.header.magic", () => new Uint8Array(randomBytes(600)).fill(9, 0, 4)],
  ["ANALYZE", "nifti.header.magic", () => niftiFile().fill(0, 344, 348)],
  ["a .hdr of a pair", "nifti.header.pair", () => withBytes(344, [0x6e, 0x69, 0x31, 0])],
  ["a zero dimension", "nifti.dimensions", () => niftiFile({ dims: [3, 0, 2, 1] })],
  ["a negative dimension", "nifti.dimensions", () => niftiFile({ dims: [3, -3, 2, 1] })],
  ["huge dimensions", "nifti.dimensions", () => niftiFile({ dims: [3, 32767, 32767, 32767] })],
  ["rank 9", "nifti.dimensions", () => niftiFile({ dims: [9, 3, 2, 1] })],
  ["rank 0", "nifti.dimensions", () => niftiFile({ dims: [0, 3, 2, 1] })],
  ["a 64-bit dimension", "nifti.dimensions", () => niftiFile({ layout: NIFTI2, dims: [3, 2 ** 52, 2, 1] })],
  ["two volumes", "nifti.volumes", () => niftiFile({ dims: [4, 3, 1, 1, 2], pixdim: [1, 1, 1, 1] })],
  ["complex numbers", "nifti.datatype", () => niftiFile({ code: 32, bits: 64 })],
  ["a wrong width", "nifti.datatype", () => niftiFile({ code: 16, bits: 64 })],
  ["a zero voxel size", "nifti.spacing", () => niftiFile({ pixdim: [1, 0, 1, 1] })],
  ["a negative voxel size", "nifti.spacing", () => niftiFile({ pixdim: [1, 1, -1, 1] })],
  ["no voxel size", "nifti.spacing", () => niftiFile({ pixdim: [1, 1, Number.NaN, 1] })],
  ["a huge voxel size", "nifti.spacing", () => niftiFile({ pixdim: [1, 1e9, 1, 1] })],
  ["an unknown unit", "nifti.spacing", () => niftiFile({ units: 5 })],
  ["a collapsed axis", "nifti.affine", () => niftiFile({ rows: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0] })],
  ["two equal axes", "nifti.affine", () => niftiFile({ rows: [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0] })],
  ["an infinite origin", "nifti.affine", () => niftiFile({ rows: [1, 0, 0, 1 / 0, 0, 1, 0, 0, 0, 0, 1, 0] })],
  ["a NaN column", "nifti.affine", () => niftiFile({ rows: [Number.NaN, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0] })],
  ["a shear", "nifti.affine.sheared", () => niftiFile({ rows: [1, 0, 0, 0, 0, 1, 0.27, 0, 0, 0, 1, 0] })],
  [
    "a quaternion too long",
    "nifti.affine",
    () => niftiFile({ sformCode: 0, qformCode: 1, quaternion: [1, 1, 0] }),
  ],
  ["an offset in the header", "nifti.offset", () => withReal(108, 40)],
  ["a fractional offset", "nifti.offset", () => withReal(108, 352.5)],
  ["an offset far outside", "nifti.offset", () => withReal(108, 1e12)],
  ["an offset beyond the end", "nifti.voxels.short", () => withReal(108, 4000)],
  ["a file cut short", "nifti.voxels.short", () => niftiFile().subarray(0, -1)],
  ["bytes after the voxels", "nifti.voxels.excess", () => Buffer.concat([niftiFile(), Buffer.from("x")])],
  ["mostly NaN", "nifti.voxels.nonfinite", () => niftiFile({ values: [0, 1, 2, Number.NaN, 4, 5] })],
];

function withBytes(at: number, bytes: readonly number[]): Uint8Array {
  const file = niftiFile();
  file.set(bytes, at);
  return file;
}

function withReal(at: number, value: number): Uint8Array {
  const file = niftiFile();
  new DataView(file.buffer).setFloat32(at, value, true);
  return file;
}

t.test("every fault has its own code, plain or gzipped", async (t) => {
  for (const [name, code, make] of FAULTS) {
    t.equal(await codeOf(decodeNiftiImage(make())), code, name);
    // In a gzip, bytes too many are seen by the bound on the inflated size.
    const gzipped = code === "nifti.voxels.excess" ? "nifti.gzip.large" : code;
    t.equal(await codeOf(decodeNiftiImage(gzipSync(make()))), gzipped, `${name}, gzipped`);
  }
});

t.test("a message gives the remedy and nothing from the file", async (t) => {
  const file = niftiFile({ dims: [3, 0, 2, 1] });
  file.set(Buffer.from("DOE^JANE 19700101"), 148);
  const error: unknown = await decodeNiftiImage(file).catch((fault) => fault);
  t.type(error, NiftiError);
  t.notMatch(String(error), /DOE|1970/);
  t.match(String(error), /write the file again/);
});

t.test("few voxels without a number become 0 and are counted", async (t) => {
  const values = Array.from({ length: 100 }, (_, index) => index);
  values[7] = Number.NaN;
  values[8] = Number.NEGATIVE_INFINITY;
  const image = await decodeNiftiImage(niftiFile({ dims: [3, 10, 10, 1], values }));
  t.equal(image.replacedVoxels, 2);
  t.equal(image.volume.voxels[7], 0);
  const overflow = [1e300, ...values.slice(1, 7), 0, 0, ...values.slice(9)];
  const wide = niftiFile({
    dims: [3, 10, 10, 1],
    code: 64,
    bits: 64,
    values: overflow,
    write: (v, o, x, le) => v.setFloat64(o, x, le),
  });
  t.equal((await decodeNiftiImage(wide)).replacedVoxels, 1, "a float64 beyond float32 is no number either");
});

t.test("labels are whole numbers from 0 to 255 after scaling", async (t) => {
  const labels = async (values: readonly number[], slope = 1): Promise<string> =>
    codeOf(decodeNiftiLabels(niftiFile({ values, slope })));
  t.equal(await labels([0, 1, 2, 3, 4, 255]), "read");
  t.equal(await labels([0, 0.5, 1, 1.5, 2, 2.5], 2), "read");
  t.equal(await labels([0, 1, 2, 3, 4, 256]), "nifti.labels");
  t.equal(await labels([0, 1, 2, 3, 4, -1]), "nifti.labels");
  t.equal(await labels([0, 1, 2, 3, 4, 0.5]), "nifti.labels");
  t.equal(await labels([0, 1, 2, 3, 4, Number.NaN]), "nifti.labels");
});

t.test("a gzip bomb, a cut stream and trailing bytes end in a code and in bounded memory", async (t) => {
  const header = niftiFile({ values: [] });
  const bomb = gzipSync(Buffer.concat([header, Buffer.alloc(256 * 2 ** 20)]));
  t.ok(bomb.length < 400_000, "256 MiB of zeros travel as a small file");
  const before = process.memoryUsage().rss;
  t.equal(await codeOf(decodeNiftiImage(bomb)), "nifti.gzip.large");
  t.ok(process.memoryUsage().rss - before < 64 * 2 ** 20, "the bomb did not unfold");
  const whole = gzipSync(niftiFile());
  t.equal(await codeOf(decodeNiftiImage(whole.subarray(0, -4))), "nifti.gzip.damaged");
  t.equal(await codeOf(decodeNiftiImage(Buffer.concat([whole, Buffer.from("more")]))), "nifti.gzip.damaged");
  t.equal(
    await codeOf(decodeNiftiImage(Buffer.concat([whole, Buffer.alloc(9)]))),
    "read",
    "zero padding is gzip's own",
  );
  const flipped = Buffer.from(whole);
  flipped[whole.length - 6] = (flipped[whole.length - 6] ?? 0) ^ 1;
  t.equal(await codeOf(decodeNiftiImage(flipped)), "nifti.gzip.damaged", "the checksum counts");
});

t.test("files that are missing or not files are refused with a code", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "consilium-nifti-"));
  t.equal(await codeOf(readNiftiImage(join(folder, "absent.nii"))), "nifti.file.unreadable");
  t.equal(await codeOf(readNiftiImage(folder)), "nifti.file.unreadable");
  await writeFile(join(folder, "here.nii"), niftiFile());
  t.equal(await codeOf(readNiftiImage(join(folder, "here.nii"))), "read");
});

/** The geometry fields of a header as bytes: dimensions, pixdim, units, codes, quaternion, offsets, rows. */
function geometryBytes(image: NiftiImage): Buffer {
  const { layout, bytes } = image.header;
  const slices: [number, number][] =
    layout === NIFTI1
      ? [
          [40, 16],
          [76, 32],
          [123, 1],
          [252, 76],
        ]
      : [
          [16, 64],
          [104, 64],
          [344, 152],
          [500, 4],
        ];
  return Buffer.concat(slices.map(([at, size]) => bytes.subarray(at, at + size)));
}

t.test("labels are written on the grid of their image, byte for byte, without its free text", async (t) => {
  for (const layout of [NIFTI1, NIFTI2]) {
    for (const little of [true, false]) {
      const source = niftiFile({
        layout,
        little,
        slope: 2,
        intercept: 5,
        sformCode: 3,
        qformCode: 2,
        quaternion: [0, 0, 1],
        rows: [-2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30],
        pixdim: [-1, 2, 3, 4],
        dims: [4, 3, 2, 1, 1, 1, 1, 1],
        extensionBytes: 16,
      });
      for (const [at, size] of layout.textFields) source.fill(0x58, at, at + size);
      const image = await decodeNiftiImage(source);
      const labels = makeLabelmap(image.volume.grid, Uint8Array.from([0, 1, 2, 3, 200, 255]));
      const file = await encodeLabelNifti(labels, image.header);
      const back = await decodeNiftiImage(file);
      t.strictSame([...back.volume.voxels], [0, 1, 2, 3, 200, 255]);
      t.strictSame(geometryBytes(back), geometryBytes(image));
      t.equal(back.header.datatype.code, 2);
      t.notOk(Buffer.from(back.header.bytes).includes("XXX"), "no free text");
      t.ok(isSameGrid(back.volume.grid, image.volume.grid));
    }
  }
});

t.test("a volume survives writing as float32 exactly and as int16 by rounding", async (t) => {
  const grid = makeGrid([3, 2, 1], {
    columns: [
      [0, 1.5, 0],
      [-0.5, 0, 0],
      [0, 0, 3],
    ],
    origin: [-4, 5, 6],
  });
  const volume = makeVolume(grid, Float32Array.from([-1024.4, 0.1, 0.6, 3000, 1e6, -1e6]));
  const exact = await decodeNiftiImage(await encodeVolumeNifti(volume, "float32"));
  t.strictSame([...exact.volume.voxels], [...volume.voxels]);
  t.ok(isSameGrid(exact.volume.grid, grid));
  const rounded = await decodeNiftiImage(await encodeVolumeNifti(volume, "int16"));
  t.strictSame([...rounded.volume.voxels], [-1024, 0, 1, 3000, 32767, -32768]);
});

t.test("thousands of altered and shortened files end in a volume or in a code", async (t) => {
  const prng = Prng.labelled(11, "nifti fuzz");
  const base: Uint8Array[] = [NIFTI1, NIFTI2].flatMap((layout) => [
    niftiFile({ layout, extensionBytes: 16, qformCode: 1 }),
    gzipSync(niftiFile({ layout })),
  ]);
  const outcomes = new Map<string, number>();
  for (let round = 0; round < 6000; round += 1) {
    const file = Uint8Array.from(expectDefined(base[round % base.length], "a base file"));
    const edits = prng.int(1, 6);
    for (let edit = 0; edit < edits; edit += 1) file[prng.int(0, file.length - 1)] = prng.int(0, 255);
    const input = prng.chance(0.3) ? file.subarray(0, prng.int(0, file.length)) : file;
    const outcome = await codeOf(prng.chance(0.5) ? decodeNiftiImage(input) : decodeNiftiLabels(input));
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  t.strictSame(
    [...outcomes.keys()].filter((outcome) => outcome.startsWith("not coded")),
    [],
  );
  t.ok(outcomes.size > 10, `outcomes seen: ${[...outcomes.keys()].sort().join(" ")}`);
});
