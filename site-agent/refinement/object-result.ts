// What a stage says about one object in one slice: logits on the model's mask grid, the quality that the model predicts
// for them, and whether it sees the object at all.

export type Decoded = {
  /** [grid.height, grid.width] */
  readonly logits: Float32Array;
  /** Predicted IoU, 0 to 1. */
  readonly iouScore: number;
  /** Above 0 where the model sees the object. */
  readonly objectLogit: number;
};

export type ObjectResult = Decoded & { readonly classIndex: number; readonly slice: number };

/** Pixels of the grid that belong to the object; none where the model does not see it. */
export function resultArea({ logits, objectLogit }: Decoded): number {
  return objectLogit > 0 ? logits.reduce((area, logit) => area + (logit > 0 ? 1 : 0), 0) : 0;
}

/** The mean of two passes over the same slice, or the one that there is. */
export function averagedPasses(
  forward: readonly ObjectResult[],
  backward: readonly ObjectResult[],
): ObjectResult[] {
  const others = new Map(backward.map((result) => [result.slice, result]));
  const averaged = forward.map((result) => {
    const other = others.get(result.slice);
    others.delete(result.slice);
    return other === undefined ? result : meanOf(result, other);
  });
  return [...averaged, ...others.values()].sort((a, b) => a.slice - b.slice);
}

function meanOf(a: ObjectResult, b: ObjectResult): ObjectResult {
  return {
    classIndex: a.classIndex,
    slice: a.slice,
    logits: a.logits.map((logit, pixel) => (logit + (b.logits[pixel] ?? logit)) / 2),
    iouScore: (a.iouScore + b.iouScore) / 2,
    objectLogit: (a.objectLogit + b.objectLogit) / 2,
  };
}
