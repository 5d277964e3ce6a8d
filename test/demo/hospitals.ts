// Gives every hospital its own folder with its own volumes, and nothing else: drawn phantoms, or files copied out of a
// real data set. From here on nobody but the hospital's own processes opens them.

import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type CaseFiles, findCases } from "@consilium/site-agent/data/case-layout.ts";
import { lastFifth } from "@consilium/site-agent/data/cohort.ts";
import { parseDatasetJson } from "@consilium/site-agent/data/dataset-json.ts";
import { encodeLabelNifti, encodeVolumeNifti, nifti1Header } from "@consilium/site-agent/data/nifti-write.ts";
import { PHANTOM_LABELS } from "../fixtures/phantom/anatomy.ts";
import { PHANTOM_CT_SITES, PHANTOM_MR_SITES, phantomCase } from "../fixtures/phantom/phantom-sites.ts";
import { type DemoOptions, DemoUsageError } from "./options.ts";
import { namedShares, type SiteShare } from "./site-shares.ts";

export type Hospital = {
  readonly name: string;
  /** Everything of this hospital: its data, and the home of its agent. */
  readonly folder: string;
  readonly data: string;
  readonly home: string;
  /** Names of the cases, in the order of the list, and how many of the last validate. */
  readonly split: string;
  readonly trainingCases: number;
  readonly validationCases: number;
};

export type Federation = {
  readonly hospitals: readonly Hospital[];
  readonly labelNames: ReadonlyMap<number, string>;
};

const defaultHospitals = ["hospital-a", "hospital-b", "hospital-c"];
/** `cases/<case>/image.nii.gz` is the deepest layout. */
const depthMax = 3;

export async function makeHospitals(options: DemoOptions): Promise<Federation> {
  return options.data === null ? drawHospitals(options) : copyHospitals(options, options.data);
}

/** CT and MR of the same kind of body at three houses; the last has never contoured the spleen. */
async function drawHospitals({ out, seed, phantoms }: DemoOptions): Promise<Federation> {
  const hospitals: Hospital[] = [];
  for (const [at, name] of defaultHospitals.entries()) {
    const places = placesOf(out, name);
    await mkdir(join(places.data, "imagesTr"), { recursive: true });
    await mkdir(join(places.data, "labelsTr"), { recursive: true });
    const scanners = { ct: PHANTOM_CT_SITES[at], mr: PHANTOM_MR_SITES[at] };
    const names: string[] = [];
    for (let number = 1; number <= phantoms; number += 1) {
      for (const [modality, site] of Object.entries(scanners)) {
        if (!site) continue;
        const caseName = `${modality}_${String(number).padStart(3, "0")}`;
        const { volume, labelmap } = phantomCase(site, { seed, number });
        await writeFile(
          join(places.data, "imagesTr", `${caseName}_0000.nii.gz`),
          await encodeVolumeNifti(volume, "int16"),
        );
        await writeFile(
          join(places.data, "labelsTr", `${caseName}.nii.gz`),
          await encodeLabelNifti(labelmap, nifti1Header(volume.grid)),
        );
        names.push(caseName);
      }
    }
    const labels = Object.fromEntries([
      ["background", 0],
      ...PHANTOM_LABELS.map((label) => [label.name, label.id]),
    ]);
    await writeFile(
      join(places.data, "dataset.json"),
      JSON.stringify({ channel_names: { 0: "CT or MR" }, labels }),
    );
    hospitals.push(await withSplit(name, places, names.slice(0, -2), names.slice(-2)));
  }
  return { hospitals, labelNames: new Map(PHANTOM_LABELS.map(({ id, name }) => [id, name])) };
}

async function copyHospitals(options: DemoOptions, data: string): Promise<Federation> {
  const { cases } = findCases(await filesBelow(data));
  const labelled = cases.filter(({ label }) => label !== null);
  const byName = new Map(labelled.map((files) => [files.localName, files]));
  const shares =
    options.sites === null ? dealt([...byName.keys()], options) : await namedShares(options.sites);
  const hospitals: Hospital[] = [];
  for (const [name, { training, validation }] of shares) {
    const places = placesOf(options.out, name);
    for (const caseName of [...training, ...validation]) {
      const files = byName.get(caseName);
      if (!files) throw new DemoUsageError(`--sites names a case that is not in ${data}`);
      await copyCase(data, places.data, files);
    }
    await copyFile(join(data, "dataset.json"), join(places.data, "dataset.json")).catch(() => undefined); // Not every layout has one.
    hospitals.push(await withSplit(name, places, training, validation));
  }
  return { hospitals, labelNames: await labelNamesOf(options, data) };
}

/** Three hospitals in the order of the names; a few cases each where it has to be quick. */
function dealt(names: readonly string[], { isQuick }: DemoOptions): [string, SiteShare][] {
  const perHospital = isQuick ? 5 : Math.floor(names.length / defaultHospitals.length);
  if (perHospital < 5) throw new DemoUsageError("three hospitals need at least five labelled cases each");
  return defaultHospitals.map((name, at) => [
    name,
    lastFifth(names.slice(at * perHospital, (at + 1) * perHospital)),
  ]);
}

async function labelNamesOf({ labels }: DemoOptions, data: string): Promise<ReadonlyMap<number, string>> {
  if (labels) return new Map(labels.map((name, at) => [at + 1, name]));
  const text = await readFile(join(data, "dataset.json"), "utf8").catch(() => null);
  return text === null ? new Map() : parseDatasetJson(text).labelNames;
}

async function copyCase(from: string, to: string, { image, label }: CaseFiles): Promise<void> {
  for (const path of [image, label]) {
    if (path === null) continue;
    await mkdir(dirname(join(to, path)), { recursive: true });
    await copyFile(join(from, path), join(to, path));
  }
}

function placesOf(out: string, name: string): { folder: string; data: string; home: string } {
  const folder = join(out, "hospitals", name);
  return { folder, data: join(folder, "data"), home: join(folder, "home") };
}

async function withSplit(
  name: string,
  places: { folder: string; data: string; home: string },
  training: readonly string[],
  validation: readonly string[],
): Promise<Hospital> {
  const split = join(places.folder, "split.json");
  await writeFile(split, JSON.stringify({ training, validation }));
  return { name, ...places, split, trainingCases: training.length, validationCases: validation.length };
}

async function filesBelow(root: string, folder = "", depth = 1): Promise<string[]> {
  const entries = await readdir(join(root, folder), { withFileTypes: true }).catch(() => {
    throw new DemoUsageError(`--data ${root} cannot be read`);
  });
  const found: string[] = [];
  for (const entry of entries) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory() && depth < depthMax) found.push(...(await filesBelow(root, path, depth + 1)));
    else if (entry.isFile()) found.push(path);
  }
  return found;
}
