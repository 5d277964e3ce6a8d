// Image, truth and prediction of one validation volume of each hospital, on the slice that shows most. They are made on
// this machine for the report on this machine; nothing of them was ever sent.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { anatomicalAxes, inAnatomicalOrder } from "@consilium/site-agent/data/anatomical-axes.ts";
import { openFolder } from "@consilium/site-agent/data/folder-source.ts";
import { decodeNiftiLabels } from "@consilium/site-agent/data/nifti-file.ts";
import { encodeVolumeNifti } from "@consilium/site-agent/data/nifti-write.ts";
import type { Labelmap, Volume } from "@consilium/site-agent/data/volume.ts";
import { renderSlice, sideBySide } from "@consilium/site-agent/evaluation/picture.ts";
import { encodePng } from "@consilium/site-agent/evaluation/png.ts";
import { toCanonical } from "@consilium/site-agent/preprocessing/orientation.ts";
import { cutSlice, planeSize } from "@consilium/site-agent/preprocessing/slice-stack.ts";
import { backendWords } from "./federated-run.ts";
import type { Hospital } from "./hospitals.ts";
import type { DemoOptions } from "./options.ts";
import { command } from "./processes.ts";

export type Picture = { readonly site: string; readonly png: Uint8Array };
/** Screen pixels along the longer edge of one panel, at least. */
const panelPixels = 240;

export async function drawPictures(
  options: DemoOptions,
  hospitals: readonly Hospital[],
  model: string,
): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const hospital of hospitals)
    pictures.push({ site: hospital.name, png: await drawOne(options, hospital, model) });
  return pictures;
}

async function drawOne(
  options: DemoOptions,
  { name, data, split, home, folder }: Hospital,
  model: string,
): Promise<Uint8Array> {
  const { validation } = JSON.parse(await readFile(split, "utf8")) as { validation: string[] }; // Written by hospitals.ts.
  const source = await openFolder(data, { caseNames: validation.slice(-1) });
  const [first] = source.cases;
  if (!first) throw new Error("a hospital without validation volumes");
  const { volume, labelmap } = await source.open(first.id);
  const [image, out] = [join(folder, "shown.nii.gz"), join(folder, "shown.prediction.nii.gz")];
  await writeFile(image, await encodeVolumeNifti(volume, "float32"));
  await command(
    "site",
    ["predict", "--model", model, "--image", image, "--out", out, "--home", home, ...backendWords(options)],
    join(options.out, "logs", `${name}.predict.log`),
  );
  const prediction = await decodeNiftiLabels(new Uint8Array(await readFile(out)));
  return render(volume, labelmap, prediction.labelmap);
}

function render(volume: Volume, truth: Labelmap | null, prediction: Labelmap): Uint8Array {
  const { grid } = volume;
  const axes = anatomicalAxes(grid.affine);
  const shape = inAnatomicalOrder(grid.shape, axes);
  const drawn = truth && toCanonical(truth.voxels, grid.shape, axes);
  const predicted = toCanonical(prediction.voxels, grid.shape, axes);
  const { sliceCount, height, width } = planeSize(shape, "S");
  const geometry = { shape, sliceAxis: "S", height, width } as const;
  const cut = (voxels: Uint8Array, index: number): Uint8Array =>
    cutSlice(voxels, geometry, { index, fill: 0 });
  const labelled = (index: number): number =>
    cut(drawn ?? predicted, index).reduce((sum, label) => sum + (label > 0 ? 1 : 0), 0);
  const best = Array.from({ length: sliceCount }, (_, index) => index).reduce(
    (a, b) => (labelled(b) > labelled(a) ? b : a),
    0,
  );
  const intensities = cutSlice(toCanonical(volume.voxels, grid.shape, axes), geometry, {
    index: best,
    fill: 0,
  });
  const magnification = Math.max(1, Math.ceil(panelPixels / Math.max(height, width)));
  const base = { width, height, intensities, magnification };
  return encodePng(
    sideBySide([
      renderSlice({ ...base, truth: null, prediction: null }),
      renderSlice({ ...base, truth: drawn && cut(drawn, best), prediction: null }),
      renderSlice({ ...base, truth: cut(predicted, best), prediction: null }),
    ]),
  );
}
