// A folder of NIfTI files as a study source. It lists names only, opens one case at a time, never writes, and refuses
// files that a link leads out of the folder. Real names stay inside; `localName` is for the screen and disk of the site.

import { readdir, realpath } from "node:fs/promises";
import { join, sep } from "node:path";
import { CaseError } from "./case-error.ts";
import { type CaseFiles, findCases, type LayoutName } from "./case-layout.ts";
import { type DatasetDescription, readDatasetJson } from "./dataset-json.ts";
import { FolderError } from "./folder-error.ts";
import { isSameGrid } from "./grid.ts";
import { readNiftiImage, readNiftiLabels } from "./nifti-file.ts";
import { type CaseId, caseId, type OpenedCase, type StudySource } from "./study-source.ts";

const FOLDER_ENTRIES_MAX = 200_000;
const CASES_MAX = 20_000;
/** cases/<case>/image.nii.gz is the deepest layout. */
const DEPTH_MAX = 3;

export interface FolderSource extends StudySource {
  readonly layout: LayoutName;
  /** The case's name on disk. It may name a patient: for this site's own eyes only. */
  localName(id: CaseId): string;
}

/**
 * @param options.caseNames the site's own choice and order of cases, by their names on disk; all, by name, if absent.
 * @throws FolderError
 */
export async function openFolder(
  folder: string,
  options: { caseNames?: readonly string[] } = {},
): Promise<FolderSource> {
  const root = await realpath(folder).catch((cause: unknown) => {
    throw new FolderError("folder.unreadable", { cause });
  });
  const layout = findCases(await listFiles(root));
  const cases = options.caseNames ? chosen(layout.cases, options.caseNames) : layout.cases;
  if (cases.length > CASES_MAX) throw new FolderError("folder.cases.many");
  const description = await readDatasetJson(join(root, "dataset.json"));
  return folderSource({ root, layout: layout.name, cases, description });
}

interface FolderContents {
  readonly root: string;
  readonly layout: LayoutName;
  readonly cases: readonly CaseFiles[];
  readonly description: DatasetDescription | null;
}

function folderSource({ root, layout, cases, description }: FolderContents): FolderSource {
  const byId = new Map(cases.map((files, index) => [caseId(index + 1), files]));
  const filesOf = (id: CaseId): CaseFiles => {
    const files = byId.get(id);
    if (!files) throw new CaseError("case.unknown");
    return files;
  };
  return {
    layout,
    cases: [...byId].map(([id, { label }]) => ({ id, hasLabels: label !== null })),
    labelNames: description?.labelNames ?? null,
    modality: description?.modality ?? null,
    open: async (id) => openCase(root, id, filesOf(id)),
    localName: (id) => filesOf(id).localName,
  };
}

function chosen(cases: readonly CaseFiles[], names: readonly string[]): CaseFiles[] {
  const byName = new Map(cases.map((files) => [files.localName, files]));
  return [...new Set(names)].map((name) => {
    const files = byName.get(name);
    if (!files) throw new FolderError("folder.case.unknown");
    return files;
  });
}

async function openCase(root: string, id: CaseId, files: CaseFiles): Promise<OpenedCase> {
  const { volume, header, orientation, replacedVoxels } = await readNiftiImage(
    await insidePath(root, files.image),
  );
  const labelmap =
    files.label === null ? null : (await readNiftiLabels(await insidePath(root, files.label))).labelmap;
  if (labelmap && !isSameGrid(labelmap.grid, volume.grid)) throw new CaseError("case.grid.mismatch");
  return { id, volume, labelmap, header, orientation, replacedVoxels };
}

/** Links are resolved when the file is opened, so that none can be swapped in after the listing. */
async function insidePath(root: string, relative: string): Promise<string> {
  const path = await realpath(join(root, relative)).catch(() => join(root, relative)); // Opening reports what is missing.
  if (!path.startsWith(`${root}${sep}`)) throw new CaseError("case.link.outside");
  return path;
}

/** Files below the folder, with forward slashes, down to the deepest known layout. */
async function listFiles(root: string): Promise<string[]> {
  const files: string[] = [];
  let entriesSeen = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    const entries = await readdir(join(root, folder), { withFileTypes: true }).catch((cause: unknown) => {
      throw new FolderError("folder.unreadable", { cause });
    });
    entriesSeen += entries.length;
    if (entriesSeen > FOLDER_ENTRIES_MAX) throw new FolderError("folder.large");
    for (const entry of entries) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.name.startsWith(".")) continue;
      if (entry.isDirectory()) {
        if (depth < DEPTH_MAX) await visit(path, depth + 1);
      } else if (entry.isSymbolicLink() && !/\.nii(\.gz)?$/.test(entry.name)) {
        await expectNoWayOut(root, path); // Folders are walked only as themselves, never through a link.
      } else {
        files.push(path);
      }
    }
  };
  await visit("", 1);
  return files;
}

async function expectNoWayOut(root: string, relative: string): Promise<void> {
  const target = await realpath(join(root, relative)).catch(() => root);
  if (target !== root && !target.startsWith(`${root}${sep}`)) throw new FolderError("folder.link.outside");
}
