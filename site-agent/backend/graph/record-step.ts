// Records one ordinary eager computation of tfjs-node as a TensorFlow graph. tfjs-node already sends TensorFlow's own
// operations and attributes to its addon: they are noted on their way. The graph reads what was declared as input and
// what the computation itself made of constants; anything else that it touches ends the recording.

import { createHash } from "node:crypto";
import { tf } from "../tensors.ts";
import { type ProductFormat, RecordingError } from "./compiled-graph.ts";
import {
  type AttributeValue,
  type ConstantTensor,
  DATA_TYPES,
  type GraphRuns,
  GraphWriter,
} from "./graph-writer.ts";
import {
  isStillInJavaScript,
  type NativeAttribute,
  type NativeBackend,
  type NativeBinding,
} from "./native-backend.ts";

export type RecordedStep = {
  readonly savedModel: Uint8Array;
  /** Names in the graph, under the names in the computation. */
  readonly inputs: ReadonlyMap<string, string>;
  readonly outputs: ReadonlyMap<string, string>;
  /** Names in the graph of what is read without a name, in its order. */
  readonly read: readonly string[];
  readonly runs: GraphRuns;
  readonly nodeCount: number;
  readonly format: ProductFormat;
};

/** Of TensorFlow's operations, those that multiply matrices. */
const PRODUCTS = ["MatMul", "BatchMatMul", "BatchMatMulV2"];

/** A constant of so many equal numbers is filled when it is needed, and has no place in the graph. */
const FILLED_NUMBERS_MIN = 1024;

/** Together every tensor that the computation reads and did not make itself. */
export type Recordable = {
  readonly inputs: tf.NamedTensorMap;
  readonly read?: readonly tf.Tensor[];
  /** Names of those that the second half alone has. */
  readonly later?: readonly string[];
  /** Of products in the graph; the recording itself is carried out as it is. */
  readonly format?: ProductFormat;
};

/**
 * @returns what the computation gave, and its graph
 * @throws RecordingError where it reads another tensor, or reads numbers back on the way
 */
export function recordStep<Outputs extends tf.NamedTensorMap>(
  backend: NativeBackend,
  { inputs, read = [], later = [], format = "float32" }: Recordable,
  compute: () => Outputs,
): { readonly outputs: Outputs; readonly recorded: RecordedStep } {
  const graph = new GraphWriter();
  const names = new Map<number, string>();
  const inputNames = new Map<string, string>();
  const placeholder = (tensor: tf.Tensor): string => {
    const type = DATA_TYPES[tensor.dtype as keyof typeof DATA_TYPES]; // Every tensor's type is one of them or bool.
    const output = graph.placeholder(type, tensor.shape);
    names.set(idOf(backend, tensor), output);
    return output;
  };
  for (const [name, tensor] of Object.entries(inputs)) inputNames.set(name, placeholder(tensor));
  const readNames = read.map(placeholder);
  const outputs = whileRecording(backend, { graph, names, format }, compute);
  const outputNames = new Map(
    Object.entries(outputs).map(([name, tensor]) => [name, nameOf(idOf(backend, tensor), names, name)]),
  );
  const recorded = {
    ...{ savedModel: graph.savedModel(), inputs: inputNames, read: readNames, outputs: outputNames },
    runs: graph.runs(
      later.flatMap((name) => inputNames.get(name) ?? []),
      [...outputNames.values()],
    ),
    ...{ nodeCount: graph.nodeCount, format },
  };
  return { outputs, recorded };
}

type Recording = {
  readonly graph: GraphWriter;
  readonly names: Map<number, string>;
  readonly format: ProductFormat;
};

/** The addon, and what is called on it, are replaced for as long as the computation runs. */
function whileRecording<T>(backend: NativeBackend, recording: Recording, compute: () => T): T {
  const { binding, move, getInputTensorIds } = backend;
  const written = new WeakSet<object>();
  const replaced = {
    binding: recordingBinding(binding, recording),
    move(dataId: object, ...rest: unknown[]) {
      written.add(dataId);
      return (move as (...all: unknown[]) => void).call(backend, dataId, ...rest); // As it was called.
    },
    // What was made in JavaScript before and never used would look like a constant once it is uploaded.
    getInputTensorIds(tensors: readonly tf.Tensor[]) {
      for (const { dataId } of tensors) {
        const isWaiting = dataId !== undefined && isStillInJavaScript(backend, dataId);
        if (isWaiting && !written.has(dataId))
          throw new RecordingError("the computation reads a tensor that is no declared input");
      }
      return getInputTensorIds.call(backend, tensors);
    },
  };
  Object.assign(backend, replaced);
  try {
    return compute();
  } finally {
    // The methods are the prototype's.
    for (const name of ["move", "getInputTensorIds"]) Reflect.deleteProperty(backend, name);
    backend.binding = binding;
  }
}

function recordingBinding(binding: NativeBinding, { graph, names, format }: Recording): NativeBinding {
  const constants = new Map<string, string>();
  const constantOf = (shape: readonly number[], type: number, values: ArrayLike<number>): string => {
    const bytes = bytesOf(type, values);
    // A table that every layer makes anew would be kept as often, by each of TensorFlow's copies of the graph.
    const key = `${type} [${shape}] ${createHash("sha256").update(bytes).digest("base64")}`;
    const name = constants.get(key) ?? constantNode(graph, { type, shape, bytes });
    constants.set(key, name);
    return name;
  };
  const changed: Pick<NativeBinding, "createTensor" | "executeOp" | "tensorDataSync"> = {
    createTensor(shape, type, values) {
      const id = binding.createTensor(shape, type, values);
      names.set(id, constantOf(shape, type, values));
      return id;
    },
    executeOp(operation, attributes, inputs, outputCount) {
      const inputNames = inputs.map((id) => nameOf(id, names, operation));
      const own = attributes.map(
        (attribute) => [attribute.name, attributeOf(binding, attribute, operation)] as const,
      );
      const outputs = binding.executeOp(operation, attributes, inputs, outputCount);
      const isNarrow = format === "bfloat16" && PRODUCTS.includes(operation);
      const node = isNarrow
        ? graph.narrowProduct(operation, inputNames, Object.fromEntries(own))
        : graph.node(operation, inputNames, Object.fromEntries(own));
      outputs.forEach(({ id }, index) => {
        names.set(id, `${node}:${index}`);
      });
      return outputs;
    },
    tensorDataSync() {
      throw new RecordingError("the computation reads numbers back, which a graph cannot");
    },
  };
  // The addon's functions cannot be assigned to; everything else is its own.
  return Object.create(binding, Object.getOwnPropertyDescriptors(changed)) as NativeBinding;
}

/** @returns its output's name */
function constantNode(graph: GraphWriter, constant: ConstantTensor): string {
  const { type, shape, bytes } = constant;
  const count = tf.util.sizeFromShape([...shape]);
  const one = bytes.subarray(0, bytes.length / count);
  if (count < FILLED_NUMBERS_MIN || !isRepeated(bytes, one.length)) return graph.constant(constant);
  const { int32 } = DATA_TYPES;
  const sizes = { type: int32, shape: [shape.length], bytes: bytesOf(int32, shape) };
  const attributes = {
    T: { kind: "type", value: type },
    index_type: { kind: "type", value: int32 },
  } as const;
  const inputs = [graph.constant(sizes), graph.constant({ type, shape: [], bytes: one })];
  return `${graph.node("Fill", inputs, attributes)}:0`;
}

function isRepeated(bytes: Uint8Array, period: number): boolean {
  return bytes.every((byte, index) => byte === bytes[index % period]);
}

function nameOf(id: number, names: ReadonlyMap<number, string>, reader: string): string {
  const name = names.get(id);
  if (name === undefined)
    throw new RecordingError(`${reader} reads a tensor that is no declared input of the computation`);
  return name;
}

function idOf(backend: NativeBackend, tensor: tf.Tensor): number {
  const [id] = backend.getInputTensorIds([tensor]);
  tf.util.assert(id !== undefined, () => "a tensor has a number");
  return id as number; // Asserted above.
}

function attributeOf(
  binding: NativeBinding,
  { name, type, value }: NativeAttribute,
  operation: string,
): AttributeValue {
  const numbers = value as number | readonly number[]; // As the addon takes them.
  switch (type) {
    case binding.TF_ATTR_STRING:
      return { kind: "text", value: String(value) };
    case binding.TF_ATTR_INT:
      return { kind: "integer", value: numbers };
    case binding.TF_ATTR_FLOAT:
      return { kind: "float", value: numbers };
    case binding.TF_ATTR_BOOL:
      return { kind: "boolean", value: value === true || value === 1 };
    case binding.TF_ATTR_TYPE:
      return { kind: "type", value: numbers };
    case binding.TF_ATTR_SHAPE:
      return { kind: "shape", value: value as readonly number[] }; // As above.
    default:
      throw new RecordingError(`attribute ${name} of ${operation} is of a kind that is not known`);
  }
}

function bytesOf(type: number, values: ArrayLike<number>): Uint8Array {
  const typed = typedValues(type, values);
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

function typedValues(type: number, values: ArrayLike<number>): Float32Array | Int32Array | Uint8Array {
  switch (type) {
    case DATA_TYPES.float32:
      return Float32Array.from(values);
    case DATA_TYPES.int32:
      return Int32Array.from(values);
    case DATA_TYPES.bool:
      return Uint8Array.from(values);
    case DATA_TYPES.int64:
      // tfjs-node hands over 64-bit numbers as pairs of 32-bit ones.
      return Int32Array.from(values);
    default:
      throw new RecordingError(`a constant has the data type ${type}, which is not known`);
  }
}
