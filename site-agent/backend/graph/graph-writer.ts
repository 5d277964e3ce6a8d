// A TensorFlow graph as a SavedModel in bytes: nodes with typed attributes, in the order in which they were made. The field
// numbers are those of tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape,types}.proto and
// core/protobuf/{saved_model,meta_graph}.proto.

import { ProtobufWriter } from "./protobuf-writer.ts";

/** DataType of TensorFlow, as the addon numbers it too. */
export const DATA_TYPES = {
  float32: 1,
  int32: 3,
  string: 7,
  complex64: 8,
  int64: 9,
  bool: 10,
  bfloat16: 14,
} as const;

export type AttributeValue =
  | { readonly kind: "text"; readonly value: string }
  | { readonly kind: "integer"; readonly value: number | readonly number[] }
  | { readonly kind: "float"; readonly value: number | readonly number[] }
  | { readonly kind: "boolean"; readonly value: boolean }
  | { readonly kind: "type"; readonly value: number | readonly number[] }
  | { readonly kind: "shape"; readonly value: readonly number[] }
  | { readonly kind: "tensor"; readonly value: ConstantTensor };

export type ConstantTensor = {
  /** A DataType. */
  readonly type: number;
  readonly shape: readonly number[];
  /** Row-major and little-endian. */
  readonly bytes: Uint8Array;
};

export type Attributes = Readonly<Record<string, AttributeValue>>;

/** The tag under which a SavedModel is loaded. */
export const SAVED_MODEL_TAG = "serve";
/** The version of graphs as which TensorFlow reads this one, and the oldest reader that it allows. */
const PRODUCER_VERSION = 1087;
const CONSUMER_MIN_VERSION = 12;
const SAVED_MODEL_SCHEMA_VERSION = 1;

/** Outputs of nodes. TensorFlow computes what they need and nothing else. */
export type GraphRun = {
  /** Placeholders that the outputs depend on. */
  readonly inputs: readonly string[];
  /** What was computed before, and is given as well. */
  readonly known: readonly string[];
  readonly outputs: readonly string[];
};

export type GraphRuns = {
  readonly whole: GraphRun;
  /** What does not depend on later placeholders: outputs, and behind them what the second half reads of the first. */
  readonly first: GraphRun;
  readonly second: GraphRun;
};

/** Operations whose values need not be kept: a call brings them, or the graph holds them. */
const PLACEHOLDER = "Placeholder";
const GIVEN = [PLACEHOLDER, "Const"];

type Wired = { readonly name: string; readonly operation: string; readonly inputs: readonly string[] };

export class GraphWriter {
  readonly #nodes: ProtobufWriter[] = [];
  readonly #wiring: Wired[] = [];
  /** Outputs as bfloat16, and back: no half can be given one, since no tensor of tfjs has that type. */
  readonly #narrowOf = new Map<string, string>();
  readonly #wideOf = new Map<string, string>();

  get nodeCount(): number {
    return this.#nodes.length;
  }

  /** @returns the node's name; its outputs are `name:0`, `name:1`, ... */
  node(operation: string, inputs: readonly string[], attributes: Attributes): string {
    const name = `${operation}_${this.#nodes.length}`;
    const node = new ProtobufWriter().text(1, name).text(2, operation);
    for (const input of inputs) node.text(3, input);
    for (const [key, value] of Object.entries(attributes)) node.entry(5, key, attributeValue(value));
    this.#nodes.push(node);
    this.#wiring.push({ name, operation, inputs });
    return name;
  }

  /**
   * A product of float32 matrices that are rounded to bfloat16 before.
   * @returns the name of the node that gives it as float32
   */
  narrowProduct(operation: string, inputs: readonly string[], attributes: Attributes): string {
    const { bfloat16, float32 } = DATA_TYPES;
    const rounded = inputs.map((input) => {
      const known = this.#narrowOf.get(input) ?? `${this.#cast(input, float32, bfloat16)}:0`;
      this.#narrowOf.set(input, known);
      this.#wideOf.set(known, input);
      return known;
    });
    const product = this.node(operation, rounded, { ...attributes, T: { kind: "type", value: bfloat16 } });
    return this.#cast(`${product}:0`, bfloat16, float32);
  }

  #cast(input: string, from: number, to: number): string {
    return this.node("Cast", [input], {
      SrcT: { kind: "type", value: from },
      DstT: { kind: "type", value: to },
      Truncate: { kind: "boolean", value: false },
    });
  }

  /**
   * How the graph is run: at once, or as two halves, which are what can be computed without some of the placeholders, and
   * the rest.
   * @param later   outputs of the placeholders that the second half alone has
   * @param outputs of the whole graph
   */
  runs(later: readonly string[], outputs: readonly string[]): GraphRuns {
    const isLater = new Set(later.map(nodeOf));
    for (const { name, inputs } of this.#wiring) {
      if (inputs.some((input) => isLater.has(nodeOf(input)))) isLater.add(name);
    }
    const second = outputs.filter((output) => isLater.has(nodeOf(output)));
    const isGiven = new Set(
      this.#wiring.filter(({ operation }) => GIVEN.includes(operation)).map(({ name }) => name),
    );
    const crossing = new Set<string>();
    for (const { name, inputs } of this.#needed(second)) {
      if (!isLater.has(name)) continue;
      for (const input of inputs) {
        const kept = this.#wideOf.get(input) ?? input;
        if (!isLater.has(nodeOf(input)) && !isGiven.has(nodeOf(kept))) crossing.add(kept);
      }
    }
    const first = outputs.filter((output) => !second.includes(output));
    return {
      whole: this.#run(outputs, []),
      first: this.#run([...first, ...crossing], []),
      second: this.#run(second, [...crossing]),
    };
  }

  #run(outputs: readonly string[], known: readonly string[]): GraphRun {
    const placeholders = this.#needed(outputs, known).filter(({ operation }) => operation === PLACEHOLDER);
    return { inputs: placeholders.map(({ name }) => `${name}:0`).toReversed(), known, outputs };
  }

  /** Nodes that lead to the outputs from what is known, the last ones first. */
  #needed(outputs: readonly string[], known: readonly string[] = []): Wired[] {
    const isKnown = new Set(known);
    const wanted = new Set(outputs.map(nodeOf));
    const found: Wired[] = [];
    for (const node of this.#wiring.toReversed()) {
      if (!wanted.has(node.name)) continue;
      found.push(node);
      for (const input of node.inputs) if (!isKnown.has(input)) wanted.add(nodeOf(input));
    }
    return found;
  }

  /** A tensor that every call brings. @returns its output's name */
  placeholder(type: number, shape: readonly number[]): string {
    return `${this.node(PLACEHOLDER, [], { dtype: { kind: "type", value: type }, shape: { kind: "shape", value: shape } })}:0`;
  }

  /** @returns its output's name */
  constant(tensor: ConstantTensor): string {
    return `${this.node("Const", [], { dtype: { kind: "type", value: tensor.type }, value: { kind: "tensor", value: tensor } })}:0`;
  }

  /** saved_model.pb of a graph without variables and without signatures: inputs and outputs are asked for by name. */
  savedModel(): Uint8Array {
    const versions = new ProtobufWriter().integer(1, PRODUCER_VERSION).integer(2, CONSUMER_MIN_VERSION);
    const graph = new ProtobufWriter();
    for (const node of this.#nodes) graph.message(1, node);
    graph.message(4, versions);
    const meta = new ProtobufWriter()
      .message(1, new ProtobufWriter().text(4, SAVED_MODEL_TAG))
      .message(2, graph);
    return new ProtobufWriter().integer(1, SAVED_MODEL_SCHEMA_VERSION).message(2, meta).finish();
  }
}

/** Of an output's name. */
function nodeOf(output: string): string {
  return output.replace(/:[0-9]+$/, "");
}

function attributeValue(attribute: AttributeValue): ProtobufWriter {
  const writer = new ProtobufWriter();
  switch (attribute.kind) {
    case "text":
      return writer.text(2, attribute.value);
    case "boolean":
      return writer.boolean(5, attribute.value);
    case "shape":
      return writer.message(7, shapeMessage(attribute.value));
    case "tensor": {
      const { type, shape, bytes } = attribute.value;
      const tensor = new ProtobufWriter().integer(1, type).message(2, shapeMessage(shape)).bytes(4, bytes);
      return writer.message(8, tensor);
    }
    default:
      return numbers(writer, attribute);
  }
}

type NumberAttribute = Extract<AttributeValue, { readonly kind: "integer" | "float" | "type" }>;

/** Fields of AttrValue, and the same ones of its ListValue. */
const NUMBER_FIELDS = { integer: 3, float: 4, type: 6 } as const;

/** One number, or a list of them. */
function numbers(writer: ProtobufWriter, { kind, value }: NumberAttribute): ProtobufWriter {
  const field = NUMBER_FIELDS[kind];
  const put = (target: ProtobufWriter, number: number): ProtobufWriter =>
    kind === "float" ? target.float(field, number) : target.integer(field, number);
  if (typeof value === "number") return put(writer, value);
  const list = new ProtobufWriter();
  for (const number of value) put(list, number);
  return writer.message(1, list);
}

function shapeMessage(shape: readonly number[]): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const size of shape) writer.message(2, new ProtobufWriter().integer(1, size));
  return writer;
}
