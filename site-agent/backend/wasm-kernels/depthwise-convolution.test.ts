import t from "tap";
import { expectSame, tensor } from "../../../test/support/same-on-cpu.ts";
import { loadBackendPackage, tf } from "../tensors.ts";
import { installTrainingKernels } from "./install.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

t.test("depth-wise convolutions of every width, stride and padding", async (t) => {
  const cases = [
    { image: [2, 5, 1, 4], filter: [3, 3], stride: 1, pad: "same" },
    { image: [1, 4, 3, 8], filter: [7, 7], stride: 1, pad: "same" },
    { image: [2, 6, 4, 4], filter: [1, 3], stride: 1, pad: "same" },
    { image: [2, 9, 11, 12], filter: [3, 3], stride: 2, pad: "same" },
    { image: [2, 9, 11, 12], filter: [5, 2], stride: 1, pad: "valid" },
    { image: [1, 7, 9, 6], filter: [3, 3], stride: 1, pad: "same" },
    { image: [2, 5, 9, 4], filter: [1, 1], stride: 1, pad: "valid" },
  ] as const;
  for (const { image, filter, stride, pad } of cases) {
    const what = `${image} by ${filter}, stride ${stride}, ${pad}`;
    await expectSame(t, what, () => {
      const x = tensor("image", image) as tf.Tensor4D;
      const weights = tensor("filter", [...filter, image[3], 1]) as tf.Tensor4D;
      return [tf.depthwiseConv2d(x, weights, stride, pad)];
    });
  }
});
