// `npm test [-- FILE…]`: runs every test file of the tree through tap, two at a time, and ends with one line that
// counts them. What was skipped is listed by name.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const tap = join(dirname(createRequire(import.meta.url).resolve("tap/package.json")), "dist/esm/run.mjs");

/** Longest first, so that two workers end at about the same time. */
const slowFirst = ["test/end-to-end/", "test/integration/", "test/golden/", "site-agent/", "test/"];

function testFiles(): string[] {
  const chosen = process.argv.slice(2);
  if (chosen.length > 0) return chosen;
  const listed = existsSync(join(root, ".git"))
    ? execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.test.ts"], {
        cwd: root,
        encoding: "utf8",
      })
    : execFileSync("find", [".", "-name", "*.test.ts", "-not", "-path", "*/node_modules/*"], {
        cwd: root,
        encoding: "utf8",
      });
  const rank = (file: string): number => {
    const at = slowFirst.findIndex((prefix) => file.startsWith(prefix));
    return at < 0 ? slowFirst.length : at;
  };
  const files = listed.split("\n").filter((file) => file && existsSync(join(root, file)));
  return files.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

type Counts = { passed: number; failed: number; skipped: string[] };

/** tap's own stream: assertions are the indented lines, files the outermost. */
async function run(files: readonly string[]): Promise<{ code: number; counts: Counts }> {
  const counts: Counts = { passed: 0, failed: 0, skipped: [] };
  const child = spawn(process.execPath, [tap, "run", "--reporter=tap", ...files], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let failing = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const assertion = /^\s*(not )?ok \d+ - (.*)$/.exec(line);
    if (assertion) {
      const [, isNot, text = ""] = assertion;
      const skip = / # SKIP ?(.*)$/i.exec(text);
      if (skip) counts.skipped.push(text.replace(/ # SKIP/i, ":"));
      else if (/^\s{4,}/.test(line)) counts[isNot ? "failed" : "passed"] += 1;
      failing = isNot !== undefined;
    }
    // Files as they end, and everything about what failed.
    if (/^(not )?ok \d+ - /.test(line) || failing || /^Bail out/.test(line)) console.log(line);
  }
  const code = await new Promise<number>((resolve) =>
    child.exitCode === null ? child.once("close", (exit) => resolve(exit ?? 1)) : resolve(child.exitCode),
  );
  return { code, counts };
}

/**
 * tap comes built with plugins that .taprc leaves out. It builds itself anew when it notices, but the run that notices
 * still uses the old set, and every file of it fails.
 */
function buildPlugins(): void {
  const resolve = createRequire(createRequire(import.meta.url).resolve("tap/package.json")).resolve;
  const built = join(dirname(resolve("@tapjs/test/package.json")), "test-built/dist/esm/index.js");
  if (existsSync(built) && !readFileSync(built, "utf8").includes("@tapjs/typescript")) return;
  const { status, stderr } = spawnSync(process.execPath, [tap, "build"], { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`tap build ended with ${status}: ${stderr}`);
}

buildPlugins();
const { code, counts } = await run(testFiles());
if (counts.skipped.length > 0)
  console.log(`\nskipped:\n${counts.skipped.map((line) => `  ${line}`).join("\n")}`);
const failed = counts.failed === 0 && code !== 0 ? 1 : counts.failed;
console.log(`\n${counts.passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
