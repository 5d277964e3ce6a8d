// `consilium-site predict`: a model file on one image, with no coordinator. The result is a label map on the image's own
// grid, written whole or not at all.

import { gunzipSync } from "node:zlib";
import { readNiftiImage } from "../data/nifti-file.ts";
import { encodeLabelNifti } from "../data/nifti-write.ts";
import { type Labelmap, labelCounts } from "../data/volume.ts";
import type { ExitReason } from "../exit-codes.ts";
import { type ModelFile, openModelFile, readTrustedKeys } from "../model-file.ts";
import { replaceFile } from "../store/durable-file.ts";
import { segmenterOf, segmentVolume } from "../work/segmenter.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { type CommandContext, present } from "./command-context.ts";
import { UsageError } from "./usage-error.ts";

export type PredictOptions = {
  readonly model: string;
  readonly image: string;
  readonly out: string;
  readonly keys?: string;
  readonly mirror: boolean;
};

export async function predictImage(
  { model: path, image: imagePath, out, keys, mirror }: PredictOptions,
  startBackend: BackendStarter,
  context: CommandContext,
): Promise<ExitReason> {
  if (!/\.nii(\.gz)?$/.test(out)) throw new UsageError("usage.output-name");
  const model = await openModelFile(path, keys === undefined ? null : await readTrustedKeys(keys));
  const { volume, header, orientation } = await readNiftiImage(imagePath);
  const backend = await startBackend();
  for (const line of backendLines(backend)) context.remark(line);
  if (orientation === "none") context.remark("The header states no orientation: left and right are a guess.");
  const segmenter = segmenterOf(model.plan, model.weights, { mirror });
  const labelmap = await segmentVolume(volume, segmenter).finally(() => segmenter.dispose());
  const file = await encodeLabelNifti(labelmap, header);
  await written(out, out.endsWith(".gz") ? file : gunzipSync(file));
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
