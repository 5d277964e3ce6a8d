// `npm run bench -- NAME [options]`: runs one of the measurements beside this file, which print JSON.

import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.slice(0, -3));
const [name = ""] = process.argv.splice(2, 1);
if (names.includes(name) && existsSync(`${folder}${name}.ts`)) {
  await import(`./${name}.ts`);
} else {
  console.error(`usage: npm run bench -- ${names.join(" | ")}`);
  process.exitCode = 2;
}
