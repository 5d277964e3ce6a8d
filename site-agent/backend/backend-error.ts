// Why computing cannot start or go on. Messages say what the site's engineer can do about it.

export type BackendErrorCode =
  | "backend.none-usable"
  | "backend.no-adapter"
  | "backend.kernels-missing"
  | "backend.out-of-memory"
  | "backend.thread-failed"
  | "backend.unsupported-shape";

export class BackendError extends Error {
  override name = "BackendError";
  readonly code: BackendErrorCode;

  constructor(code: BackendErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
