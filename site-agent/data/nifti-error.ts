// Every way in which a NIfTI file can be refused, and what the person in front of it should do. Messages never hold a
// path or a header's free text, because both can name a patient.

const REMEDIES = {
  "nifti.file.unreadable": "the file cannot be read; check that it exists, is a plain file and may be read",
  "nifti.file.large": "the file is larger than the agent accepts; crop or resample it",
  "nifti.gzip.damaged":
    "the gzip stream is cut short, altered or followed by other bytes; copy the file again",
  "nifti.gzip.large": "the file inflates to more bytes than its header announces; write it again",
  "nifti.header.short": "the file ends before its header does; copy the file again",
  "nifti.header.magic":
    "this is neither NIfTI-1 nor NIfTI-2; convert it (ANALYZE and DICOM are not read here)",
  "nifti.header.pair":
    "a header with a separate .img file is not read; convert the pair to one .nii or .nii.gz",
  "nifti.dimensions": "the dimensions in the header are zero, negative or too large; write the file again",
  "nifti.volumes": "the file holds several volumes; split it and give one volume for each case",
  "nifti.datatype":
    "the voxel type is not a real integer or float of 8 to 64 bits; convert it, e.g. to float32",
  "nifti.spacing": "the voxel size is zero, negative, not a number or out of range; correct pixdim",
  "nifti.affine": "the position matrix is not finite or collapses an axis; correct the sform or qform",
  "nifti.affine.sheared": "the voxel axes are not perpendicular; resample to a box-shaped grid (gantry tilt)",
  "nifti.offset": "the voxel offset points outside the file or into the header; write the file again",
  "nifti.scaling": "the intensity slope or intercept is not a finite number; correct scl_slope and scl_inter",
  "nifti.voxels.short": "the file ends before its last voxel; copy the file again",
  "nifti.voxels.excess": "bytes follow the last voxel; write the file again",
  "nifti.voxels.nonfinite": "too many voxels are not finite numbers; replace them before training",
  "nifti.labels": "labels must be whole numbers from 0 to 255; round or renumber them",
} as const;

export type NiftiErrorCode = keyof typeof REMEDIES;

/** A refused file. The code is for programs, the message for the person who owns the file. */
export class NiftiError extends Error {
  override name = "NiftiError";
  readonly code: NiftiErrorCode;

  constructor(code: NiftiErrorCode, options?: { cause: unknown }) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}
