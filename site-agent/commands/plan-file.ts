// A plan from a file: a signed plan, a plan, or the draft that an operator hands to `study open`, which lacks what
// follows from the recipe.

import { readFile } from "node:fs/promises";
import { claimedSigner, Envelope, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { findArchitecture, manifestDigest } from "@consilium/shared/model/recipe-architectures.ts";
import { planFaults, StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { EnvelopeAnswer } from "@consilium/shared/protocol/http.ts";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { expectRecipe } from "../work/checked-documents.ts";
import { StudyError } from "../work/study-error.ts";

const planFileBytesMax = 2 ** 20;
const Draft = Type.Object({
  recipe: Type.Object({ id: Type.String(), version: Type.Integer(), config: Type.Unknown() }),
});
/** Names no version: a plan that nobody has opened starts from none. */
const noVersion = "0".repeat(64);

/** @throws StudyError `plan.no-file`, `plan.unsuitable` */
export async function readPlanFile(path: string): Promise<StudyPlan> {
  const value = await readJson(path);
  const plan = planIn(value);
  if (planFaults(plan).length > 0) throw new StudyError("plan.no-file");
  expectRecipe(plan);
  return plan;
}

function planIn(value: unknown): StudyPlan {
  if (Value.Check(EnvelopeAnswer, value)) return planIn(value.envelope);
  try {
    if (Value.Check(Envelope, value)) return openEnvelope(StudyPlanDocument, value, claimedSigner(value));
    const whole = Value.Check(Draft, value) ? completed(value) : value;
    if (Value.Check(StudyPlan, whole)) return whole;
  } catch (cause) {
    throw cause instanceof StudyError ? cause : new StudyError("plan.no-file", { cause });
  }
  throw new StudyError("plan.no-file");
}

function completed<T extends { recipe: { id: string; version: number; config?: unknown } }>(
  draft: T,
): unknown {
  const architecture = findArchitecture(draft.recipe);
  if (!architecture) throw new StudyError("plan.unsuitable");
  const parameterManifest = manifestDigest(architecture.trainable(draft.recipe.config));
  return { startVersion: noVersion, parameterManifest, ...draft };
}

async function readJson(path: string): Promise<unknown> {
  try {
    const text = await readFile(path, "utf8");
    return text.length > planFileBytesMax ? null : JSON.parse(text);
  } catch (cause) {
    throw new StudyError("plan.no-file", { cause });
  }
}
