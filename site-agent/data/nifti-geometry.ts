// From the geometry fields of a NIfTI header to an affine in RAS+ millimetres: the sform where its code is above zero,
// else the qform, else the voxel size alone (NIfTI-1 standard, methods 3, 2 and 1). Grids that are not box-shaped are
// refused, because distances and resampling along the axes would be wrong on them.

import { type Affine, axisCosineMax, length, scaled, type Vec3 } from "./affine.ts";
import { type Grid, makeGrid } from "./grid.ts";
import { NiftiError } from "./nifti-error.ts";
import type { NiftiHeader } from "./nifti-header.ts";

const SPACING_MM_MIN = 1e-3;
const SPACING_MM_MAX = 1e3;
/** Cosine of the largest deviation from a right angle that is read as rounding: about one degree. */
const AXIS_COSINE_MAX = 0.02;
const POSITION_MM_MAX = 1e6;
/** By how much b2 + c2 + d2 of a stored quaternion may exceed 1 and still be rounding. */
const QUATERNION_EXCESS_MAX = 1e-3;
/** Millimetres per spatial unit of xyzt_units: unknown is read as mm, as every common reader does. */
const MILLIMETRES_BY_UNIT: Readonly<Record<number, number>> = { 0: 1, 1: 1000, 2: 1, 3: 0.001 };

/** Where the orientation came from. "none" means that left and right are a guess. */
export type OrientationSource = "sform" | "qform" | "none";

export interface NiftiGeometry {
  readonly grid: Grid;
  readonly source: OrientationSource;
}

/** @throws NiftiError nifti.spacing, nifti.affine or nifti.affine.sheared. */
export function niftiGeometry(header: NiftiHeader): NiftiGeometry {
  const fields = geometryFields(header);
  checkSpacing(fields.pixdimMm);
  const source = fields.sformCode > 0 ? "sform" : fields.qformCode > 0 ? "qform" : "none";
  const affine = affineFrom(source, fields);
  checkAffine(affine);
  return { grid: makeGrid(header.shape, affine), source };
}

interface GeometryFields {
  readonly sformCode: number;
  readonly qformCode: number;
  readonly handedness: 1 | -1;
  readonly pixdimMm: Vec3;
  readonly quaternion: Vec3;
  readonly qoffsetMm: Vec3;
  /** Three rows of four, in mm. */
  readonly rowsMm: readonly (readonly [number, number, number, number])[];
}

function geometryFields(header: NiftiHeader): GeometryFields {
  const { layout, littleEndian, bytes, shape } = header;
  const view = new DataView(bytes.buffer);
  const real = (at: number, index: number): number =>
    layout.readReal(view, at + index * layout.realBytes, littleEndian);
  const unit = MILLIMETRES_BY_UNIT[layout.readUnits(view, littleEndian) & 0x07];
  if (unit === undefined) throw new NiftiError("nifti.spacing");
  const three = (at: number): Vec3 => [real(at, 0), real(at, 1), real(at, 2)];
  const [pi, pj, pk] = three(layout.pixdimAt + layout.realBytes);
  // An axis of one voxel has no neighbour to be distant from: writers of flat images leave its size at zero.
  const edge = (size: number, step: number): number => (size === 1 && step === 0 ? 1 / unit : step);
  return {
    sformCode: layout.readCode(view, layout.sformCodeAt, littleEndian),
    qformCode: layout.readCode(view, layout.qformCodeAt, littleEndian),
    handedness: real(layout.pixdimAt, 0) < 0 ? -1 : 1,
    pixdimMm: scaled([edge(shape[0], pi), edge(shape[1], pj), edge(shape[2], pk)], unit),
    quaternion: three(layout.quaternionAt),
    qoffsetMm: scaled(three(layout.qoffsetAt), unit),
    rowsMm: [0, 4, 8].map((row) => {
      const at = layout.sformRowsAt + row * layout.realBytes;
      return [real(at, 0) * unit, real(at, 1) * unit, real(at, 2) * unit, real(at, 3) * unit];
    }),
  };
}

function checkSpacing(spacingMm: Vec3): void {
  const isUsable = spacingMm.every((step) => step >= SPACING_MM_MIN && step <= SPACING_MM_MAX);
  if (!isUsable) throw new NiftiError("nifti.spacing");
}

function affineFrom(source: OrientationSource, fields: GeometryFields): Affine {
  const { pixdimMm, qoffsetMm, rowsMm } = fields;
  if (source === "sform") {
    const [x = ZERO_ROW, y = ZERO_ROW, z = ZERO_ROW] = rowsMm;
    return {
      columns: [
        [x[0], y[0], z[0]],
        [x[1], y[1], z[1]],
        [x[2], y[2], z[2]],
      ],
      origin: [x[3], y[3], z[3]],
    };
  }
  const [i, j, k] = source === "qform" ? rotationColumns(fields.quaternion) : IDENTITY_COLUMNS;
  return {
    columns: [
      scaled(i, pixdimMm[0]),
      scaled(j, pixdimMm[1]),
      scaled(k, pixdimMm[2] * (source === "qform" ? fields.handedness : 1)),
    ],
    origin: source === "qform" ? qoffsetMm : [0, 0, 0],
  };
}

const ZERO_ROW = [0, 0, 0, 0] as const;
const IDENTITY_COLUMNS: readonly [Vec3, Vec3, Vec3] = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];

/** Columns of the rotation of a unit quaternion stored as (b, c, d), its real part being the root of the rest. */
function rotationColumns([b, c, d]: Vec3): [Vec3, Vec3, Vec3] {
  const rest = 1 - (b * b + c * c + d * d);
  if (!(rest >= -QUATERNION_EXCESS_MAX)) throw new NiftiError("nifti.affine");
  const a = Math.sqrt(Math.max(rest, 0));
  const norm = Math.hypot(a, b, c, d);
  const [w, x, y, z] = [a / norm, b / norm, c / norm, d / norm];
  return [
    [w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)],
    [2 * (x * y - w * z), w * w + y * y - x * x - z * z, 2 * (y * z + w * x)],
    [2 * (x * z + w * y), 2 * (y * z - w * x), w * w + z * z - x * x - y * y],
  ];
}

function checkAffine(affine: Affine): void {
  const hasPlace = affine.origin.every((value) => Math.abs(value) <= POSITION_MM_MAX);
  const hasSize = affine.columns.every((column) => {
    const stepMm = length(column);
    return stepMm >= SPACING_MM_MIN && stepMm <= SPACING_MM_MAX;
  });
  if (!hasPlace || !hasSize) throw new NiftiError("nifti.affine");
  if (axisCosineMax(affine) > AXIS_COSINE_MAX) {
    throw new NiftiError(isFlat(affine) ? "nifti.affine" : "nifti.affine.sheared");
  }
}

/** Two axes that point the same way span no volume; anything milder is a shear. */
function isFlat(affine: Affine): boolean {
  return axisCosineMax(affine) > 0.999;
}
