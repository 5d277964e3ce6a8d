// Why a store of the site was not opened, read or written. Messages name the fault and the remedy; the only place they
// name is a line number or a file of the agent's own.

export type StoreErrorCode =
  | "log.damaged"
  | "log.entry-too-large"
  | "log.failed"
  | "lock.held"
  | "blob.unknown"
  | "blob.damaged"
  | "blob.digest-mismatch"
  | "blob.too-large"
  | "blob.store-full";

export class StoreError extends Error {
  override name = "StoreError";
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
