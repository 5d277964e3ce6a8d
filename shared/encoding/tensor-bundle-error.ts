// Why a tensor bundle was refused. Messages name positions and limits, never text taken from the file: a header may
// hold anything, and this message may end up in a log.

export type TensorBundleErrorCode =
  | "bundle.truncated"
  | "bundle.header-too-long"
  | "bundle.header-not-json"
  | "bundle.header-malformed"
  | "bundle.name-invalid"
  | "bundle.name-repeated"
  | "bundle.metadata-invalid"
  | "bundle.too-many-tensors"
  | "bundle.shape-too-large"
  | "bundle.size-mismatch"
  | "bundle.gap-or-overlap"
  | "bundle.too-large"
  | "bundle.wrong-dtype";

export class TensorBundleError extends Error {
  override name = "TensorBundleError";
  readonly code: TensorBundleErrorCode;

  constructor(code: TensorBundleErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
