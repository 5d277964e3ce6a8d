// The shapes that a kernel gives for the shapes that it gets: a rule for every kernel that training in a recipe calls,
// the project's own ones included. It computes no number. A kernel without a rule is a coded error and no guess.

import {
  ADAMW_STEP,
  CHANNEL_BIAS,
  CHANNEL_SUMS,
  DICE_CROSS_ENTROPY,
  GELU,
  GELU_GRADIENT,
  INSTANCE_NORM,
  INSTANCE_NORM_GRADIENT,
  LAYER_NORM,
  LAYER_NORM_GRADIENT,
  LAYER_NORM_SCALE_GRADIENT,
  RELU_GRADIENT,
  SCALED_SOFTMAX,
  SCALED_SOFTMAX_GRADIENT,
  SUM_SQUARES,
} from "../backend/fused-kernel.ts";
import { tf } from "../backend/tensors.ts";
import { convolutionOf, poolingOf } from "./convolution-sizes.ts";
import { EstimateError } from "./estimate-error.ts";
import {
  type Attributes,
  attribute,
  elementsOf,
  input,
  type KernelCall,
  type TensorForm,
} from "./kernel-call.ts";

type Inputs = KernelCall["inputs"];
type Rule = (inputs: Inputs, attributes: Attributes) => TensorForm[];

/** @throws EstimateError `estimate.unknown-kernel` */
export function kernelOutputs(kernel: string, inputs: Inputs, attributes: Attributes): TensorForm[] {
  const rule = Object.hasOwn(rules, kernel) ? rules[kernel] : undefined;
  if (!rule) throw new EstimateError("estimate.unknown-kernel", kernel);
  return rule(inputs, attributes);
}

/** Kernels whose result lies where their input does. */
export const SHARING_KERNELS: readonly string[] = ["Reshape", "Identity"];
/** Kernels that give a list even of one. */
export const LISTING_KERNELS: readonly string[] = ["SplitV", "Unpack"];

const first = (inputs: Inputs): TensorForm => {
  const [form] = Object.values(inputs);
  tf.util.assert(form !== undefined, () => "a kernel without input");
  return form as TensorForm; // Asserted above.
};
const same: Rule = (inputs) => [first(inputs)];
const float = (shape: readonly number[]): TensorForm => ({ shape, dtype: "float32" });

const broadcast =
  (dtype?: tf.DataType): Rule =>
  (inputs) => {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const shape = tf.broadcast_util.assertAndGetBroadcastShape([...a.shape], [...b.shape]);
    return [{ shape, dtype: dtype ?? a.dtype }];
  };

const reduced =
  (attributeName: string, dtype?: tf.DataType): Rule =>
  (inputs, attributes) => {
    const { shape, dtype: own } = first(inputs);
    const axes = tf.util.parseAxisParam(attribute(attributes, attributeName), [...shape]);
    const [kept] = tf.backend_util.computeOutAndReduceShapes([...shape], axes);
    const whole = attribute<boolean | undefined>(attributes, "keepDims") ?? false;
    return [{ shape: whole ? tf.backend_util.expandShapeToKeepDim(kept, axes) : kept, dtype: dtype ?? own }];
  };

function named(names: readonly string[], rule: Rule): Record<string, Rule> {
  return Object.fromEntries(names.map((name) => [name, rule]));
}

const elementwise: Record<string, Rule> = {
  ...named(
    ["Add", "Sub", "Multiply", "RealDiv", "Maximum", "Minimum", "Pow", "SquaredDifference"],
    broadcast(),
  ),
  ...named(
    ["Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd"],
    broadcast("bool"),
  ),
  ...named(["Abs", "Cos", "Erf", "Exp", "Log", "Log1p", "Neg", "Relu", "Rsqrt", "Sigmoid", "Sin"], same),
  ...named(["Sqrt", "Square", "Step", "Identity", "OnesLike", "ZerosLike", "Softmax", "Reverse"], same),
  AddN: same,
  Select: (inputs) => [input(inputs, "t")],
  Cast: (inputs, attributes) => [{ ...first(inputs), dtype: attribute(attributes, "dtype") }],
};

/** The attribute under which a reduction has its axes. */
export const REDUCTION_AXES: Readonly<Record<string, string>> = {
  ...{ Sum: "axis", Min: "axis", Mean: "axis", ArgMax: "axis" },
  Max: "reductionIndices",
};

const reductions: Record<string, Rule> = Object.fromEntries(
  Object.entries(REDUCTION_AXES).map(([kernel, axes]) => [
    kernel,
    reduced(axes, kernel === "ArgMax" ? "int32" : undefined),
  ]),
);

const arrangements: Record<string, Rule> = {
  Reshape: (inputs, attributes) => {
    const { dtype, ...form } = first(inputs);
    const shape = tf.util.inferFromImplicitShape(attribute<number[]>(attributes, "shape"), elementsOf(form));
    return [{ shape, dtype }];
  },
  Fill: (_, attributes) => [
    {
      shape: attribute(attributes, "shape"),
      dtype: attribute<tf.DataType | undefined>(attributes, "dtype") ?? "float32",
    },
  ],
  Slice: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    // One number stands for the first axis.
    const begin = [attribute<number | number[]>(attributes, "begin")].flat();
    const size = [attribute<number | number[]>(attributes, "size")].flat();
    return [{ shape: shape.map((whole, axis) => sliced(size[axis] ?? -1, whole, begin[axis] ?? 0)), dtype }];
  },
  StridedSlice: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const list = (name: string) => attribute<number[]>(attributes, name);
    const mask = (name: string) => attribute<number | undefined>(attributes, name) ?? 0;
    const { finalShape } = tf.slice_util.sliceInfo(
      [...shape],
      list("begin"),
      list("end"),
      list("strides"),
      mask("beginMask"),
      mask("endMask"),
      mask("ellipsisMask"),
      mask("newAxisMask"),
      mask("shrinkAxisMask"),
    );
    return [{ shape: finalShape, dtype }];
  },
  Concat: (inputs, attributes) => {
    const parts = Object.values(inputs);
    const axis = axisOf(attributes, first(inputs).shape);
    const shape = tf.backend_util.computeOutShape(
      parts.map((part) => [...part.shape]),
      axis,
    );
    return [{ shape, dtype: first(inputs).dtype }];
  },
  Pack: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const axis = attribute<number>(attributes, "axis");
    return [{ shape: shape.toSpliced(axis, 0, Object.keys(inputs).length), dtype }];
  },
  Unpack: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const axis = axisOf(attributes, shape);
    const part = { shape: shape.toSpliced(axis, 1), dtype };
    return Array.from({ length: shape[axis] ?? 0 }, () => part);
  },
  SplitV: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const axis = axisOf(attributes, shape);
    const wanted = attribute<number | number[]>(attributes, "numOrSizeSplits");
    return splitSizes(wanted, shape[axis] ?? 0).map((size) => ({ shape: shape.with(axis, size), dtype }));
  },
  Tile: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const reps = attribute<number[]>(attributes, "reps");
    return [{ shape: shape.map((size, axis) => size * (reps[axis] ?? 1)), dtype }];
  },
  Transpose: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    return [{ shape: attribute<number[]>(attributes, "perm").map((axis) => shape[axis] ?? 1), dtype }];
  },
  PadV2: (inputs, attributes) => {
    const { shape, dtype } = first(inputs);
    const paddings = attribute<[number, number][]>(attributes, "paddings");
    return [{ shape: shape.map((size, axis) => size + sum(paddings[axis] ?? [])), dtype }];
  },
  OneHot: (inputs, attributes) => [
    {
      shape: [...first(inputs).shape, attribute<number>(attributes, "depth")],
      dtype: attribute<tf.DataType | undefined>(attributes, "dtype") ?? "int32",
    },
  ],
  GatherV2: (inputs, attributes) => {
    const { shape, dtype } = input(inputs, "x");
    const axis = axisOf(attributes, shape);
    return [{ shape: shape.toSpliced(axis, 1, ...input(inputs, "indices").shape), dtype }];
  },
};

const images: Record<string, Rule> = {
  Conv2D: (inputs, attributes) => [
    float(convolutionOf(input(inputs, "x").shape, input(inputs, "filter").shape, attributes).outShape),
  ],
  Conv2DBackpropInput: (_, attributes) => [float(attribute(attributes, "inputShape"))],
  Conv2DBackpropFilter: (_, attributes) => [float(attribute(attributes, "filterShape"))],
  DepthwiseConv2dNative: (inputs, attributes) => [
    float(convolutionOf(input(inputs, "x").shape, input(inputs, "filter").shape, attributes, true).outShape),
  ],
  DepthwiseConv2dNativeBackpropInput: (_, attributes) => [float(attribute(attributes, "inputShape"))],
  DepthwiseConv2dNativeBackpropFilter: (_, attributes) => [float(attribute(attributes, "filterShape"))],
  MaxPool: (inputs, attributes) => [float(poolingOf(first(inputs).shape, attributes).outShape)],
  MaxPoolGrad: (inputs) => [input(inputs, "input")],
  ResizeNearestNeighbor: (inputs, attributes) => {
    const [batch = 1, , , channels = 1] = first(inputs).shape;
    return [float([batch, ...attribute<number[]>(attributes, "size"), channels])];
  },
  ResizeNearestNeighborGrad: (inputs) => [input(inputs, "images")],
  BatchMatMul: (inputs, attributes) => {
    const [a, b] = [input(inputs, "a").shape, input(inputs, "b").shape];
    const outer = tf.broadcast_util.assertAndGetBroadcastShape(a.slice(0, -2), b.slice(0, -2));
    const rows = a.at(attribute<boolean>(attributes, "transposeA") ? -1 : -2) ?? 1;
    const columns = b.at(attribute<boolean>(attributes, "transposeB") ? -2 : -1) ?? 1;
    return [float([...outer, rows, columns])];
  },
};

const ownKernels: Record<string, Rule> = {
  [INSTANCE_NORM]: (inputs) => {
    const x = input(inputs, "x");
    const rows = float([x.shape[0] ?? 1, x.shape.at(-1) ?? 1]);
    return [x, rows, rows];
  },
  [INSTANCE_NORM_GRADIENT]: (inputs) => [input(inputs, "x"), input(inputs, "gamma"), input(inputs, "beta")],
  [CHANNEL_BIAS]: (inputs) => [input(inputs, "x")],
  [GELU]: (inputs) => [input(inputs, "x")],
  [GELU_GRADIENT]: (inputs) => [input(inputs, "x")],
  [RELU_GRADIENT]: (inputs) => [input(inputs, "y")],
  [LAYER_NORM]: (inputs) => {
    const x = input(inputs, "x");
    const rows = float([elementsOf(x) / (x.shape.at(-1) ?? 1)]);
    return [x, rows, rows];
  },
  [LAYER_NORM_GRADIENT]: (inputs) => [input(inputs, "x")],
  [LAYER_NORM_SCALE_GRADIENT]: (inputs) => [float([input(inputs, "x").shape.at(-1) ?? 1])],
  [SCALED_SOFTMAX]: (inputs) => [input(inputs, "x")],
  [SCALED_SOFTMAX_GRADIENT]: (inputs) => [input(inputs, "y")],
  [CHANNEL_SUMS]: (inputs) => [float([first(inputs).shape.at(-1) ?? 1])],
  [ADAMW_STEP]: (inputs) => [input(inputs, "value"), input(inputs, "first"), input(inputs, "second")],
  [SUM_SQUARES]: () => [float([])],
  [DICE_CROSS_ENTROPY]: (inputs) => [float([]), input(inputs, "logits")],
};

const rules: Record<string, Rule> = {
  ...elementwise,
  ...reductions,
  ...arrangements,
  ...images,
  ...ownKernels,
};

function axisOf(attributes: Attributes, shape: readonly number[]): number {
  return tf.util.parseAxisParam(attribute<number>(attributes, "axis"), [...shape])[0] ?? 0;
}

/** Minus one takes everything from the start on. */
function sliced(size: number, whole: number, begin: number): number {
  return size < 0 ? whole - begin : size;
}

/** Of a list, one entry may be open. */
function splitSizes(wanted: number | readonly number[], whole: number): number[] {
  if (typeof wanted === "number") return Array.from({ length: wanted }, () => whole / wanted);
  const known = sum(wanted.filter((size) => size >= 0));
  return wanted.map((size) => (size < 0 ? whole - known : size));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
