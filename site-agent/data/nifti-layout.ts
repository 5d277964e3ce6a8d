// Where each field lies in a NIfTI-1 (348 bytes) and in a NIfTI-2 (540 bytes) header, after nifti1.h and nifti2.h of
// the NIfTI data format working group. Only the fields that the agent reads or rewrites are listed.

/** The fields that may hold words typed by a person, as [offset, bytes]: blanked in everything the agent writes. */
type TextFields = readonly (readonly [number, number])[];

export interface NiftiLayout {
  readonly headerBytes: number;
  /** Bytes between the header and its extensions. */
  readonly extensionFlagBytes: number;
  readonly magicAt: number;
  readonly magic: readonly number[];
  readonly pairMagic: readonly number[];
  readonly datatypeAt: number;
  readonly bitsPerVoxelAt: number;
  readonly slopeAt: number;
  readonly interceptAt: number;
  readonly calibrationMaxAt: number;
  readonly calibrationMinAt: number;
  readonly qformCodeAt: number;
  readonly sformCodeAt: number;
  readonly quaternionAt: number;
  readonly qoffsetAt: number;
  readonly sformRowsAt: number;
  readonly pixdimAt: number;
  /** Bytes of one real number of the geometry. */
  readonly realBytes: 4 | 8;
  readonly textFields: TextFields;
  readonly intentCodeAt: number;
  readonly readReal: (view: DataView, offset: number, littleEndian: boolean) => number;
  readonly writeReal: (view: DataView, offset: number, value: number, littleEndian: boolean) => void;
  readonly readCode: (view: DataView, offset: number, littleEndian: boolean) => number;
  readonly writeCode: (view: DataView, offset: number, value: number, littleEndian: boolean) => void;
  readonly readDimension: (view: DataView, index: number, littleEndian: boolean) => number;
  readonly writeDimension: (view: DataView, index: number, value: number, littleEndian: boolean) => void;
  readonly readVoxelOffset: (view: DataView, littleEndian: boolean) => number;
  readonly writeVoxelOffset: (view: DataView, value: number, littleEndian: boolean) => void;
  readonly readUnits: (view: DataView, littleEndian: boolean) => number;
  readonly writeUnits: (view: DataView, value: number, littleEndian: boolean) => void;
}

export const NIFTI1: NiftiLayout = {
  headerBytes: 348,
  extensionFlagBytes: 4,
  magicAt: 344,
  magic: [0x6e, 0x2b, 0x31, 0], // "n+1"
  pairMagic: [0x6e, 0x69, 0x31, 0], // "ni1"
  datatypeAt: 70,
  bitsPerVoxelAt: 72,
  slopeAt: 112,
  interceptAt: 116,
  calibrationMaxAt: 124,
  calibrationMinAt: 128,
  qformCodeAt: 252,
  sformCodeAt: 254,
  quaternionAt: 256,
  qoffsetAt: 268,
  sformRowsAt: 280,
  pixdimAt: 76,
  realBytes: 4,
  textFields: [
    [4, 10], // data_type
    [14, 18], // db_name
    [148, 80], // descrip
    [228, 24], // aux_file
    [328, 16], // intent_name
  ],
  intentCodeAt: 68,
  readReal: (view, offset, little) => view.getFloat32(offset, little),
  writeReal: (view, offset, value, little) => view.setFloat32(offset, value, little),
  readCode: (view, offset, little) => view.getInt16(offset, little),
  writeCode: (view, offset, value, little) => view.setInt16(offset, value, little),
  readDimension: (view, index, little) => view.getInt16(40 + 2 * index, little),
  writeDimension: (view, index, value, little) => view.setInt16(40 + 2 * index, value, little),
  readVoxelOffset: (view, little) => view.getFloat32(108, little),
  writeVoxelOffset: (view, value, little) => view.setFloat32(108, value, little),
  readUnits: (view) => view.getUint8(123),
  writeUnits: (view, value) => view.setUint8(123, value),
};

export const NIFTI2: NiftiLayout = {
  headerBytes: 540,
  extensionFlagBytes: 4,
  magicAt: 4,
  magic: [0x6e, 0x2b, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a], // "n+2" and a line-ending trap
  pairMagic: [0x6e, 0x69, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a], // "ni2"
  datatypeAt: 12,
  bitsPerVoxelAt: 14,
  slopeAt: 176,
  interceptAt: 184,
  calibrationMaxAt: 192,
  calibrationMinAt: 200,
  qformCodeAt: 344,
  sformCodeAt: 348,
  quaternionAt: 352,
  qoffsetAt: 376,
  sformRowsAt: 400,
  pixdimAt: 104,
  realBytes: 8,
  textFields: [
    [240, 80], // descrip
    [320, 24], // aux_file
    [508, 16], // intent_name
    [525, 15], // unused
  ],
  intentCodeAt: 504,
  readReal: (view, offset, little) => view.getFloat64(offset, little),
  writeReal: (view, offset, value, little) => view.setFloat64(offset, value, little),
  readCode: (view, offset, little) => view.getInt32(offset, little),
  writeCode: (view, offset, value, little) => view.setInt32(offset, value, little),
  readDimension: (view, index, little) => Number(view.getBigInt64(16 + 8 * index, little)),
  writeDimension: (view, index, value, little) => view.setBigInt64(16 + 8 * index, BigInt(value), little),
  readVoxelOffset: (view, little) => Number(view.getBigInt64(168, little)),
  writeVoxelOffset: (view, value, little) => view.setBigInt64(168, BigInt(value), little),
  readUnits: (view, little) => view.getInt32(500, little),
  writeUnits: (view, value, little) => view.setInt32(500, value, little),
};
