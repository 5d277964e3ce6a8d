// The order in which SAM 2's operations take each weight of the official checkpoints.

import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { TensorLayout } from "../tensor-layout.ts";

/** Tensors called `weight` that are rows of numbers and no layer. */
const TABLES = /(_token|_tokens|_embed|point_embeddings\.\d+)\.weight$/;

export function sam2Layout({ name, shape }: ParameterSpec): TensorLayout {
  if (!name.endsWith(".weight") || TABLES.test(name)) return "plain";
  if (shape.length === 2) return "linear";
  if (shape.length !== 4) return "plain";
  return name.endsWith(".dwconv.weight") && shape[1] === 1 ? "depthwise" : "kernel";
}
