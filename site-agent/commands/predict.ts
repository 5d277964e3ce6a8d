// `consilium-site predict`: a model file on one image, with no coordinator. The result is a label map on the image's own
// grid, written whole or not at all.

import { gunzipSync } from "node:zlib";
import { readNiftiImage } from "../data/nifti-file.ts";
import { encodeLabelNifti } from "../data/nifti-write.ts";
import { type Labelmap, labelCounts, type Volume } from "../data/volume.ts";
import type { ExitReason } from "../exit-codes.ts";
import { type ModelFile, openModelFile, readTrustedKeys } from "../model-file.ts";
import { replaceFile } from "../store/durable-file.ts";
import { answerStage, segmenterOf, segmentVolume, stageMaps, stagesOf } from "../work/segmenter.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { type CommandContext, present } from "./command-context.ts";
import { UsageError } from "./usage-error.ts";

export type PredictOptions = {
  readonly model: string;
  readonly image: string;
  readonly out: string;
  readonly keys?: string;
  readonly mirror: boolean;
  /** Where the answer has stages, each beside `out`: `NAME.stage-0.nii.gz` and so on. */
  readonly stages?: boolean;
};

export async function predictImage(
  { model: path, image: imagePath, out, keys, mirror, stages = false }: PredictOptions,
  startBackend: BackendStarter,
  context: CommandContext,
): Promise<ExitReason> {
  if (!/\.nii(\.gz)?$/.test(out)) throw new UsageError("usage.output-name");
  const model = await openModelFile(path, keys === undefined ? null : await readTrustedKeys(keys));
  const { volume, header, orientation } = await readNiftiImage(imagePath);
  const backend = await startBackend();
  for (const line of backendLines(backend)) context.remark(line);
  if (orientation === "none") context.remark("The header states no orientation: left and right are a guess.");
  const maps = stages ? await everyStage(model, volume, mirror) : new Map<string, Labelmap>();
  const labelmap = maps.get(answerStage(model.plan)) ?? (await answerOf(model, volume, mirror));
  const file = await encodeLabelNifti(labelmap, header);
  await written(out, out.endsWith(".gz") ? file : gunzipSync(file));
  for (const [stage, map] of maps) {
    await written(out.replace(/\.nii(\.gz)?$/, `.${stage}.nii.gz`), await encodeLabelNifti(map, header));
  }
  const labels = foundLabels(labelmap, model);
  present(
    context,
    { version: model.version, signer: model.signer, backend: backend.statement.name, labels },
    [
      ...labels.map(
        ({ name, voxels, millilitres }) => `${name}: ${voxels} voxels, ${millilitres.toFixed(1)} ml`,
      ),
      "Written. A prediction is no diagnosis; look at it.",
    ],
  );
  return "done";
}

async function answerOf({ plan, weights }: ModelFile, volume: Volume, mirror: boolean): Promise<Labelmap> {
  const segmenter = segmenterOf(plan, weights, { mirror });
  return segmentVolume(volume, segmenter).finally(() => segmenter.dispose());
}

/** @throws UsageError where the model's answer has no stages */
async function everyStage(
  { plan, weights }: ModelFile,
  volume: Volume,
  mirror: boolean,
): Promise<Map<string, Labelmap>> {
  const staged = stagesOf(plan, weights, { mirror, which: "automatic" });
  if (!staged) throw new UsageError("usage.stages");
  return stageMaps({ volume, truth: null, plan }, staged.predict).finally(() => staged.dispose());
}

type FoundLabel = {
  readonly label: number;
  readonly name: string;
  readonly voxels: number;
  readonly millilitres: number;
};

function foundLabels(labelmap: Labelmap, { plan }: ModelFile): FoundLabel[] {
  const counts = labelCounts(labelmap);
  const [x, y, z] = labelmap.grid.spacingMm;
  return plan.labels.map(({ id, name }) => {
    const voxels = counts[id] ?? 0;
    return { label: id, name, voxels, millilitres: (voxels * x * y * z) / 1000 };
  });
}

async function written(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await replaceFile(path, bytes);
  } catch (cause) {
    throw new UsageError("usage.output", { cause });
  }
}
