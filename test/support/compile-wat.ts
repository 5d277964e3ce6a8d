// Compiles WebAssembly text into a module of its own: `x.wat` becomes `x.wasm.ts`, which holds the binary in base64.
// products.wat becomes fused-products.wasm.ts as well: the same text with each multiplication and addition fused into
// one instruction, a third faster where the processor has it; so the two cannot drift apart.
// `npm run build:wasm -- FILE...`; tests compare every committed binary with its text.

import { readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import wabt from "wabt";

const LOCAL = String.raw`(\(local\.get \$[a-z0-9]+\))`;
const PRODUCT = new RegExp(String.raw`\(f32x4\.add ${LOCAL} \(f32x4\.mul ${LOCAL} ${LOCAL}\)\)`, "g");

/** The text with `c + a * b` as one instruction wherever all three are locals. */
export function fuseMultiplyAdd(text: string): string {
  return text.replace(PRODUCT, "(f32x4.relaxed_madd $2 $3 $1)");
}

export type Form = "as-written" | "fused";

/** @returns the TypeScript source that stands beside the text */
export async function compileWat(file: string, form: Form = "as-written"): Promise<string> {
  const { parseWat } = await wabt();
  const written = readFileSync(file, "utf8");
  const text = form === "fused" ? fuseMultiplyAdd(written) : written;
  const module = parseWat(file, text, { simd: true, relaxed_simd: form === "fused" });
  const { buffer } = module.toBinary({ write_debug_names: false });
  module.destroy();
  const base64 = Buffer.from(buffer).toString("base64");
  const lines = (base64.match(/.{1,100}/g) ?? []).map((line) => `  "${line}"`).join(" +\n");
  const made = `${basename(file)}${form === "fused" ? " with fused products" : ""}, made by \`npm run build:wasm\``;
  return `// The binary of ${made}. Change the text, never this.\n\nexport const wasmBase64 =\n${lines};\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const file of process.argv.slice(2)) {
    writeFileSync(file.replace(/\.wat$/, ".wasm.ts"), await compileWat(file));
    if (basename(file) === "products.wat")
      writeFileSync(join(dirname(file), "fused-products.wasm.ts"), await compileWat(file, "fused"));
  }
}
