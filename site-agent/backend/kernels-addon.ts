// Where the addon with our kernels lies: what builds it and what loads it agree here.

/** Within the folder of TensorFlow's package, beside the package's own. */
export const KERNELS_ADDON = "lib/napi-v8/consilium_kernels.node";
