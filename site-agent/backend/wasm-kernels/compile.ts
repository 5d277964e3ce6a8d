// Compile every kernel text of this folder into `kernel-binaries.ts`. Run it after a change to one of the texts:
// node --import tsx site-agent/backend/wasm-kernels/compile.ts

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compileKernels } from "./compile-kernels.ts";

const folder = fileURLToPath(new URL(".", import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith(".wat"));
const texts = new Map(names.sort().map((name) => [name, readFileSync(`${folder}${name}`, "utf8")]));
writeFileSync(`${folder}kernel-binaries.ts`, await compileKernels(texts));
