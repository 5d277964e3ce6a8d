// Every way in which the set-up of native TensorFlow ends early, and what the site's engineer can do about it.

const REMEDIES = {
  "native.platform":
    "the pinned TensorFlow is for Linux on x86-64 with glibc; on this machine the agent trains with WebAssembly",
  "native.no-client":
    "no Python with pip was found (nor, for `cpu`, Maven); install one of them, or bring the file and name it with --from",
  "native.no-compiler":
    "no C++ compiler was found; install g++ or clang++, or put its path into CXX, and run this again",
  "native.no-tool": "a program that is needed was not found; install it and run this again",
  "native.no-framework": "the project is not installed here; run `npm ci` first",
  "native.no-space": "the disk has not enough room; make some and run this again",
  "native.download":
    "a download failed; run this again (what has arrived is kept), or bring the files with --from",
  "native.digest": "a file is not the pinned one and was not used; fetch it again from its registry",
  "native.archive": "an archive is cut short or malformed and was not used; fetch it again",
  "native.compile": "the compiler refused the package's sources; its words are above",
  "native.unproven": "the package was built but cannot train here, and was taken out again",
  "native.from": "--from names nothing that can be read; give the wheel, the jar or the folder that holds it",
} as const;

export type NativeErrorCode = keyof typeof REMEDIES;

export class NativeError extends Error {
  override name = "NativeError";
  readonly code: NativeErrorCode;

  /** @param detail what was looked at, added in parentheses */
  constructor(code: NativeErrorCode, detail = "", options?: ErrorOptions) {
    super(REMEDIES[code] + (detail === "" ? "" : ` (${detail})`), options);
    this.code = code;
  }
}
