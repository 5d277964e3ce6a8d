// Holds the tree against the house rules of rules.ts.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import {
  bannedNames,
  bannedWords,
  declarations,
  importTable,
  linesPerFileMax,
  packageHomes,
  testedFolders,
} from "./rules.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file && existsSync(join(root, file)));
const sources = tracked.filter((file) => file.endsWith(".ts"));
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const isTest = (file: string): boolean =>
  file.endsWith(".test.ts") || file.startsWith("test/") || file.startsWith("bench/");

/** What a module imports, as paths from the root or package names. */
export function importsOf(file: string, text: string): string[] {
  const specifiers = [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^"'`;]*?from\s+"([^"]+)"|\bimport\(\s*"([^"]+)"|(?:^|\n)import\s+"([^"]+)"/g,
    ),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
  return specifiers.map((specifier) => {
    if (specifier.startsWith(".")) return normalize(join(dirname(file), specifier));
    return specifier.replace(/^@consilium\//, "");
  });
}

t.test("imports go only where the table allows", async (t) => {
  const faults = sources
    .filter((file) => !isTest(file))
    .flatMap((file) => {
      const home = Object.keys(importTable)
        .filter((folder) => file.startsWith(`${folder}/`) || file === `${folder}.ts`)
        .sort((a, b) => b.length - a.length)[0];
      if (!home) return [];
      const allowed = [...(importTable[home] ?? []), `${home}/`, `${home}.ts`];
      return importsOf(file, read(file))
        .filter((target) => !allowed.some((prefix) => target.startsWith(prefix)))
        .map((target) => `${file} imports ${target}`);
    });
  t.strictSame(faults, []);
  t.strictSame(
    importsOf(
      "a/b.ts",
      'import { x } from "../c/d.ts";\nimport type { y } from "@consilium/shared/z.ts";\nconst q = await import("./e.ts");',
    ),
    ["c/d.ts", "shared/z.ts", "a/e.ts"],
    "the reader of imports finds them",
  );
});

t.test("the two sides never import each other, and packages stay in their homes", async (t) => {
  const faults = sources
    .filter((file) => !isTest(file))
    .flatMap((file) =>
      importsOf(file, read(file)).flatMap((target) => {
        const crossing =
          (file.startsWith("coordinator/") && target.startsWith("site-agent/")) ||
          (file.startsWith("site-agent/") && target.startsWith("coordinator/"));
        const homes = Object.entries(packageHomes).find(([name]) =>
          name.endsWith("/") ? target.startsWith(name) : target === name,
        )?.[1];
        const astray = homes && !homes.some((home) => file.startsWith(home));
        return crossing || astray ? [`${file} imports ${target}`] : [];
      }),
    );
  t.strictSame(faults, []);
});

t.test("what has a home is written only there", async (t) => {
  const faults = sources
    .filter((file) => !file.endsWith(".test.ts"))
    .flatMap((file) => {
      const code = withoutComments(read(file));
      return bannedWords
        .filter(({ word, homes }) => word.test(code) && !homes.some((home) => file.startsWith(home)))
        .map(({ word, instead }) => `${file}: ${word} - use ${instead}`);
    });
  t.strictSame(faults, []);
  t.notMatch(withoutComments("a // Date.now\n/* Math.random */ b"), /Date|Math/);
});

t.test("files are short, begin by saying what they are for, and have names that say something", async (t) => {
  const faults = sources
    .filter((file) => !file.endsWith(".wasm.ts"))
    .flatMap((file) => {
      const text = read(file);
      const lines = text.split("\n").length;
      return [
        ...(lines > linesPerFileMax ? [`${file} has ${lines} lines`] : []),
        ...(bannedNames.test(file.split("/").at(-1) ?? "") ? [`${file} has a name that says nothing`] : []),
        ...(!isTest(file) && !/^(#!.*\n)?\/\/ \S/.test(text) ? [`${file} does not say what it is for`] : []),
      ];
    });
  t.strictSame(faults, []);
});

t.test("modules that carry the trust have a test beside them", async (t) => {
  const faults = testedFolders.flatMap((folder) => {
    const modules = sources.filter(
      (file) => dirname(file) === folder && !file.endsWith(".test.ts") && !file.endsWith(".wasm.ts"),
    );
    const tests = sources
      .filter((file) => file.endsWith(".test.ts") && (dirname(file) === folder || file.startsWith("test/")))
      .map(read)
      .join("\n");
    return modules
      .filter((file) => !declarations.includes(file.split("/").at(-1) ?? file))
      .filter((file) => !tests.includes(file.split("/").at(-1) ?? file))
      .map((file) => `${file} is named in no test`);
  });
  t.strictSame(faults, []);
});

t.test("documents link to what exists and name commands that exist", async (t) => {
  const scripts = Object.keys(
    (JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts,
  ); // Our own manifest.
  const faults = tracked
    .filter((file) => file.endsWith(".md"))
    .flatMap((file) => {
      const text = read(file);
      const links = [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
        .map((match) => match[1] ?? "")
        .filter((link) => !existsSync(join(root, dirname(file), link)));
      const commands = [...text.matchAll(/\bnpm run (?:-s |--silent )?([a-z][a-z:-]*)/g)]
        .map((match) => match[1] ?? "")
        .filter((name) => !scripts.includes(name));
      return [
        ...links.map((link) => `${file} links to ${link}`),
        ...commands.map((name) => `${file} names npm run ${name}`),
      ];
    });
  t.strictSame(faults, []);
});

t.test("nothing in the tree points at a machine", async (t) => {
  const here = [/\/work\/(main|shared)/, /\/root\//, /\/home\/[a-z]+\//];
  const faults = tracked
    .filter(
      (file) => /\.(ts|js|json|md|sql|yaml|wat|prisma)$/.test(file) && file !== "test/tidy/tidy.test.ts",
    )
    .flatMap((file) => here.filter((path) => path.test(read(file))).map((path) => `${file} holds ${path}`));
  t.strictSame(faults, []);
});

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[^:"'`])\/\/.*$/gm, "$1");
}
