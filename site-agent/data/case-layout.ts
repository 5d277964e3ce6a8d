// Finds the cases in a list of file names: nnU-Net and Decathlon folders, a `cases` folder, one folder per case, a
// single image with its label, or bare images. Pure: it sees names, never a disk.

import { FolderError } from "./folder-error.ts";

export type LayoutName = "nnunet" | "decathlon" | "case-files" | "case-folders" | "images";

export interface CaseFiles {
  /** As on disk: it may name a patient and stays inside this folder. */
  readonly localName: string;
  /** Relative to the folder. */
  readonly image: string;
  readonly label: string | null;
}

export interface CaseLayout {
  readonly name: LayoutName;
  /** In the order of their names' code units. */
  readonly cases: readonly CaseFiles[];
}

const NIFTI = /\.nii(\.gz)?$/;
const IMAGE_NAMES: readonly string[] = ["image", "ct", "mr"];
const FIRST_CHANNEL = "_0000";

/**
 * @param paths files relative to the folder, with forward slashes.
 * @throws FolderError folder.channels, folder.layout.unknown.
 */
export function findCases(paths: readonly string[]): CaseLayout {
  const files = new Map(
    paths
      .filter((path) => NIFTI.test(path) && !path.split("/").some((part) => part.startsWith(".")))
      .map((path): [string, string] => [path.replace(NIFTI, ""), path]),
  );
  for (const find of [trainingFolders, casesFolder, caseFolders, bareImages]) {
    const layout = find(files);
    if (layout && layout.cases.length > 0) return { ...layout, cases: sortedByName(layout.cases) };
  }
  throw new FolderError("folder.layout.unknown");
}

/** File names without their ending, to the full name. */
type Stems = ReadonlyMap<string, string>;

function inFolder(files: Stems, folder: string): Stems {
  const prefix = `${folder}/`;
  return new Map(
    [...files]
      .filter(([stem]) => stem.startsWith(prefix))
      .map(([stem, path]) => [stem.slice(prefix.length), path]),
  );
}

function trainingFolders(files: Stems): CaseLayout | null {
  const images = inFolder(files, "imagesTr");
  if (images.size === 0) return null;
  const labels = inFolder(files, "labelsTr");
  const hasChannels = [...images.keys()].some((stem) => stem.endsWith(FIRST_CHANNEL));
  const cases = [...images].map(([stem, image]) => {
    const localName = withoutChannel(stem, hasChannels);
    return { localName, image, label: labels.get(localName) ?? null };
  });
  return { name: hasChannels ? "nnunet" : "decathlon", cases };
}

/** In a folder that numbers its channels, every image must be the first of one. */
function withoutChannel(stem: string, hasChannels: boolean): string {
  if (!hasChannels) return stem;
  if (!stem.endsWith(FIRST_CHANNEL)) throw new FolderError("folder.channels");
  return stem.slice(0, -FIRST_CHANNEL.length);
}

function casesFolder(files: Stems): CaseLayout | null {
  const inside = inFolder(files, "cases");
  return inside.size === 0 ? null : caseFolders(inside);
}

/** `x/image` with `x/label`, `x_image` with `x_label`, or plain `image` with `label`. */
function caseFolders(files: Stems): CaseLayout | null {
  const cases: CaseFiles[] = [];
  let hasFolders = false;
  for (const [stem, image] of files) {
    const match = /^(?:(.*)([/_]))?([^/_]+)$/.exec(stem);
    if (!match || !IMAGE_NAMES.includes(match[3] ?? "")) continue;
    const [, localName = "image", separator = ""] = match;
    if (separator === "/") hasFolders = true;
    const label = files.get(match[1] === undefined ? "label" : `${localName}${separator}label`) ?? null;
    cases.push({ localName: localName.replaceAll("/", "-"), image, label });
  }
  return { name: hasFolders ? "case-folders" : "case-files", cases };
}

function bareImages(files: Stems): CaseLayout | null {
  const cases = [...files]
    .filter(([stem]) => !stem.includes("/") && !/(^|_)(label|seg|mask)/i.test(stem))
    .map(([stem, image]) => ({ localName: stem, image, label: null }));
  return { name: "images", cases };
}

function sortedByName(cases: readonly CaseFiles[]): CaseFiles[] {
  return [...cases].sort((a, b) => (a.localName < b.localName ? -1 : a.localName > b.localName ? 1 : 0));
}
