// Why a whole folder was refused. Messages name the fault and the remedy, never a path or a case.

const REMEDIES = {
  "folder.unreadable": "the folder cannot be read; check that it exists and that the agent may read it",
  "folder.large": "the folder holds too many files; point the agent at one data set",
  "folder.layout.unknown":
    "no images were found; expected imagesTr/ and labelsTr/, cases/, one folder per case, or NIfTI files",
  "folder.link.outside": "a link in the folder leads out of it; copy the data into the folder",
  "folder.dataset.invalid":
    "dataset.json is not valid; it needs labels as whole numbers from 0 to 255 with names",
  "folder.channels": "the data set has several channels per case; give one image per case",
  "folder.case.unknown": "a case named in the list is not in the folder; correct the list",
  "folder.cases.many": "the folder holds more cases than one cohort may; split it",
  "folder.cases.unreadable": "too many cases cannot be read; repair them or take them out of the folder",
} as const;

export type FolderErrorCode = keyof typeof REMEDIES;

export class FolderError extends Error {
  override name = "FolderError";
  readonly code: FolderErrorCode;

  constructor(code: FolderErrorCode, options?: { cause: unknown }) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}
