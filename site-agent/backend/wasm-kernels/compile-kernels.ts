// Kernel texts to the source of a module that holds their binaries. Needed by developers only: the compiler is a
// development dependency, and a test compares what it makes with what is in the tree.

import wabt from "wabt";

const COLUMNS = 100;

const HEADER = `// WebAssembly binaries of the .wat files beside this one, in base64. Written by compile.ts; do not edit.
`;

/** @param texts file name to WebAssembly text; @returns the source of \`kernel-binaries.ts\` */
export async function compileKernels(texts: ReadonlyMap<string, string>): Promise<string> {
  const compiler = await wabt();
  const entries = [...texts].map(([name, text]) => {
    const module = compiler.parseWat(name, text, { simd: true, bulk_memory: true });
    try {
      module.validate();
      return binaryConstant(name, module.toBinary({}).buffer);
    } finally {
      module.destroy();
    }
  });
  return `${HEADER}\n${entries.join("\n")}`;
}

function binaryConstant(name: string, binary: Uint8Array): string {
  const base64 = Buffer.from(binary).toString("base64");
  const lines = base64.match(new RegExp(`.{1,${COLUMNS}}`, "g")) ?? [];
  const constant = `${name.replace(/\.wat$/, "").toUpperCase()}_KERNELS`;
  return `export const ${constant} = [\n${lines.map((line) => `  "${line}",\n`).join("")}].join("");\n`;
}
