// A start model put together here, part by part, from versions in the log and from seeds: no file travels, and what a
// part is called it has been checked to be.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import { float32Tensor, writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { RecipeArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import type { RecipePart } from "@consilium/shared/model/recipe-parts.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { PartChoice } from "@consilium/shared/protocol/version-parts.ts";
import type { ArtifactStore, BlobWriter, StoredBlob } from "./artifact-store.ts";
import { tensorPieces } from "./part-digests.ts";
import type { RecordedVersion } from "./recorded-version.ts";
import { TensorReader } from "./tensor-reader.ts";

export type FindVersion = (version: ModelVersionId) => RecordedVersion | null;

export type Composition = {
  readonly architecture: RecipeArchitecture;
  readonly config: unknown;
  readonly parts: readonly RecipePart[];
  readonly findVersion: FindVersion;
};

/**
 * The weights as a canonical bundle in the store.
 * @param choices one for each part, in any order
 * @throws ProtocolError version.unknown, version.wrong-state, plan.invalid
 */
export async function composeWeights(
  store: ArtifactStore,
  composition: Composition,
  choices: readonly PartChoice[],
): Promise<StoredBlob> {
  const { architecture, config, parts } = composition;
  const sources = new Map(choices.map(({ part, from }) => [part, from]));
  const names = parts.map(({ part }) => part);
  if (choices.length !== names.length || !names.every((part) => sources.has(part)))
    throw new ProtocolError("plan.invalid", [`start.parts: name each of ${names.join(", ")} once`]);
  const writer = store.create();
  try {
    writer.write(writeBundleHeader(architecture.parameters(config)));
    for (const one of parts) {
      const from = expectDefined(sources.get(one.part), one.part);
      if (from.kind === "seeded") writeDrawn(writer, composition, { ...one, seed: from.seed });
      else await copyPart(store, writer, { one, known: standing(composition.findVersion(from.version)) });
    }
    return writer.finish();
  } catch (error) {
    writer.abandon();
    throw error;
  }
}

/** @throws ProtocolError version.unknown, version.wrong-state where a contribution to it was taken back */
export function standing(known: RecordedVersion | null): RecordedVersion {
  if (!known) throw new ProtocolError("version.unknown");
  if (known.isWithdrawn) throw new ProtocolError("version.wrong-state");
  return known;
}

function writeDrawn(
  writer: BlobWriter,
  { architecture, config }: Composition,
  { part, parameters, seed }: RecipePart & { readonly seed: number },
): void {
  const values = architecture.initialPart(config, part, seed);
  for (const { name, shape } of parameters)
    writer.write(float32Tensor(name, shape, expectDefined(values.get(name), name)).bytes);
}

async function copyPart(
  store: ArtifactStore,
  writer: BlobWriter,
  { one: { part, parameters }, known }: { one: RecipePart; known: RecordedVersion },
): Promise<void> {
  // A version of a recipe of one part has that part under its own names.
  const prefix = known.manifest.parts ? `${part}.` : "";
  const reader = TensorReader.open(store, known.manifest.weights.sha256);
  try {
    const own = [...reader.tensors.values()].filter(({ name }) => name.startsWith(prefix));
    const shapes = new Map(own.map(({ name, shape }) => [name.slice(prefix.length), shape.join()]));
    const isSame =
      own.length === parameters.length &&
      parameters.every(({ name, shape }) => shapes.get(name) === shape.join());
    if (!isSame)
      throw new ProtocolError("plan.invalid", [
        `start.parts: that version's ${part} holds other tensors than the plan's`,
      ]);
    for (const { name } of parameters) {
      for await (const piece of tensorPieces(reader, `${prefix}${name}`)) writer.write(piece);
    }
  } finally {
    reader.close();
  }
}
