import t from "tap";
import type { tf } from "../tensors.ts";
import { DATA_TYPES } from "./graph-writer.ts";
import type { NativeBackend } from "./native-backend.ts";
import { recordStep } from "./record-step.ts";

type FakeTensor = { readonly dataId: object; readonly dtype: "float32"; readonly shape: number[] };

/** As much of tfjs-node as recording touches. */
function fakeBackend() {
  const tensorMap = new Map<object, { values: number[] | null; id: number }>();
  let ids = 0;
  const binding = {
    ...{
      TF_ATTR_STRING: 0,
      TF_ATTR_INT: 1,
      TF_ATTR_FLOAT: 2,
      TF_ATTR_BOOL: 3,
      TF_ATTR_TYPE: 4,
      TF_ATTR_SHAPE: 5,
    },
    createTensor: (..._: unknown[]) => ++ids,
    executeOp: (..._: unknown[]) => [{ id: ++ids, shape: [1], dtype: 1 }],
    tensorDataSync: () => new Float32Array(1),
  };
  class Fake {
    binding = binding;
    readonly tensorMap = tensorMap;
    move(dataId: object, values: number[]): void {
      tensorMap.set(dataId, { values, id: -1 });
    }
    getInputTensorIds(tensors: readonly FakeTensor[]): number[] {
      return tensors.map(({ dataId }) => {
        const found = tensorMap.get(dataId);
        if (!found) throw new Error("an unknown tensor");
        if (found.values)
          Object.assign(found, {
            id: this.binding.createTensor([found.values.length], DATA_TYPES.float32, found.values),
            values: null,
          });
        return found.id;
      });
    }
  }
  const fake = new Fake();
  return {
    backend: fake as unknown as NativeBackend, // What recording uses of it.
    fake,
    /** A tensor that lies in JavaScript. */
    made: (values = [1]): FakeTensor => {
      const dataId = {};
      fake.move(dataId, values);
      return { dataId, dtype: "float32", shape: [values.length] };
    },
    /** The result of an operation, as a tensor. */
    run: (operation: string, inputs: FakeTensor[], attributes: unknown[] = []): FakeTensor => {
      const [output] = fake.binding.executeOp(operation, attributes, fake.getInputTensorIds(inputs), 1);
      const dataId = {};
      tensorMap.set(dataId, { values: null, id: output?.id ?? -1 });
      return { dataId, dtype: "float32", shape: [1] };
    },
  };
}

const named = (tensors: Record<string, FakeTensor>): tf.NamedTensorMap =>
  tensors as unknown as tf.NamedTensorMap;

t.test("a recording reads what was declared and what it made itself", (t) => {
  const { backend, fake, made, run } = fakeBackend();
  const x = made();
  const real = fake.binding;
  const { recorded } = recordStep(backend, { inputs: named({ x }) }, () =>
    named({ y: run("Add", [x, made()]) }),
  );
  t.equal(recorded.nodeCount, 3, "a placeholder, a constant and a sum");
  t.strictSame([...recorded.inputs], [["x", "Placeholder_0:0"]]);
  t.strictSame([...recorded.outputs], [["y", "Add_2:0"]]);
  t.equal(fake.binding, real, "the addon is itself again");
  t.notOk(Object.hasOwn(fake, "move") || Object.hasOwn(fake, "getInputTensorIds"));
  const shared = recordStep(backend, { inputs: named({ x }) }, () =>
    named({ y: run("Add", [run("Mul", [x, made()]), made()]) }),
  );
  t.equal(shared.recorded.nodeCount, 4, "equal constants are one");
  t.end();
});

t.test("a large constant is in the graph once, and of equal numbers only what it is filled with", (t) => {
  const [table, other] = [1, 2].map((first) => Array.from({ length: 4096 }, (_, index) => first + index));
  const graphOf = (...constants: (number[] | undefined)[]) => {
    const { backend, made, run } = fakeBackend();
    const x = made();
    const compute = (): tf.NamedTensorMap =>
      named({ y: constants.reduce((sum, values) => run("Add", [sum, made(values)]), x) });
    const { savedModel, nodeCount } = recordStep(backend, { inputs: named({ x }) }, compute).recorded;
    return { byteLength: savedModel.length, nodeCount };
  };
  const [once, twice] = [graphOf(table), graphOf(table, table)];
  t.equal(twice.nodeCount, once.nodeCount + 1, "only the second sum");
  t.ok(twice.byteLength < once.byteLength + 1024);
  t.ok(graphOf(table, other).byteLength > once.byteLength + 4 * 4096);
  const filled = graphOf(Array.from({ length: 4096 }, () => 1));
  t.equal(filled.nodeCount, 5, "a placeholder, a size, a number, what fills with it, and the sum");
  t.ok(filled.byteLength < 1024);
  t.ok(graphOf(Array.from({ length: 1024 }, (_, index) => (index < 1023 ? 0 : -0))).byteLength > 4096);
  t.end();
});

t.test("a recording ends where it reads anything else", (t) => {
  const refused = (compute: (of: ReturnType<typeof fakeBackend>, x: FakeTensor) => FakeTensor) => {
    const of = fakeBackend();
    const x = of.made();
    const real = of.fake.binding;
    try {
      recordStep(of.backend, { inputs: named({ x }) }, () => named({ y: compute(of, x) }));
      return "recorded";
    } catch (error) {
      t.equal(of.fake.binding, real, "the addon is itself again");
      return (error as Error).message;
    }
  };
  const mystery = [{ name: "mystery", type: 99, value: 1 }];
  t.match(
    refused((of, x) => of.run("Add", [x, x], mystery)),
    /attribute mystery of Add/,
  );
  t.match(
    refused((of, x) => {
      of.fake.binding.tensorDataSync();
      return x;
    }),
    /reads numbers back/,
  );
  const uploaded = (of: ReturnType<typeof fakeBackend>): FakeTensor => {
    const tensor: FakeTensor = { dataId: {}, dtype: "float32", shape: [1] };
    of.fake.tensorMap.set(tensor.dataId, { values: null, id: 1000 });
    return tensor;
  };
  t.match(
    refused((of, x) => of.run("Add", [x, uploaded(of)])),
    /Add reads a tensor that is no declared input/,
  );
  const neverUsed = (of: ReturnType<typeof fakeBackend>): FakeTensor => {
    const tensor: FakeTensor = { dataId: {}, dtype: "float32", shape: [1] };
    of.fake.tensorMap.set(tensor.dataId, { values: [1], id: -1 });
    return tensor;
  };
  t.match(
    refused((of, x) => of.run("Add", [x, neverUsed(of)])),
    /no declared input/,
    "nor one that waits in JavaScript",
  );
  t.match(
    refused((of) => uploaded(of)),
    /y reads a tensor/,
    "nor gives one back",
  );
  t.end();
});
