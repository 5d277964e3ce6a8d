import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import t from "tap";
import { diagonalAffine, type Vec3 } from "./affine.ts";
import { CaseError } from "./case-error.ts";
import { findCases } from "./case-layout.ts";
import { checkCohort } from "./check-cohort.ts";
import { parseDatasetJson } from "./dataset-json.ts";
import { FolderError } from "./folder-error.ts";
import { openFolder } from "./folder-source.ts";
import { makeGrid } from "./grid.ts";
import { decodeNiftiImage, readNiftiImage, readNiftiLabels } from "./nifti-file.ts";
import { encodeLabelNifti, encodeVolumeNifti, nifti1Header } from "./nifti-write.ts";
import { readCohort } from "./read-cohort.ts";
import { caseId } from "./study-source.ts";
import { labelsPresent, makeLabelmap, makeVolume } from "./volume.ts";

const SHARED_DATA = fileURLToPath(new URL("../../../shared/data", import.meta.url));

const grid = makeGrid([4, 3, 2], diagonalAffine([1, 1, 3]));
const volume = makeVolume(
  grid,
  Float32Array.from({ length: 24 }, (_, index) => index),
);
const labelmap = makeLabelmap(
  grid,
  Uint8Array.from({ length: 24 }, (_, index) => (index > 20 ? 2 : 0)),
);

type Content = "image" | "label" | "shifted label" | Uint8Array | string;

async function folderOf(files: Readonly<Record<string, Content>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "consilium-folder-"));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), await bytesOf(content));
  }
  return root;
}

async function bytesOf(content: Content): Promise<Uint8Array | string> {
  if (content === "image") return encodeVolumeNifti(volume, "int16");
  if (content === "label") return encodeLabelNifti(labelmap, nifti1Header(grid));
  if (content === "shifted label") {
    const moved = makeGrid(grid.shape, diagonalAffine([1, 1, 3], [5, 0, 0]));
    return encodeLabelNifti(labelmap, nifti1Header(moved));
  }
  return content;
}

async function folderCode(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "opened",
    (error) =>
      error instanceof FolderError || error instanceof CaseError ? error.code : `not coded: ${error}`,
  );
}

t.test("each known layout is recognised", async (t) => {
  const layout = (...paths: string[]): unknown => {
    const { name, cases } = findCases(paths);
    return { name, cases: cases.map(({ localName, label }) => [localName, label]) };
  };
  t.strictSame(
    layout("imagesTr/b_0000.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "dataset.json"),
    {
      name: "nnunet",
      cases: [
        ["a", "labelsTr/a.nii.gz"],
        ["b", null],
      ],
    },
  );
  t.strictSame(
    layout("imagesTr/a.nii.gz", "imagesTr/._a.nii.gz", "labelsTr/a.nii.gz", "labelsTr/._a.nii.gz"),
    {
      name: "decathlon",
      cases: [["a", "labelsTr/a.nii.gz"]],
    },
  );
  t.strictSame(layout("cases/x/image.nii.gz", "cases/x/label.nii.gz", "cases/y/ct.nii.gz"), {
    name: "case-folders",
    cases: [
      ["x", "cases/x/label.nii.gz"],
      ["y", null],
    ],
  });
  t.strictSame(layout("cases/x_image.nii.gz", "cases/x_label.nii.gz"), {
    name: "case-files",
    cases: [["x", "cases/x_label.nii.gz"]],
  });
  t.strictSame(layout("x/image.nii", "x/label.nii", "x/notes.txt"), {
    name: "case-folders",
    cases: [["x", "x/label.nii"]],
  });
  t.strictSame(layout("image.nii.gz", "label.nii.gz"), {
    name: "case-files",
    cases: [["image", "label.nii.gz"]],
  });
  t.strictSame(layout("scan1.nii.gz", "scan2.nii", "scan2_seg.nii"), {
    name: "images",
    cases: [
      ["scan1", null],
      ["scan2", null],
    ],
  });
});

t.test("a folder without images or with several channels is refused", async (t) => {
  t.throws(() => findCases(["readme.md", "labelsTr/a.nii.gz"]), { code: "folder.layout.unknown" });
  t.throws(() => findCases([]), { code: "folder.layout.unknown" });
  t.throws(() => findCases(["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"]), {
    code: "folder.channels",
  });
  t.equal(await folderCode(openFolder(join(tmpdir(), "consilium-no-such-folder"))), "folder.unreadable");
});

t.test("dataset.json gives label names in both of its forms", async (t) => {
  const nnunet = parseDatasetJson(
    '{"channel_names":{"0":"CT"},"labels":{"background":0,"liver":2,"spleen":1}}',
  );
  t.strictSame(
    [...nnunet.labelNames],
    [
      [1, "spleen"],
      [2, "liver"],
    ],
  );
  t.equal(nnunet.modality, "CT");
  const decathlon = parseDatasetJson(
    '{"modality":{"0":"MRI"},"labels":{"0":"background","1":"Anterior"},"x":[1]}',
  );
  t.strictSame([...decathlon.labelNames], [[1, "Anterior"]]);
  t.equal(decathlon.modality, "MR");
  const both = parseDatasetJson(`{"channel_names":{"0":"CT or MR"},"labels":{"background":0,"liver":1}}`);
  t.equal(both.modality, "mixed");
});

t.test("a dataset.json that cannot be trusted is refused", async (t) => {
  const refused = (text: string, code: string): void => {
    t.throws(() => parseDatasetJson(text), { code }, text);
  };
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"labels":{}, "channel_names": 3}',
    '{"labels":{"liver":256}}',
    '{"labels":{"liver":-1}}',
    '{"labels":{"liver":1.5}}',
    '{"labels":{"a":1,"b":1}}',
    '{"labels":{"whole tumour":[1,2]}}',
    '{"labels":{"x":"liver"}}',
    '{"labels":{"999":"liver"}}',
    '{"labels":["liver"]}',
  ]) {
    refused(text, "folder.dataset.invalid");
  }
  refused('{"labels":{"liver":1},"channel_names":{"0":"T1","1":"T2"}}', "folder.channels");
});

t.test("cases are opened by opaque identifiers in list order", async (t) => {
  const root = await folderOf({
    "imagesTr/DOE_JANE_0000.nii.gz": "image",
    "imagesTr/AAA_0000.nii.gz": "image",
    "labelsTr/DOE_JANE.nii.gz": "label",
    "dataset.json": '{"channel_names":{"0":"CT"},"labels":{"background":0,"liver":2}}',
  });
  const source = await openFolder(root);
  t.strictSame(source.cases, [
    { id: "case-001", hasLabels: false },
    { id: "case-002", hasLabels: true },
  ]);
  const opened = await source.open(caseId(2));
  t.strictSame([...opened.volume.voxels], [...volume.voxels]);
  t.strictSame(labelsPresent(opened.labelmap ?? labelmap), [2]);
  t.equal(source.localName(caseId(2)), "DOE_JANE");
  t.notMatch(JSON.stringify([source.cases, opened.id]), /DOE/);
  t.equal(await folderCode(source.open(caseId(3))), "case.unknown");
  const chosen = await openFolder(root, { caseNames: ["DOE_JANE"] });
  t.strictSame(chosen.cases, [{ id: "case-001", hasLabels: true }]);
  t.equal(await folderCode(openFolder(root, { caseNames: ["nobody"] })), "folder.case.unknown");
});

t.test("an image and a label on different grids do not belong together", async (t) => {
  const root = await folderOf({ "image.nii.gz": "image", "label.nii.gz": "shifted label" });
  t.equal(await folderCode((await openFolder(root)).open(caseId(1))), "case.grid.mismatch");
});

t.test("links out of the folder are refused, links inside it are followed", async (t) => {
  const outside = await folderOf({ "image.nii.gz": "image" });
  const root = await folderOf({ "a/image.nii.gz": "image" });
  await mkdir(join(root, "b"));
  await symlink(join(outside, "image.nii.gz"), join(root, "b/image.nii.gz"));
  await mkdir(join(root, "c"));
  await symlink(join(root, "a/image.nii.gz"), join(root, "c/image.nii.gz"));
  const source = await openFolder(root);
  t.equal(await folderCode(source.open(caseId(2))), "case.link.outside");
  t.equal(await folderCode(source.open(caseId(3))), "opened");
  await symlink(outside, join(root, "imagesTr"));
  t.equal(await folderCode(openFolder(root)), "folder.link.outside");
});

t.test("an unreadable case is skipped and reported by number, many refuse the folder", async (t) => {
  const files: Record<string, Content> = {};
  for (let number = 1; number <= 10; number += 1) files[`imagesTr/DOE_${number + 10}.nii.gz`] = "image";
  files["imagesTr/DOE_13.nii.gz"] = "not an image";
  const source = await openFolder(await folderOf(files));
  const seen: string[] = [];
  const refused = await readCohort(source, ({ id }) => {
    seen.push(id);
  });
  t.equal(seen.length, 9);
  t.match(refused, [{ number: 3, code: "nifti.header.magic" }]);
  const check = await checkCohort(source);
  t.match(check, { caseCount: 10, readableCount: 9, labelledCount: 0, isUsable: true, refused });
  t.notMatch(JSON.stringify(check), /DOE/);
  files["imagesTr/DOE_14.nii.gz"] = "nor this";
  files["imagesTr/DOE_15.nii.gz"] = "nor that";
  const broken = await openFolder(await folderOf(files));
  t.equal(await folderCode(readCohort(broken, () => {})), "folder.cases.unreadable");
  t.equal((await checkCohort(broken)).isUsable, false);
});

t.test("a check says what was found and what its owner should know", async (t) => {
  const file = await encodeVolumeNifti(volume, "float32");
  const root = await folderOf({
    "imagesTr/a.nii.gz": file,
    "labelsTr/a.nii.gz": "label",
    "dataset.json": '{"modality":{"0":"MRI"},"labels":{"0":"background","1":"anterior","2":"posterior"}}',
  });
  const check = await checkCohort(await openFolder(root));
  t.strictSame(check.labels, [
    { label: 1, name: "anterior", cases: 0 },
    { label: 2, name: "posterior", cases: 1 },
  ]);
  t.match(check.fingerprint, {
    cases: 1,
    modality: "MR",
    shapeMedian: [4, 3, 2],
    spacingMmMedian: [1, 1, 3],
  });
  t.strictSame(JSON.parse(JSON.stringify(check)), check, "it is plain JSON");
});

t.test("a check remarks on unknown orientation, replaced voxels and empty labels", async (t) => {
  const many = makeGrid([10, 10, 2], diagonalAffine([1, 1, 3]));
  const file = gunzipSync(await encodeVolumeNifti(makeVolume(many, new Float32Array(200)), "float32"));
  file.writeInt16LE(0, 254); // sform_code
  file.writeFloatLE(Number.NaN, 352);
  const empty = makeLabelmap(many, new Uint8Array(200));
  const root = await folderOf({
    "image.nii": file,
    "label.nii.gz": await encodeLabelNifti(empty, (await decodeNiftiImage(file)).header),
  });
  const check = await checkCohort(await openFolder(root));
  t.match(check.remarks, [
    { number: 1, code: "orientation.unknown" },
    { number: 1, code: "voxels.replaced", remark: /^1 voxels/ },
    { number: 1, code: "labels.empty" },
  ]);
  t.equal(check.isUsable, true);
});

t.test(
  "every real file of the data set is read",
  { skip: !existsSync(SHARED_DATA) && "no ../shared/data" },
  async (t) => {
    const paths = (await readdir(SHARED_DATA, { recursive: true })).filter((path) =>
      path.endsWith(".nii.gz"),
    );
    t.ok(paths.length > 500, `${paths.length} files`);
    for (const path of paths) {
      const isLabel = /label|Tr\/.*labels/.test(path);
      const grid = isLabel
        ? (await readNiftiLabels(join(SHARED_DATA, path))).labelmap.grid
        : (await readNiftiImage(join(SHARED_DATA, path))).volume.grid;
      if (!grid.shape.every((size: number) => size >= 7)) t.fail(`shape of ${path}`);
    }
    const tilted = await readNiftiImage(join(SHARED_DATA, "nifti-odd/CT_pitch.nii.gz"));
    const expected: Vec3 = [0.8125, 0.8125, 2.397];
    t.ok(tilted.volume.grid.spacingMm.every((step, axis) => Math.abs(step - (expected[axis] ?? 0)) < 1e-3));
    const kits: [string, number, string][] = [
      ["openkbp-headneck-ct", 57, "case-folders"],
      ["msd-hippocampus-mr", 174, "decathlon"],
      ["sunnybrook-cardiac-mr", 30, "case-files"],
      ["msd-spleen-ct-crop", 1, "case-files"],
      ["sct-spinalcord-mr/errsm_30", 4, "case-files"],
      ["totalsegmentator-examples", 2, "case-folders"],
    ];
    for (const [name, count, layout] of kits) {
      const source = await openFolder(join(SHARED_DATA, name));
      t.strictSame([source.cases.length, source.layout], [count, layout], name);
    }
  },
);
