// Compiles WebAssembly text into a module of its own: `x.wat` becomes `x.wasm.ts`, which holds the binary in base64.
// `npm run build:wasm -- FILE...`; a test compares every committed binary with its text.

import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import wabt from "wabt";

/** @returns the TypeScript source that stands beside the text */
export async function compileWat(file: string): Promise<string> {
  const { parseWat } = await wabt();
  const module = parseWat(file, readFileSync(file, "utf8"), { simd: true });
  const { buffer } = module.toBinary({ write_debug_names: false });
  module.destroy();
  const base64 = Buffer.from(buffer).toString("base64");
  const lines = (base64.match(/.{1,100}/g) ?? []).map((line) => `  "${line}"`).join(" +\n");
  return `// The binary of ${basename(file)}, made by \`npm run build:wasm\`. Change the text, never this.\n\nexport const wasmBase64 =\n${lines};\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const file of process.argv.slice(2))
    writeFileSync(file.replace(/\.wat$/, ".wasm.ts"), await compileWat(file));
}
