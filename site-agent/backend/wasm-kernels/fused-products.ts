// The tiled products once more, with each multiplication and addition fused into one instruction: a third faster where
// the processor has it. The text is that of products.wat with the instruction exchanged, so the two cannot drift apart.
// Run this file after a change to products.wat: node --import tsx site-agent/backend/wasm-kernels/fused-products.ts

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import wabt from "wabt";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const LOCAL = String.raw`(\(local\.get \$[a-z0-9]+\))`;
const PRODUCT = new RegExp(String.raw`\(f32x4\.add ${LOCAL} \(f32x4\.mul ${LOCAL} ${LOCAL}\)\)`, "g");
const LINE_LENGTH = 100;

/** The text with `c + a * b` as one instruction wherever all three are locals. */
export function fuseMultiplyAdd(text: string): string {
  return text.replace(PRODUCT, "(f32x4.relaxed_madd $2 $3 $1)");
}

/** The TypeScript source that holds the fused binary. */
export async function compileFusedProducts(): Promise<string> {
  const text = fuseMultiplyAdd(readFileSync(`${FOLDER}products.wat`, "utf8"));
  const { parseWat } = await wabt();
  const module = parseWat("products.wat", text, { simd: true, relaxed_simd: true });
  const { buffer } = module.toBinary({ write_debug_names: false });
  module.destroy();
  const base64 = Buffer.from(buffer).toString("base64");
  const lines = base64.match(new RegExp(`.{1,${LINE_LENGTH}}`, "g")) ?? [];
  const header =
    "// The binary of products.wat with fused products, made by fused-products.ts. Change the text, never this.";
  return `${header}\n\nexport const wasmBase64 =\n${lines.map((line) => `  "${line}"`).join(" +\n")};\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(`${FOLDER}fused-products.wasm.ts`, await compileFusedProducts());
}
