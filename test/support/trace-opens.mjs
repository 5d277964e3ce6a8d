// Loaded into a process before anything else (NODE_OPTIONS=--import=...): appends the path of every file that the process
// opens for reading or writing to the file in CONSILIUM_TRACE, one a line.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const trace = process.env.CONSILIUM_TRACE;
const append = fs.appendFileSync;

function note(path) {
  if (typeof path === "string" || path instanceof URL || path instanceof Uint8Array)
    append(trace, `${path}\n`);
}

function wrap(owner, name) {
  const original = owner[name];
  if (typeof original !== "function") return;
  owner[name] = function traced(path, ...rest) {
    note(path);
    return original.call(this, path, ...rest);
  };
}

if (trace) {
  for (const name of [
    "open",
    "openSync",
    "readFile",
    "readFileSync",
    "createReadStream",
    "copyFile",
    "copyFileSync",
    "opendir",
    "readdir",
    "readdirSync",
  ]) {
    wrap(fs, name);
    wrap(fs.promises, name);
  }
  syncBuiltinESMExports();
}
