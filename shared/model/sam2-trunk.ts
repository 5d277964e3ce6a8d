// The blocks of a Hiera trunk, one record each: what the stages and windows of the model's record come to.

import { expectDefined } from "../base/assert.ts";
import type { Sam2TrunkConfig } from "./sam2.ts";

export type HieraBlockSpec = {
  readonly index: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly headCount: number;
  /** Side of the attention's windows; 0 attends to the whole image. */
  readonly window: number;
  /** Queries are pooled 2 x 2. */
  readonly pools: boolean;
  /** The last block of a stage. */
  readonly endsStage: boolean;
};

/** Every block in order. Channels and heads change with a stage's first block, the window one block later. */
export function hieraBlocks(trunk: Sam2TrunkConfig): HieraBlockSpec[] {
  const blocks: HieraBlockSpec[] = [];
  let [channels, heads] = [trunk.embedDim, trunk.headCount];
  trunk.stages.forEach((count, stage) => {
    for (let place = 0; place < count; place += 1) {
      const changes = place === 0 && stage > 0;
      const inChannels = channels;
      if (changes)
        [channels, heads] = [Math.floor(channels * trunk.dimFactor), Math.floor(heads * trunk.headFactor)];
      const window = expectDefined(trunk.windows[changes ? stage - 1 : stage], "window of a stage");
      const index = blocks.length;
      blocks.push({
        index,
        inChannels,
        outChannels: channels,
        headCount: heads,
        window: trunk.globalBlocks.includes(index) ? 0 : window,
        pools: changes && stage <= trunk.poolCount,
        endsStage: place === count - 1,
      });
    }
  });
  return blocks;
}

/** Channels of every stage's result, from full resolution down. */
export function stageChannels(trunk: Sam2TrunkConfig): number[] {
  return hieraBlocks(trunk)
    .filter(({ endsStage }) => endsStage)
    .map(({ outChannels }) => outChannels);
}
