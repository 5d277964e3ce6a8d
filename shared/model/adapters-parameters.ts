// The tensors of a model's adapters, in PyTorch's shapes, in the order of an update, and what each starts from. The last
// layer of every adapter starts at zero, so that the adapted model equals SAM 2 before the first step. Inferred: that
// start, and the names below a part's own, because the paper publishes neither.

import { unreachable } from "../base/assert.ts";
import { Prng } from "../base/prng.ts";
import type { AdapterPlan } from "./adapters.ts";
import { type AdapterPlace, adapterPlaces } from "./adapters-places.ts";
import { elementCount, type ParameterSpec } from "./parameter-manifest.ts";
import type { Sam2Config } from "./sam2.ts";

/** `fan-in`: uniform within 1 / sqrt(inputs of one output), as PyTorch starts linear layers and convolutions. */
type Start =
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" }
  | { readonly kind: "fan-in"; readonly of: number };
type AdapterTensor = { readonly spec: ParameterSpec; readonly start: Start };

const ZEROS: Start = { kind: "zeros" };
const ONES: Start = { kind: "ones" };
/** Side of every depth-wise convolution. */
const KERNEL_SIZE = 3;

/** All of them are trainable. @throws AdapterError where a width does not divide the model's channels */
export function adapterParameters(plan: AdapterPlan, config: Sam2Config): ParameterSpec[] {
  return adapterTensors(plan, config).map(({ spec }) => spec);
}

/**
 * Every tensor has a generator of its own, labelled with its name: another plan leaves the numbers of shared tensors.
 * @returns one array per tensor, PyTorch's row-major order, in the order of `adapterParameters`
 */
export function initialAdapterWeights(
  plan: AdapterPlan,
  config: Sam2Config,
  seed: number,
): Map<string, Float32Array> {
  return new Map(adapterTensors(plan, config).map((tensor) => [tensor.spec.name, initial(tensor, seed)]));
}

/** The official name of an adapter's tensors begins with this. */
export function adapterName({ kind, name }: AdapterPlace): string {
  return kind === "lora" ? name : `${name}.adapter`;
}

function adapterTensors(plan: AdapterPlan, config: Sam2Config): AdapterTensor[] {
  return adapterPlaces(plan, config).flatMap((place) => placeTensors(place));
}

function placeTensors(place: AdapterPlace): AdapterTensor[] {
  const at = adapterName(place);
  switch (place.kind) {
    case "dwconv":
      return [
        ...norm(`${at}.norm1`, place.channels),
        ...layer(`${at}.fc1`, [place.width, place.channels]),
        ...layer(`${at}.dwconv`, [place.width, 1, KERNEL_SIZE, KERNEL_SIZE]),
        ...norm(`${at}.norm2`, place.width),
        ...lastLayer(`${at}.fc2`, [place.channels, place.width]),
      ];
    case "cnn":
      return [
        ...layer(`${at}.conv1`, [place.width, place.channels, 1, 1]),
        ...layer(`${at}.dwconv`, [place.width, 1, KERNEL_SIZE, KERNEL_SIZE]),
        ...lastLayer(`${at}.conv2`, [place.channels, place.width, 1, 1]),
      ];
    case "bottleneck":
      return [
        ...layer(`${at}.fc1`, [place.width, place.channels]),
        ...lastLayer(`${at}.fc2`, [place.channels, place.width]),
      ];
    case "lora":
      return [
        tensor(`${at}.lora_A.weight`, [place.rank, place.inChannels], {
          kind: "fan-in",
          of: place.inChannels,
        }),
        tensor(`${at}.lora_B.weight`, [place.outChannels, place.rank], ZEROS),
      ];
    default:
      return unreachable(place, "adapter");
  }
}

function norm(name: string, channels: number): AdapterTensor[] {
  return [tensor(`${name}.weight`, [channels], ONES), tensor(`${name}.bias`, [channels], ZEROS)];
}

/** Output channels first. */
function layer(
  name: string,
  shape: [outChannels: number, ...rest: number[]],
  start?: Start,
): AdapterTensor[] {
  const [outChannels, ...rest] = shape;
  const begins = start ?? { kind: "fan-in", of: rest.reduce((product, size) => product * size, 1) };
  return [tensor(`${name}.weight`, shape, begins), tensor(`${name}.bias`, [outChannels], begins)];
}

function lastLayer(name: string, shape: [outChannels: number, ...rest: number[]]): AdapterTensor[] {
  return layer(name, shape, ZEROS);
}

function tensor(name: string, shape: number[], start: Start): AdapterTensor {
  return { spec: { name, shape, dtype: "F32" }, start };
}

function initial({ spec, start }: AdapterTensor, seed: number): Float32Array {
  const values = new Float32Array(elementCount(spec));
  if (start.kind === "zeros") return values;
  if (start.kind === "ones") return values.fill(1);
  const bound = 1 / Math.sqrt(start.of);
  const prng = Prng.labelled(seed, spec.name);
  for (let index = 0; index < values.length; index += 1) values[index] = prng.uniform(-bound, bound);
  return values;
}
