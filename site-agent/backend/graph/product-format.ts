// The format of numbers in which graphs multiply matrices. bfloat16 has the range of float32 and 8 of its 24 bits of
// precision; only what is multiplied is rounded, and every sum and everything else stays float32. Some processors and
// GPUs do it at twice the rate and more. It is used where it was asked for, and where a trial finds it right and faster.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../tensors.ts";
import { PRODUCT_FORMATS, type ProductFormat } from "./compiled-graph.ts";
import { GraphSession } from "./graph-session.ts";
import { largestError } from "./largest-error.ts";
import { type NativeBackend, nativeBackend } from "./native-backend.ts";
import { recordStep } from "./record-step.ts";

export type FormatTrial =
  | { readonly isUsed: true; readonly error: number; readonly gain: number }
  | { readonly isUsed: false; readonly reason: string };

/** Rows, inner size and columns of the product that is tried: as of a linear layer of SAM 2. */
const TRIED = [1024, 768, 1024] as const;
const RUNS = 7;
/** Relative L2 error of a product; rounding both sides to 8 bits gives some 2e-3. */
const ERROR_MAX = 1e-2;
/** What it must be worth. */
const GAIN_MIN = 1.1;

const narrowed = new WeakSet<NativeBackend>();

export function productFormat(backend: NativeBackend): ProductFormat {
  return narrowed.has(backend) ? "bfloat16" : "float32";
}

/** From here on graphs of the running backend multiply in bfloat16, if that is right and faster on this machine. */
export function tryBfloat16(): FormatTrial {
  const backend = nativeBackend();
  if (!backend) return { isUsed: false, reason: "only TensorFlow has them" };
  const trial = tf.tidy(() => tried(backend));
  if (trial.isUsed) narrowed.add(backend);
  return trial;
}

/** What it makes belongs to the scope around it. */
function tried(backend: NativeBackend): FormatTrial {
  const [rows, inner, columns] = TRIED;
  const inputs = {
    a: tf.randomNormal([rows, inner], 0, 1, "float32", 1),
    b: tf.randomNormal([inner, columns], 0, 1, "float32", 2),
  };
  try {
    const [wide, narrow] = PRODUCT_FORMATS.map((format) => productOf(backend, inputs, format));
    const [exact, rounded] = [expectDefined(wide, "float32"), expectDefined(narrow, "bfloat16")];
    const error = largestError({ product: exact.product }, { product: rounded.product });
    if (!(error <= ERROR_MAX))
      return { isUsed: false, reason: `their relative error is ${error.toExponential(1)}` };
    const gain = exact.seconds / rounded.seconds;
    if (!(gain >= GAIN_MIN))
      return { isUsed: false, reason: `they are ${gain.toFixed(1)} times as fast as float32 here` };
    return { isUsed: true, error, gain };
  } catch {
    return { isUsed: false, reason: "TensorFlow has none for this device" };
  }
}

type Product = { readonly product: tf.Tensor; readonly seconds: number };

/** The fastest run counts: whatever disturbs only adds. */
function productOf(backend: NativeBackend, inputs: tf.NamedTensorMap, format: ProductFormat): Product {
  const multiply = (): tf.NamedTensorMap => ({
    product: tf.matMul(expectDefined(inputs["a"], "a"), expectDefined(inputs["b"], "b")),
  });
  const { recorded } = recordStep(backend, { inputs, format }, multiply);
  const graph = new GraphSession(backend, recorded);
  try {
    const run = (): Product => {
      const start = performance.now();
      const { product } = graph.run({ given: inputs, read: [] });
      return { product: expectDefined(product, "a product"), seconds: (performance.now() - start) / 1000 };
    };
    let best = run();
    for (let left = RUNS; left > 0; left -= 1) {
      const { product, seconds } = run();
      product.dispose();
      best = { product: best.product, seconds: Math.min(best.seconds, seconds) };
    }
    return best;
  } finally {
    graph.close();
  }
}
