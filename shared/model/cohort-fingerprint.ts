// What a site tells of its images so that all sites can agree on one preprocessing plan: sizes, spacings and intensity
// statistics over the whole cohort. It holds no voxel, no case and no name.

import { type Static, Type } from "typebox";

const strict = { additionalProperties: false } as const;
const Count = Type.Integer({ minimum: 0, maximum: 1_000_000 });
const PositiveMm = Type.Number({ exclusiveMinimum: 0, maximum: 1e6 });
const Intensity = Type.Number({ minimum: -1e12, maximum: 1e12 });
const Triple = Type.Tuple([PositiveMm, PositiveMm, PositiveMm]);

export const CohortFingerprint = Type.Object(
  {
    cases: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
    /** `mixed` where some cases are CT and some are MR. */
    modality: Type.Union([Type.Literal("CT"), Type.Literal("MR"), Type.Literal("mixed")]),
    /** Along R, A and S. */
    spacingMmMedian: Triple,
    shapeMedian: Triple,
    extentMmMedian: Triple,
    extentMmPercentile99: Triple,
    /** Over a sample of the contoured voxels, evenly many from each case; null where nothing is contoured. */
    foreground: Type.Union([
      Type.Object(
        {
          mean: Intensity,
          std: Type.Number({ minimum: 0, maximum: 1e12 }),
          percentile00_5: Intensity,
          percentile99_5: Intensity,
        },
        strict,
      ),
      Type.Null(),
    ]),
    /** In how many cases each label occurs. */
    labels: Type.Array(
      Type.Object({ label: Type.Integer({ minimum: 1, maximum: 255 }), cases: Count }, strict),
      {
        maxItems: 255,
      },
    ),
  },
  strict,
);
export type CohortFingerprint = Static<typeof CohortFingerprint>;
