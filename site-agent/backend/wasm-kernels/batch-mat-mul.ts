// BatchMatMul. The stock kernel is fast only for two untransposed matrices: every gradient of a product transposes one
// factor, and every attention is a batch. Here all four forms are tiles; only a product of two transposed matrices
// copies one of them first.

import { tf } from "../tensors.ts";
import { accumulateProducts, widenRows } from "./convolution-filter-gradient.ts";
import {
  attribute,
  input,
  inputTensor,
  isEmpty,
  type KernelContext,
  type TrainingKernel,
  zeros,
} from "./kernel-registry.ts";
import { convolveTiles, FLOAT_BYTES, panelBytes, panelColumns, TILE_BYTES } from "./products.ts";

/** One product [m, k] x [k, n] by address. */
type Product = {
  readonly left: number;
  readonly right: number;
  readonly output: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
};

export const batchMatMul: TrainingKernel = {
  name: "BatchMatMul",
  compute(context, inputs, attributes) {
    const [a, b] = [input(inputs, "a"), input(inputs, "b")];
    const transposeA = attribute<boolean>(attributes, "transposeA");
    const transposeB = attribute<boolean>(attributes, "transposeB");
    if (transposeA && transposeB)
      return transposedProduct(inputTensor(inputs, "a"), inputTensor(inputs, "b"));
    const [aRows, aColumns] = matrixSize(a.shape);
    const [bRows, bColumns] = matrixSize(b.shape);
    const [m, k, n] = [
      transposeA ? aColumns : aRows,
      transposeA ? aRows : aColumns,
      transposeB ? bRows : bColumns,
    ];
    tf.util.assert(k === (transposeB ? bColumns : bRows), () => `matMul of [${a.shape}] and [${b.shape}]`);
    const [aOuter, bOuter] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
    const outer = tf.broadcast_util.assertAndGetBroadcastShape(aOuter, bOuter);
    const [aBatch, bBatch] = [tf.util.sizeFromShape(aOuter), tf.util.sizeFromShape(bOuter)];
    const { heap } = context;
    const shape = [...outer, m, n];
    if (isEmpty(a, b)) return zeros(context, shape);
    const batches = { aBatch, bBatch, m, k, n };
    if (isSmall(batches)) return smallProducts(context, { a, b, shape, transposeA, transposeB, ...batches });
    // A transposed product adds to its output.
    const output = transposeA ? zeros(context, shape) : heap.output(shape);
    const [left, right, target] = [heap.pointer(a), heap.pointer(b), heap.pointer(output)];
    if (bBatch === 1 && !transposeA) {
      // One right factor for all: the batch is only more rows.
      productOfRows(context, { left, right, output: target, m: aBatch * m, k, n }, transposeB);
      return output;
    }
    for (let index = 0; index < Math.max(aBatch, bBatch); index += 1) {
      const product = {
        left: left + (aBatch === 1 ? 0 : index * m * k * FLOAT_BYTES),
        right: right + (bBatch === 1 ? 0 : index * k * n * FLOAT_BYTES),
        output: target + index * m * n * FLOAT_BYTES,
        ...{ m, k, n },
      };
      if (transposeA) productOfColumns(context, product);
      else productOfRows(context, product, transposeB);
    }
    return output;
  },
};

type Batches = Readonly<Record<"aBatch" | "bBatch" | "m" | "k" | "n", number>>;

/** Multiplications of one product of a batch up to which a call of its own, and panels, cost more than they save. */
const SMALL_PRODUCT_MAX = 40_000;

/** Many small products; where one right factor serves all, the batch is only more rows. */
function isSmall({ bBatch, m, k, n }: Batches): boolean {
  return bBatch > 1 && m * k * n <= SMALL_PRODUCT_MAX;
}

type SmallProducts = Batches & {
  readonly a: tf.TensorInfo;
  readonly b: tf.TensorInfo;
  readonly shape: readonly number[];
  readonly transposeA: boolean;
  readonly transposeB: boolean;
};

/** All products of the batch in one call. */
function smallProducts({ heap, module }: KernelContext, products: SmallProducts): tf.TensorInfo {
  const { a, b, shape, transposeA, transposeB, aBatch, bBatch, m, k, n } = products;
  const output = heap.output(shape);
  const [left, right, target] = [heap.pointer(a), heap.pointer(b), heap.pointer(output)];
  const batch = Math.max(aBatch, bBatch);
  const leftBytes = aBatch === 1 ? 0 : FLOAT_BYTES * m * k;
  const rightBytes = FLOAT_BYTES * k * n;
  if (transposeB) {
    module.small_row_products(left, right, target, batch, m, k, n, leftBytes, rightBytes);
  } else {
    const [rowBytes, stepBytes] = transposeA
      ? [FLOAT_BYTES, FLOAT_BYTES * m]
      : [FLOAT_BYTES * k, FLOAT_BYTES];
    const strides = [leftBytes, rightBytes, rowBytes, stepBytes] as const;
    module.small_products(left, right, target, batch, m, k, n, ...strides);
  }
  return output;
}

function matrixSize(shape: readonly number[]): [rows: number, columns: number] {
  return [shape.at(-2) ?? 1, shape.at(-1) ?? 1];
}

/** (B A)' for A' B': the framework's own operations bring A into rows. */
function transposedProduct(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const perm = a.shape.map((_, axis) => axis);
    perm.push(...perm.splice(-2).reverse());
    const left = tf.engine().runKernel("Transpose", { x: a }, { perm }) as tf.Tensor; // One output.
    const factors = { a: left, b };
    return tf
      .engine()
      .runKernel("BatchMatMul", factors, { transposeA: false, transposeB: true }) as tf.Tensor; // One.
  });
}

function productOfRows({ heap, module }: KernelContext, product: Product, transposeB: boolean): void {
  const { left, right, output, m, k, n } = product;
  const bytes = { panels: panelBytes(k, n), bias: FLOAT_BYTES * panelColumns(n), tile: TILE_BYTES };
  heap.lend(bytes, ({ panels, bias, tile }) => {
    const [kBytes, nBytes] = transposeB ? [FLOAT_BYTES, FLOAT_BYTES * k] : [FLOAT_BYTES * n, FLOAT_BYTES];
    module.pack_panels(right, k, n, kBytes, nBytes, panels, panelBytes(k, 1));
    module.clear(bias, bytes.bias);
    convolveTiles(module, {
      ...{ input: left, panels, bias, output, tile, images: 1, rows: 1, pixels: m, columns: n },
      ...{ segments: 1, segmentBytes: 0, segmentLength: k },
      from: { imageBytes: 0, rowBytes: 0, pixelBytes: FLOAT_BYTES * k },
      to: { imageBytes: 0, rowBytes: 0, pixelBytes: FLOAT_BYTES * n },
    });
  });
}

/** The left factor lies as [k, m]. */
function productOfColumns(context: KernelContext, product: Product): void {
  const { heap, module } = context;
  const { left, right, output, m, k, n } = product;
  const columnCount = panelColumns(n);
  const leftBytes = FLOAT_BYTES * k * m;
  const bytes = {
    left: m % 4 === 0 ? 0 : leftBytes,
    right: columnCount === n ? 0 : FLOAT_BYTES * k * columnCount,
    tile: TILE_BYTES,
  };
  heap.lend(bytes, (at) => {
    // The last tile may read behind the last row: a copy has room there.
    if (bytes.left > 0) module.copy_rows(left, at.left, 1, leftBytes, 0, 0);
    accumulateProducts(context, {
      input: bytes.left > 0 ? at.left : left,
      outputGradient: widenRows(context, right, { to: at.right, rows: k, columns: n }),
      ...{ gradient: output, tile: at.tile, images: 1, rows: 1, pixels: k, columns: n },
      ...{ segments: 1, segmentBytes: 0, segmentLength: m },
      from: { imageBytes: 0, rowBytes: 0, pixelBytes: FLOAT_BYTES * m },
      to: { imageBytes: 0, rowBytes: 0, pixelBytes: FLOAT_BYTES * columnCount },
    });
  });
}
