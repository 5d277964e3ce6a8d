// One validation volume of each hospital on the slice that shows most: image, truth, and what each stage of the
// federated model says, with the boxes that the prompter asks SAM 2 about. They are made on this machine for the report
// on this machine; nothing of them was ever sent.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { anatomicalAxes, inAnatomicalOrder } from "@consilium/site-agent/data/anatomical-axes.ts";
import { openFolder } from "@consilium/site-agent/data/folder-source.ts";
import { decodeNiftiLabels } from "@consilium/site-agent/data/nifti-file.ts";
import { encodeVolumeNifti } from "@consilium/site-agent/data/nifti-write.ts";
import type { Labelmap, Volume } from "@consilium/site-agent/data/volume.ts";
import { type LabelledBox, renderSlice, sideBySide } from "@consilium/site-agent/evaluation/picture.ts";
import { encodePng } from "@consilium/site-agent/evaluation/png.ts";
import { toCanonical } from "@consilium/site-agent/preprocessing/orientation.ts";
import { cutSlice, planeSize } from "@consilium/site-agent/preprocessing/slice-stack.ts";
import { largestComponent } from "@consilium/site-agent/prompts/connected-components.ts";
import { tightBox, widenedBox } from "@consilium/site-agent/prompts/pixel-box.ts";
import { PROMPTER_RULE } from "@consilium/site-agent/prompts/prompter-prompts.ts";
import type { Hospital } from "./hospitals.ts";
import { backendWords, type DemoOptions } from "./options.ts";
import { command } from "./processes.ts";

export type Picture = { readonly site: string; readonly panels: readonly string[]; readonly png: Uint8Array };
/** Screen pixels along the longer edge of one panel, at least. */
const panelPixels = 200;

export async function drawPictures(
  options: DemoOptions,
  hospitals: readonly Hospital[],
  model: string,
): Promise<Picture[]> {
  const pictures: Picture[] = [];
  for (const hospital of hospitals) pictures.push(await drawOne(options, hospital, model));
  return pictures;
}

/** What is drawn over the image. */
type Panel = { readonly words: string; readonly labels: Labelmap | null; readonly isPrompting?: boolean };

async function drawOne(
  options: DemoOptions,
  { name, data, split, home, folder }: Hospital,
  model: string,
): Promise<Picture> {
  const { validation } = JSON.parse(await readFile(split, "utf8")) as { validation: string[] }; // Written by hospitals.ts.
  const source = await openFolder(data, { caseNames: validation.slice(-1) });
  const [first] = source.cases;
  if (!first) throw new Error("a hospital without validation volumes");
  const { volume, labelmap } = await source.open(first.id);
  const [image, out] = [join(folder, "shown.nii.gz"), join(folder, "shown.prediction.nii.gz")];
  await writeFile(image, await encodeVolumeNifti(volume, "float32"));
  const isStaged = options.recipe === "rfmedsam2";
  const words = ["--model", model, "--image", image, "--out", out, "--home", home, ...backendWords(options)];
  await command(
    "site",
    ["predict", ...words, ...(isStaged ? ["--stages"] : [])],
    join(options.out, "logs", `${name}.predict.log`),
  );
  const labelsIn = async (file: string): Promise<Labelmap> =>
    (await decodeNiftiLabels(new Uint8Array(await readFile(file)))).labelmap;
  const stage = (of: string): Promise<Labelmap> => labelsIn(out.replace(/\.nii\.gz$/, `.${of}.nii.gz`));
  const answers: Panel[] = isStaged
    ? [
        { words: "prompter with its boxes", labels: await stage("stage-0"), isPrompting: true },
        { words: "stage 1", labels: await stage("stage-1") },
        { words: "stage 2", labels: await stage("stage-2") },
      ]
    : [{ words: "prediction", labels: await labelsIn(out) }];
  const panels = [{ words: "image", labels: null }, { words: "truth", labels: labelmap }, ...answers];
  return { site: name, panels: panels.map(({ words: caption }) => caption), png: render(volume, panels) };
}

function render(volume: Volume, panels: readonly Panel[]): Uint8Array {
  const { grid } = volume;
  const axes = anatomicalAxes(grid.affine);
  const shape = inAnatomicalOrder(grid.shape, axes);
  const { sliceCount, height, width } = planeSize(shape, "S");
  const geometry = { shape, sliceAxis: "S", height, width } as const;
  const cut = (voxels: Uint8Array, index: number): Uint8Array =>
    cutSlice(toCanonical(voxels, grid.shape, axes), geometry, { index, fill: 0 });
  const shown = panels.find(({ labels }) => labels !== null)?.labels;
  const labelled = (index: number): number =>
    shown ? cut(shown.voxels, index).reduce((sum, label) => sum + (label > 0 ? 1 : 0), 0) : 0;
  const counts = Array.from({ length: sliceCount }, (_, index) => labelled(index));
  const best = counts.indexOf(Math.max(...counts));
  const grey = toCanonical(volume.voxels, grid.shape, axes);
  const intensities = cutSlice(grey, geometry, { index: best, fill: 0 });
  const magnification = Math.max(1, Math.ceil(panelPixels / Math.max(height, width)));
  const pictures = panels.map(({ labels, isPrompting }) => {
    const truth = labels && cut(labels.voxels, best);
    const boxes = truth && isPrompting ? boxesRound(truth, { height, width }) : [];
    return renderSlice({ width, height, intensities, magnification, truth, prediction: null, boxes });
  });
  return encodePng(sideBySide(pictures));
}

/** By the rule of the prompter: the largest part of each organ in the slice, a little widened. */
function boxesRound(
  labels: Uint8Array,
  size: { readonly height: number; readonly width: number },
): LabelledBox[] {
  const present = [...new Set(labels)].filter((label) => label > 0).sort((a, b) => a - b);
  return present.flatMap((label) => {
    const mask = labels.map((value) => Number(value === label));
    const part = largestComponent(mask, { ...size, depth: 1 });
    const box = part && tightBox(part, size);
    return box ? [{ label, box: widenedBox(box, PROMPTER_RULE.margin, size) }] : [];
  });
}
