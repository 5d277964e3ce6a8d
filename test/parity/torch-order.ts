// Tensors of this project in PyTorch's order, and back: images there are channels first, sequences of the memory are
// tokens first.

import { tf } from "../../site-agent/backend/tensors.ts";
import type { CaseTensor } from "./case-folder.ts";
import type { FoundTensor } from "./stored-form.ts";

/** As it is. */
export function plain(tensor: tf.Tensor): FoundTensor {
  return { shape: tensor.shape, values: tensor.dataSync() };
}

/** [B, H, W, C] as [B, C, H, W]. */
export function image(tensor: tf.Tensor): FoundTensor {
  return transposed(tensor, [0, 3, 1, 2]);
}

/** [B, L, C] as [L, B, C]. */
export function tokensFirst(tensor: tf.Tensor): FoundTensor {
  return transposed(tensor, [1, 0, 2]);
}

function transposed(tensor: tf.Tensor, order: number[]): FoundTensor {
  const turned = tf.transpose(tensor, order);
  const found = plain(turned);
  turned.dispose();
  return found;
}

/** A tensor of the case with its own shape. */
export function stored<Rank extends tf.Rank>({ shape, values }: CaseTensor): tf.Tensor<Rank> {
  return tf.tensor(Float32Array.from(values), [...shape] as tf.ShapeMap[Rank]); // As many axes as the caller knows.
}

/** [B, C, H, W] as [B, H, W, C]. */
export function storedImage(tensor: CaseTensor): tf.Tensor4D {
  return tf.tidy(() => tf.transpose(stored<tf.Rank.R4>(tensor), [0, 2, 3, 1]));
}
