// One case of the SAM 2 family from its folder to its comparison, group by group.

import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import type { CaseFolder } from "./case-folder.ts";
import { CaseError } from "./case-folder.ts";
import { Comparison } from "./comparison.ts";
import { ObservedSam2 } from "./observed-sam2.ts";
import { readSam2Config } from "./sam2-config-file.ts";
import { type Frame, readFrames } from "./sam2-frames.ts";
import { compareEncoder, comparePrompt, promptNames } from "./sam2-image-case.ts";
import { compareTrack, readTrackGroup } from "./sam2-track-case.ts";
import { compareTraining } from "./sam2-training-case.ts";

/** Whole predictors, which this project does not have. */
const PREDICTORS = ["image_predictor", "video_predictor"];

export function isSam2Case({ config }: CaseFolder): boolean {
  return config["_target_"] === "sam2.modeling.sam2_base.SAM2Base";
}

/** @throws CaseError, Sam2Error where the case as a whole is not understood */
export function runSam2Case(folder: CaseFolder): Comparison {
  const comparison = new Comparison(folder);
  const config = readSam2Config(folder.config);
  expectParameters(folder, sam2Parameters(config));
  for (const group of PREDICTORS) comparison.leaveOut(group, "predictors are not supported yet");
  const model = new ObservedSam2(config, folder.weights);
  try {
    tf.tidy(() => {
      const frames = readFrames(folder, config.imageSize).map(frameTensor);
      const [first] = frames;
      if (!first) throw new CaseError("the case has no frame");
      const features = compareEncoder(model, first, comparison);
      const prompts = promptNames(folder);
      if (prompts.length > 0) comparison.attempt(() => expectDecoderInput(folder));
      for (const name of prompts)
        comparison.attempt(() => comparePrompt(model, features, name, { folder, comparison }));
      if (comparison.wantsUnder("track")) {
        const all = frames.map((frame, time) => (time === 0 ? features : model.sam2.encode(frame)));
        for (const name of trackNames(comparison)) {
          comparison.attempt(() => {
            const group = readTrackGroup(name, folder.notes);
            tf.tidy(() => compareTrack(model, group, { folder, comparison, features: all }));
          });
        }
      }
      compareTraining({ model, frames, folder, comparison });
    });
  } finally {
    model.sam2.dispose();
  }
  return comparison;
}

/** The decoder is given what the model's own `segment` gives it. */
function expectDecoderInput({ notes }: CaseFolder): void {
  const told = notes["decoder_input"];
  const known = "image embedding for decoder/* = vision_features + no_mem_embed";
  if (told !== undefined && told !== known) throw new CaseError("the note decoder_input is not understood");
}

function frameTensor({ pixels, height, width }: Frame): tf.Tensor4D {
  return tf.tensor4d(pixels, [1, height, width, 3]);
}

function trackNames(comparison: Comparison): string[] {
  return [...new Set(comparison.openUnder("track").map((rest) => rest.split("/")[0] ?? ""))];
}

type Specs = ReturnType<typeof sam2Parameters>;

/** The record must come to exactly the tensors of the case. */
export function expectParameters({ weightShapes }: CaseFolder, specs: Specs): void {
  const listed = new Map(specs.map(({ name, shape }) => [name, shape.join("x")]));
  const names = new Set([...listed.keys(), ...weightShapes.keys()]);
  const different = [...names].filter((name) => listed.get(name) !== weightShapes.get(name)?.join("x"));
  if (different.length === 0) return;
  const shown = different.slice(0, 8).map((name) => `${name} [${listed.get(name) ?? "not in the record"}]`);
  throw new CaseError(`the record has other tensors than the weights: ${shown.join(", ")}`);
}
