// Prompts from a prompter's output: of every object in every slice the box of its largest connected part with a margin,
// and its log-odds as a mask. An object too small to be believed gives no prompt.
// Inferred: the paper says that a UNet gives masks and boxes; how they are cut out of its output it does not say.

import { largestComponent } from "./connected-components.ts";
import { maskLogitsFromProbabilities } from "./mask-logits.ts";
import { isPresent, type ObjectPrompt } from "./object-prompt.ts";
import { type BoxMargin, PROMPTER_MARGIN, tightBox, widenedBox } from "./pixel-box.ts";
import {
  type ObjectPlace,
  type ObjectRule,
  type PrompterOutput,
  probabilityPlane,
  prompterMask,
} from "./prompter-output.ts";
import type { SliceSize } from "./slice-size.ts";

export type PrompterRule = {
  readonly object: ObjectRule;
  /** The box goes round the largest connected part, or round all parts. */
  readonly extent: "largest" | "all";
  readonly margin: BoxMargin;
};

export const PROMPTER_RULE: PrompterRule = {
  object: { kind: "likeliest" },
  extent: "largest",
  margin: PROMPTER_MARGIN,
};

/** Sizes on the model's side: its image, and its grid of mask prompts. */
export type ModelSizes = { readonly image: SliceSize; readonly maskGrid: SliceSize };

/** The prompt of one object in one slice, or null where the prompter does not see it there. */
export function prompterPrompt(
  output: PrompterOutput,
  place: ObjectPlace,
  { model, rule = PROMPTER_RULE }: { readonly model: ModelSizes; readonly rule?: PrompterRule },
): ObjectPrompt | null {
  const mask = prompterMask(output, place, rule.object);
  const areaPx = mask.reduce((sum, value) => sum + value, 0);
  if (!isPresent(areaPx, output, model.image)) return null;
  const part = rule.extent === "all" ? mask : largestComponent(mask, { ...output, depth: 1 });
  const box = part && tightBox(part, output);
  if (box === null) return null;
  return {
    ...place,
    source: "prompter",
    box: widenedBox(box, rule.margin, output),
    points: [],
    maskLogits: maskLogitsFromProbabilities(probabilityPlane(output, place), output, model.maskGrid),
    areaPx,
  };
}

/** All prompts of a stack, class by class and slice by slice. */
export function prompterPrompts(
  output: PrompterOutput,
  options: { readonly model: ModelSizes; readonly rule?: PrompterRule },
): ObjectPrompt[] {
  const prompts: ObjectPrompt[] = [];
  for (let classIndex = 1; classIndex < output.classCount; classIndex += 1) {
    for (let slice = 0; slice < output.depth; slice += 1) {
      const prompt = prompterPrompt(output, { classIndex, slice }, options);
      if (prompt !== null) prompts.push(prompt);
    }
  }
  return prompts;
}
