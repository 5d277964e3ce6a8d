// Every way in which a checkpoint can be refused, and what the person who brought it should do. Messages hold counts,
// positions and names of the expected model, never text taken from the file, which may hold anything.

const REMEDIES = {
  "checkpoint.unreadable": "the checkpoint cannot be read; check that it is a plain file that may be read",
  "checkpoint.too-large": "the checkpoint is larger than the agent accepts; save the weights alone",
  "checkpoint.truncated": "the checkpoint ends before its content does; copy it again",
  "checkpoint.changed": "the checkpoint changed while it was read; wait until it is completely written",
  "checkpoint.form": "this is neither a PyTorch checkpoint (.pt, .pth) nor a .safetensors file",
  "checkpoint.damaged": "a checksum inside the checkpoint does not fit its bytes; copy it again",
  "checkpoint.zip.malformed":
    "the zip container is not one that PyTorch writes; save it again with torch.save",
  "checkpoint.zip.compressed":
    "the zip container is compressed or encrypted; save it again with torch.save, do not re-pack it",
  "checkpoint.zip.overlap": "entries of the zip container share bytes; do not use this file",
  "checkpoint.zip.duplicate": "the zip container holds one name twice; do not use this file",
  "checkpoint.pickle.opcode":
    "the pickle uses an instruction that weights do not need; save model.state_dict() alone with torch.save",
  "checkpoint.pickle.global":
    "the pickle names code that weights do not need, and nothing of it was run; save model.state_dict() alone",
  "checkpoint.pickle.malformed": "the pickle contradicts itself; copy the checkpoint again",
  "checkpoint.pickle.limit":
    "the pickle is larger or deeper than weights need; save model.state_dict() alone",
  "checkpoint.storage": "a tensor's data is missing or has another size than announced; copy the file again",
  "checkpoint.view": "a tensor reaches beyond its data; do not use this file",
  "checkpoint.expansion": "the tensors are far larger than the data they are made of; do not use this file",
  "checkpoint.dtype": "a tensor's number type cannot become float32; save the weights as floating point",
  "checkpoint.no-weights":
    "there is no state dict at the top, under `model` or under `state_dict`; save one of these",
  "checkpoint.safetensors": "the .safetensors header is not valid; copy the file again",
  "checkpoint.names": "the Hugging Face names are incomplete or contradict each other; fetch the file again",
  "checkpoint.mismatch": "the checkpoint is not of the expected model",
} as const;

export type CheckpointErrorCode = keyof typeof REMEDIES;

export class CheckpointError extends Error {
  override name = "CheckpointError";
  readonly code: CheckpointErrorCode;

  /** @param detail numbers and places, added in parentheses */
  constructor(code: CheckpointErrorCode, detail = "", options?: { cause: unknown }) {
    super(REMEDIES[code] + (detail === "" ? "" : ` (${detail})`), options);
    this.code = code;
  }
}
