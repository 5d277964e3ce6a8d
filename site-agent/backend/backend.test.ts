import t from "tap";
import { BackendError } from "./backend-error.ts";
import {
  type BackendName,
  type BackendReport,
  describeBackend,
  type ProbeFailure,
} from "./backend-report.ts";
import { chooseBackend, probeInChild } from "./choose-backend.ts";
import { runSelfTest } from "./self-test.ts";
import { expectShape } from "./shape.ts";
import { loadBackendPackage, tf } from "./tensors.ts";
import { installTrainingKernels } from "./wasm-kernels/install.ts";

function report(name: BackendName, failures: string[] = []): BackendReport {
  const selfTest = { passed: failures.length === 0, failures };
  return { name, version: "4.22.0", devices: ["processor (2 logical)"], isGpu: false, selfTest };
}

t.test("the self-test finds what the stock wasm backend lacks and computes wrongly", async (t) => {
  await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  const stock = await runSelfTest();
  t.notOk(stock.passed);
  t.match(stock.failures, [
    /^filter gradient of conv2d: .*Conv2DBackpropFilter/,
    "gradient of maxPool over negative numbers",
  ]);
  installTrainingKernels();
  const before = tf.memory().numTensors;
  t.strictSame(await runSelfTest(), { passed: true, failures: [] });
  await tf.setBackend("cpu");
  t.strictSame(await runSelfTest(), { passed: true, failures: [] });
  t.equal(tf.memory().numTensors, before);
  await tf.setBackend("wasm");
});

t.test(
  "the first backend that starts and computes rightly is taken, and the others' reasons are kept",
  async (t) => {
    const asked: BackendName[] = [];
    const answers: Partial<Record<BackendName, BackendReport | ProbeFailure>> = {
      "tfjs-node-gpu": { unusable: "its package is not installed" },
      "tfjs-node": report("tfjs-node", ["matMul"]),
      webgpu: report("webgpu"), // On a software adapter: no GPU.
      wasm: report("wasm"),
    };
    const probe = async (name: BackendName) => {
      asked.push(name);
      return answers[name] ?? { unusable: "unknown" };
    };
    const { backend, passedOver } = await chooseBackend({ probe });
    t.equal(backend.name, "wasm");
    t.strictSame(asked, ["tfjs-node-gpu", "tfjs-node", "webgpu", "wasm"]);
    t.strictSame(passedOver, [
      { name: "tfjs-node-gpu", reason: "its package is not installed" },
      { name: "tfjs-node", reason: "wrong results for matMul" },
      { name: "webgpu", reason: "it offers a software adapter only" },
    ]);
    t.match(describeBackend(backend), /^NO GPU IS USED/);
    t.match(
      describeBackend({ ...backend, isGpu: true, devices: ["H200"] }),
      /^Training on the GPU: .* on H200/,
    );
  },
);

t.test(
  "the build for CUDA is passed over where it lists no GPU, unless it is asked for by name",
  async (t) => {
    const probe = async (name: BackendName) => (name === "tfjs-node" ? { unusable: "absent" } : report(name));
    const { backend, passedOver } = await chooseBackend({ probe });
    t.equal(backend.name, "wasm");
    t.strictSame(passedOver[0], { name: "tfjs-node-gpu", reason: "it lists no GPU" });
    const requested: BackendName = "tfjs-node-gpu";
    const wrong = async () => report(requested, ["matMul"]);
    await t.rejects(chooseBackend({ requested, probe: wrong }), { message: /wrong results for matMul/ });
    await tf.setBackend("wasm");
  },
);

t.test("pure JavaScript trains only when it is asked for by name", async (t) => {
  const probe = async (name: BackendName) => (name === "cpu" ? report("cpu") : { unusable: "absent" });
  await t.rejects(chooseBackend({ probe }), {
    name: "BackendError",
    code: "backend.none-usable",
    message: /wasm: absent/,
  });
  const { backend } = await chooseBackend({ requested: "cpu", probe });
  t.equal(backend.name, "cpu");
  await tf.setBackend("wasm");
});

t.test("a backend is tried in a process of its own", async (t) => {
  const answer = await probeInChild("wasm");
  t.match(answer, { name: "wasm", version: /^4\.22\.0/, isGpu: false, selfTest: { passed: true } });
});

t.test(
  "a native library that ends the process, hangs or talks nonsense does not harm the agent",
  async (t) => {
    const folder = t.testdir({
      "abort.ts": "process.abort();",
      "hang.ts": "setInterval(() => {}, 1000);",
      "nonsense.ts": 'process.send?.({ name: "wasm", isGpu: "very" }); process.disconnect();',
    });
    const probe = (file: string, timeLimitMs = 60_000) =>
      probeInChild("wasm", { timeLimitMs, program: `${folder}/${file}` });
    t.strictSame(await probe("abort.ts"), { unusable: "its process ended without an answer" });
    t.strictSame(await probe("hang.ts", 10), { unusable: "it did not start within 0.01 seconds" });
    t.strictSame(await probe("nonsense.ts"), { unusable: "its answer was not understood" });
    t.strictSame(await probe("absent.ts"), { unusable: "its process ended without an answer" });
  },
);

t.test("a backend without its package is passed over by name", async (t) => {
  const answer = await probeInChild("tfjs-node-gpu");
  if (!("unusable" in answer)) {
    t.pass("absent package", { skip: "@tensorflow/tfjs-node-gpu is installed here" });
    return;
  }
  t.match(answer.unusable, /not installed|native addon module/);
});

t.test("a shape that is not what a layer expects stops the program and shows both", async (t) => {
  t.strictSame(expectShape({ shape: [2, 8, 8, 3] }, ["B", "N", "N", 3]), { B: 2, N: 8 });
  t.throws(() => expectShape({ shape: [2, 8, 9, 3] }, ["B", "N", "N", 3]), {
    message: "expected shape [B, N, N, 3], found [2, 8, 9, 3]",
  });
  t.throws(() => expectShape({ shape: [2, 8] }, ["B", "N", "C"]));
  t.throws(() => expectShape({ shape: [2, 8, 1] }, ["B", "N"]));
});

t.test("a full heap is an error with a code, never a tensor over another", async (t) => {
  await tf.setBackend("wasm");
  const { heap } = installTrainingKernels();
  const kept = tf.fill([256, 256], 7);
  const normal = heap.budgetBytes;
  heap.budgetBytes = heap.usedBytes + 100_000;
  t.throws(() => tf.zeros([256, 256]).dataSync(), {
    code: "backend.out-of-memory",
    message: /smaller batch/,
  });
  t.throws(() => tf.matMul(kept as tf.Tensor2D, kept as tf.Tensor2D), BackendError); // Two axes.
  heap.budgetBytes = normal;
  t.ok(
    kept.dataSync().every((value) => value === 7),
    "what was there is unharmed",
  );
  const product = tf.matMul(kept as tf.Tensor2D, kept as tf.Tensor2D); // As above.
  t.equal(product.dataSync()[0], 7 * 7 * 256, "and computing goes on");
  tf.dispose([kept, product]);
});
