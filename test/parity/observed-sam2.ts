// A SAM 2 model whose inner results can be looked at for the length of one call.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import type { tf } from "../../site-agent/backend/tensors.ts";
import type { Weights } from "../../site-agent/models/parameters.ts";
import { Sam2 } from "../../site-agent/models/sam2/sam2.ts";

type Observer = (part: string, value: tf.Tensor) => void;

/** From this input size on, the gradients of all tensors need more memory than WebAssembly has. */
const RECOMPUTED_SIDE_MIN = 384;

export class ObservedSam2 {
  readonly sam2: Sam2;
  #observer: Observer | undefined;

  constructor(config: Sam2Config, weights: Weights) {
    const observe: Observer = (part, value) => this.#observer?.(part, value);
    const recompute = config.imageSize >= RECOMPUTED_SIDE_MIN;
    this.sam2 = new Sam2(config, weights, {
      trainable: sam2Parameters(config),
      hooks: { observe },
      recompute,
    });
  }

  /** The result of `compute`, while every named result within goes to the observer. */
  observing<T>(observer: Observer, compute: () => T): T {
    this.#observer = observer;
    try {
      return compute();
    } finally {
      this.#observer = undefined;
    }
  }
}
