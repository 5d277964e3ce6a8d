// The adapters of one SAM 2.1 model: their tensors, and the hooks by which the model calls them. It owns the adapters'
// tensors and none of the model's; without it the model is SAM 2 as published.

import type { AdapterPlan } from "@consilium/shared/model/adapters.ts";
import { adapterName, adapterParameters } from "@consilium/shared/model/adapters-parameters.ts";
import {
  type AdapterPlace,
  adapterPlaces,
  type ImageAdapterPlace,
  type LoraPlace,
} from "@consilium/shared/model/adapters-places.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import type { tf } from "../../backend/tensors.ts";
import { ModelPart, type PartHooks, type WeightSource } from "../nn/model-part.ts";
import { Parameters, type Weights } from "../parameters.ts";
import { sam2Layout } from "../sam2/sam2-layout.ts";
import { adaptImage } from "./adapter.ts";
import { LowRankWeights } from "./lora.ts";

export class Sam2Adapters {
  /** All of them trainable, in the order of an update. */
  readonly parameters: Parameters;
  readonly hooks: Required<Pick<PartHooks, "adapt" | "recompute">>;
  readonly #images: ReadonlyMap<string, ImageAdapterPlace>;
  readonly #lowRank: readonly LoraPlace[];

  /**
   * @throws AdapterError where a width does not divide the model's channels
   * @throws WeightsError when the weights are not those of the plan
   */
  constructor(plan: AdapterPlan, config: Sam2Config, weights: Weights) {
    const places = adapterPlaces(plan, config);
    this.#images = new Map(places.filter(isImagePlace).map((place) => [place.name, place]));
    this.#lowRank = places.filter((place) => place.kind === "lora");
    const specs = adapterParameters(plan, config);
    this.parameters = new Parameters({ specs, trainable: specs, layoutOf: sam2Layout }, weights);
    this.hooks = {
      adapt: (name, image) => this.#adapt(name, image),
      recompute: (block) => this.#within(block),
    };
  }

  /** The model's weights with the low-rank updates added where they are read; as they are where the plan has none. */
  updated(weights: WeightSource): WeightSource {
    return this.#lowRank.length === 0 ? weights : new LowRankWeights(weights, this.#lowRank, this.parameters);
  }

  dispose(): void {
    this.parameters.dispose();
  }

  /** The image [B, H, W, C] behind the named part with its adapter's branch added; as it is where there is none. */
  #adapt(name: string, image: tf.Tensor4D): tf.Tensor4D {
    const place = this.#images.get(name);
    return place ? adaptImage(image, place, new ModelPart(this.parameters, {}, adapterName(place))) : image;
  }

  /** The tensors of the adapters within a block, for a model that computes the block again in the backward pass. */
  #within(block: string): tf.Tensor[] {
    const tensors = [...this.parameters.trainable()];
    return tensors.filter(([name]) => name.startsWith(`${block}.`)).map(([, tensor]) => tensor);
  }
}

function isImagePlace(place: AdapterPlace): place is ImageAdapterPlace {
  return place.kind !== "lora";
}
