// Instance norm with leaky ReLU as one kernel, and its gradient. Composed of the framework's operations it would be ten
// passes over the images forward and twenty backward; here it is two and two. They have names of their own: the layer
// in models/nn uses them where they exist and composes the same arithmetic elsewhere.

import { INSTANCE_NORM, INSTANCE_NORM_GRADIENT } from "../fused-kernel.ts";
import { attribute, input, type TrainingKernel } from "./kernel-registry.ts";
import { FLOAT_BYTES } from "./products.ts";

type ImageShape = { readonly images: number; readonly pixels: number; readonly channels: number };

/** x [B, H, W, C], gamma [C], beta [C] -> y [B, H, W, C], mean [B, C], 1 / standard deviation [B, C]. */
const instanceNorm: TrainingKernel = {
  name: INSTANCE_NORM,
  compute({ heap, module }, inputs, attributes) {
    const x = input(inputs, "x");
    const { images, pixels, channels } = imageShape(x.shape);
    const [y, mean, inverse] = [
      heap.output(x.shape),
      heap.output([images, channels]),
      heap.output([images, channels]),
    ];
    module.instance_norm(
      heap.pointer(x),
      heap.pointer(y),
      heap.pointer(input(inputs, "gamma")),
      heap.pointer(input(inputs, "beta")),
      heap.pointer(mean),
      heap.pointer(inverse),
      images,
      pixels,
      channels,
      attribute(attributes, "epsilon"),
      attribute(attributes, "negativeSlope"),
    );
    return [y, mean, inverse];
  },
};

/** The forward kernel's inputs and statistics, and dy [B, H, W, C] -> dx [B, H, W, C], dgamma [C], dbeta [C]. */
const instanceNormGradient: TrainingKernel = {
  name: INSTANCE_NORM_GRADIENT,
  compute({ heap, module }, inputs, attributes) {
    const x = input(inputs, "x");
    const { images, pixels, channels } = imageShape(x.shape);
    const [dx, dgamma, dbeta] = [heap.output(x.shape), heap.output([channels]), heap.output([channels])];
    const rowBytes = FLOAT_BYTES * images * channels;
    heap.lend({ gammas: rowBytes, betas: rowBytes }, ({ gammas, betas }) => {
      module.instance_norm_gradient(
        heap.pointer(x),
        heap.pointer(input(inputs, "dy")),
        heap.pointer(dx),
        heap.pointer(input(inputs, "gamma")),
        heap.pointer(input(inputs, "beta")),
        heap.pointer(input(inputs, "mean")),
        heap.pointer(input(inputs, "inverse")),
        gammas,
        betas,
        images,
        pixels,
        channels,
        attribute(attributes, "negativeSlope"),
      );
      module.column_sums(gammas, heap.pointer(dgamma), images, channels);
      module.column_sums(betas, heap.pointer(dbeta), images, channels);
    });
    return [dx, dgamma, dbeta];
  },
};

export const instanceNormKernels: readonly TrainingKernel[] = [instanceNorm, instanceNormGradient];

function imageShape(shape: readonly number[]): ImageShape {
  const [images = 0, height = 0, width = 0, channels = 0] = shape;
  return { images, pixels: height * width, channels };
}
