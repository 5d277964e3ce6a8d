// The tables in the documents against the code that they mirror. A table is found by the comment above it,
// `<!-- table: NAME -->`; what stands in backticks in a cell, outside parentheses, are its names.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exitCodes as coordinatorExits } from "@consilium/coordinator/exit-codes.ts";
import { signCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { documentDigest } from "@consilium/shared/crypto/digest.ts";
import { envelopeDigest, seal } from "@consilium/shared/crypto/envelope.ts";
import { signingKeyFromSeed } from "@consilium/shared/crypto/keys.ts";
import { leafHash, MerkleTree } from "@consilium/shared/crypto/merkle.ts";
import { toBase64 } from "@consilium/shared/encoding/base64url.ts";
import { canonicalJsonText, type Json } from "@consilium/shared/encoding/canonical-json.ts";
import { StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import * as documents from "@consilium/shared/protocol/documents.ts";
import { errorCatalogue } from "@consilium/shared/protocol/errors.ts";
import * as limits from "@consilium/shared/protocol/limits.ts";
import { OperatorEvent, ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import { FederationRecord, StudyRecord } from "@consilium/shared/protocol/records.ts";
import { exitCodes as siteExits } from "@consilium/site-agent/exit-codes.ts";
import t, { type Test } from "tap";
import { startFederation } from "../support/federation.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), "utf8");

/** Rows of cells. @throws when the document has no such table */
export function tableIn(text: string, name: string): string[][] {
  const marker = `<!-- table: ${name} -->`;
  const at = text.indexOf(marker);
  if (at < 0) throw new Error(`there is no table ${name}`);
  const [, ...lines] = text.slice(at).split("\n");
  const rows = lines.slice(lines.findIndex((line) => line.startsWith("|")));
  const end = rows.findIndex((line) => !line.startsWith("|"));
  return rows.slice(2, end < 0 ? undefined : end).map((line) =>
    line
      .slice(1, line.lastIndexOf("|"))
      .split("|")
      .map((cell) => cell.trim()),
  );
}

/** What stands in backticks, outside parentheses. */
export function namesIn(cell = ""): string[] {
  let plain = cell;
  for (let before = ""; before !== plain; ) {
    before = plain;
    plain = plain.replace(/\([^()]*\)/g, "");
  }
  return [...plain.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
}

const table = (file: string, name: string): string[][] => tableIn(read(file), name);
const only = (cell: string | undefined): string => namesIn(cell)[0] ?? "";
const sorted = (names: Iterable<string>): string[] => [...names].sort();

/** As much of JSON Schema as the schemas of this protocol use. */
type Schema = {
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly anyOf?: readonly Schema[];
};

/** `kind` and the other members of every variant. */
function variants(schema: unknown, omit: readonly string[] = ["kind"]): string[] {
  const { anyOf = [] } = schema as Schema; // Unions of objects, by construction of the protocol.
  return anyOf.map(({ properties = {} }) => {
    const members = Object.keys(properties).filter((name) => !omit.includes(name));
    return [String(properties["kind"]?.const ?? ""), ...members.sort()].join(" ");
  });
}

const rowNames = (rows: readonly string[][]): string[] =>
  rows.map(([kind, members]) => [only(kind), ...sorted(namesIn(members))].join(" "));

t.test("the reader of tables finds cells and names, and misses what is not there", async (t) => {
  const text =
    "<!-- table: x -->\n\n| a | b |\n| --- | --- |\n| `one` | `p`, `q` (not `r`) and s |\n\nEnd | of | it";
  t.strictSame(tableIn(text, "x"), [["`one`", "`p`, `q` (not `r`) and s"]]);
  t.strictSame(rowNames(tableIn(text, "x")), ["one p q"]);
  t.throws(() => tableIn(text, "y"), /no table y/);
});

t.test("the protocol's errors are those of the catalogue", async (t) => {
  const rows = Object.entries(errorCatalogue).map(([code, { status, retryable, sentence }]) => [
    `\`${code}\``,
    String(status),
    retryable ? "yes" : "no",
    sentence,
  ]);
  t.strictSame(table("docs/PROTOCOL.md", "errors"), rows);
});

t.test("the protocol's limits are those of the code", async (t) => {
  const rows = Object.entries(limits).map(([name, value]) => `${name} ${value}`);
  t.strictSame(
    sorted(table("docs/PROTOCOL.md", "limits").map(([name, value]) => `${only(name)} ${value}`)),
    sorted(rows),
  );
  for (const [name, value, file = ""] of table("docs/PROTOCOL.md", "module-limits")) {
    t.ok(read(file).includes(`const ${only(name)} = ${value};`), `${only(name)} is ${value} in ${file}`);
  }
});

t.test("records and messages have the members that the protocol lists", async (t) => {
  const same = (name: string, expected: readonly string[]): void => {
    t.strictSame(sorted(rowNames(table("docs/PROTOCOL.md", name))), sorted(expected), name);
  };
  same("federation-records", variants(FederationRecord));
  same("study-records", variants(StudyRecord, ["kind", "study"]));
  same("to-coordinator", variants(ToCoordinator));
  same("to-site", variants(ToSite));
  same("operator-events", variants(OperatorEvent));
});

t.test("signed documents have the members and the types that the protocol lists", async (t) => {
  const prefix = "application/vnd.consilium.";
  const inCode = Object.values({ ...documents, StudyPlanDocument }).flatMap((value) => {
    if (!("payloadType" in value)) return [];
    const { payloadType, schema } = value;
    const name = payloadType.slice(prefix.length).replace(".v1+json", "");
    const { properties = {} } = schema as Schema; // Every document is an object.
    return [[name, ...(name === "study-plan" ? [] : Object.keys(properties).sort())].join(" ")];
  });
  const listed = table("docs/PROTOCOL.md", "documents").map(([name, , members]) =>
    [only(name), ...sorted(namesIn(members))].join(" "),
  );
  t.strictSame(sorted(listed), sorted(inCode));
});

t.test("every member of a plan is explained", async (t) => {
  const listed = table("docs/PROTOCOL.md", "plan").map(([name]) => only(name));
  const paths = (schema: Schema, prefix: string): string[] =>
    Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
      const path = `${prefix}${name}`;
      return listed.includes(path) || !member.properties ? [path] : paths(member, `${path}.`);
    });
  t.strictSame(listed, paths(StudyPlanDocument.schema as Schema, "")); // A plan is an object of objects.
});

t.test("the vectors come out", async (t) => {
  const key = signingKeyFromSeed(new Uint8Array(32));
  const rows = table("docs/PROTOCOL.md", "vectors");
  const [, canonical, digest, , signature, leaf] = rows.map(([, of = ""]) => of.replaceAll("`", ""));
  const parsed = (text = ""): Json => JSON.parse(text) as Json; // JSON.parse returns nothing else.
  const session = parsed(signature) as { origin: string; site: never; challenge: never }; // Of the row's own text.
  const envelope = seal(documents.SessionDocument, session, key);
  const emptyRoot = new MerkleTree().root();
  const origin = namesIn(rows.at(-1)?.[0])[0] ?? "";
  t.strictSame(
    rows.map(([, , is = ""]) => is.replaceAll("`", "")),
    [
      key.publicKey,
      canonicalJsonText(parsed(canonical)),
      documentDigest("plan", parsed(digest)),
      envelopeDigest(envelope),
      envelope.signatures[0]?.sig,
      Buffer.from(leafHash(new TextEncoder().encode(leaf))).toString("hex"),
      toBase64(emptyRoot),
      signCheckpoint({ origin, size: 0, root: emptyRoot }, key).trim().split(" ").at(-1),
    ],
  );
});

type Operation = {
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly parameters?: readonly { readonly in: string; readonly name: string }[];
};
type Routes = { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> };

/** Method, path, and the names of the body's members or of the query. */
function routesIn({ paths }: Routes): string[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { requestBody, parameters = [] }]) => {
      const body = Object.keys(requestBody?.content["application/json"]?.schema.properties ?? {});
      const query = parameters.filter((one) => one.in === "query").map(({ name }) => name);
      return [method.toUpperCase(), path, ...[...body, ...query].sort()].join(" ");
    }),
  );
}

t.test("the routes are those of the running program, open to whom the protocol says", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const site = await federation.enrol("hospital-a");
  const rows = table("docs/PROTOCOL.md", "routes");
  const listed = rows.map(([method, path, , body]) =>
    [method, only(path), ...sorted(namesIn(body))].join(" "),
  );
  const served = (await (await fetch(`${federation.url}/docs/json`)).json()) as Routes; // OpenAPI.
  const head = "HEAD /v1/uploads/{sha256}"; // OpenAPI lists no HEAD; it is called below.
  t.strictSame(sorted(listed), sorted([...routesIn(served), head]));

  const status = async (method = "", path = "", token = ""): Promise<number> => {
    const url = federation.url + path.replace("{site}", "hospital-x").replace(/\{[^}]+\}/g, "0".repeat(64));
    const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(url, { method, headers });
    await response.arrayBuffer();
    return response.status;
  };
  for (const [method, cell, who = ""] of rows) {
    const path = only(cell);
    const isPublic = who === "anyone";
    t.equal((await status(method, path)) === 401, !isPublic, `${method} ${path} without a token`);
    if (isPublic) continue;
    const isRefused = (await status(method, path, site.token)) === 403;
    t.equal(isRefused, who === "operator", `${method} ${path} with a site's token`);
    t.not(await status(method, path, federation.operatorToken), 403, `${method} ${path} for the operator`);
  }
});

t.test("the phases of a study are those of the machine", async (t) => {
  const declared =
    /export type StudyPhase = ([^;]+);/.exec(read("shared/protocol/study-state.ts"))?.[1] ?? "";
  const phases = [...declared.matchAll(/"([a-z]+)"/g)].map((match) => match[1] ?? "");
  const rows = table("docs/PROTOCOL.md", "phases");
  const named = new Set(rows.flatMap(([from, , , to]) => [...namesIn(from), ...namesIn(to)]));
  t.strictSame(sorted(named), sorted(phases));
  const kinds = variants(StudyRecord, ["kind"]).map((line) => line.split(" ")[0]);
  for (const name of rows.flatMap(([, , records]) => namesIn(records))) t.ok(kinds.includes(name), name);
});

t.test("exit codes are those of the programs", async (t) => {
  const rows = (codes: Readonly<Record<string, { code: number; sentence: string }>>): string[][] =>
    Object.values(codes).map(({ code, sentence }) => [String(code), sentence]);
  const written = (name: string): string[][] =>
    table("docs/OPERATIONS.md", name).map(([code = "", sentence = ""]) => [code, sentence]);
  t.strictSame(written("exit-codes-consilium"), rows(coordinatorExits));
  t.strictSame(written("exit-codes-consilium-site"), rows(siteExits));
});

/** Names of the environment entries that a configuration reads. */
const entriesOf = (file: string): string[] =>
  [...read(file).matchAll(/read\.(?:text|optional|integer|oneOf)\(\s*"([A-Z_]+)"/g)].map(
    (match) => match[1] ?? "",
  );

t.test("settings from the environment are all listed, here and in .env.example", async (t) => {
  const operations = read("docs/OPERATIONS.md");
  for (const [name, file] of [
    ["environment-coordinator", "coordinator/config.ts"],
    ["environment-site", "site-agent/config.ts"],
  ] as const) {
    const listed = tableIn(operations, name).map(([entry]) => only(entry));
    t.ok(entriesOf(file).length > 3, `${file} was understood`);
    t.strictSame(sorted(new Set(listed)), sorted(new Set(entriesOf(file))), name);
  }
  const example = new Set(
    [...read(".env.example").matchAll(/^#? ?([A-Z_]+)=/gm)].map((match) => match[1] ?? ""),
  );
  const all = [...entriesOf("coordinator/config.ts"), ...entriesOf("site-agent/config.ts")];
  t.strictSame(sorted(example), sorted(new Set(all)));
});

/** Files below a folder, without tests. */
function sourcesIn(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(folder, file));
}

t.test("what can leave a house is listed, message by message", async (t) => {
  const overHttp = sourcesIn("site-agent/transport").flatMap((file) =>
    [...read(file).matchAll(/message: "([a-z]+(?:[.-][a-z]+)+)"/g)].map((match) => match[1] ?? ""),
  );
  const overSocket = variants(ToCoordinator).map((line) => line.split(" ")[0] ?? "");
  const listed = table("docs/WHAT-LEAVES-THE-HOUSE.md", "messages").flatMap(([name]) => namesIn(name));
  t.ok(overHttp.length > 10, "requests were found");
  t.strictSame(sorted(listed), sorted(new Set([...overHttp, ...overSocket])));
});

/** Commands in the blocks of a document, with the program's sources that must know their words. */
function commandLines(text: string): string[] {
  const fences = [...text.matchAll(/^ *```(\w*)\n([\s\S]*?)^ *```$/gm)];
  return fences
    .filter(([, language]) => language === "" || language === "sh")
    .flatMap(([, , block = ""]) => block.replaceAll("\\\n", " ").split("\n"))
    .filter((line) => /(^|\s)consilium(-site)?\s/.test(line) && !line.startsWith("#"));
}

function unknownWords(line: string, sources: Readonly<Record<string, string>>): string[] {
  const [, program = "", rest = ""] = /(?:^|\s)(consilium(?:-site)?)\s+(.*)$/.exec(line) ?? [];
  const source = sources[program] ?? "";
  const options = [...rest.matchAll(/(?:^|\s)(--[a-z0-9-]+)/g)].map((match) => match[1] ?? "");
  const [verb = ""] = rest.replace(/--(data|url|token-file) \S+/g, "").match(/\b[a-z]+\b/) ?? [];
  const isKnown = new RegExp(`command\\(\\s*["\`]${verb}\\b`).test(source);
  return [
    ...(isKnown ? [] : [verb]),
    ...options.filter((option) => !source.includes(`${option} `) && !source.includes(`"${option}"`)),
  ];
}

t.test("commands in the documents are commands of the programs", async (t) => {
  const sources = {
    consilium: read("coordinator/main.ts"),
    "consilium-site": read("site-agent/main.ts"),
  };
  t.strictSame(unknownWords("consilium --data x dance --high", sources), ["dance", "--high"]);
  const files = [
    "README.md",
    "docker/README.md",
    "SECURITY.md",
    ...readdirSync(join(root, "docs"))
      .filter((file) => file.endsWith(".md"))
      .map((file) => `docs/${file}`),
  ];
  const lines = files.flatMap((file) => commandLines(read(file)));
  t.ok(lines.length > 30, "commands were found");
  for (const line of lines) t.strictSame(unknownWords(line, sources), [], line);
});

t.test("the map in the architecture names every folder", async (t) => {
  const text = read("docs/ARCHITECTURE.md");
  for (const workspace of ["shared", "coordinator", "site-agent", "test"]) {
    const isSource = (file: string): boolean => file.endsWith(".ts") && !file.includes("node_modules");
    const folders = readdirSync(join(root, workspace), { recursive: true, encoding: "utf8" })
      .filter((file) => isSource(file) && file.includes("/"))
      .map((file) => file.split("/")[0] ?? "");
    t.ok(folders.length > 5, `${workspace} was read`);
    for (const name of new Set(folders))
      t.ok(text.includes(`\`${workspace}/${name}\``), `${workspace}/${name}`);
  }
});

t.test("every decision record is in the list, with what a record needs", async (t) => {
  const records = readdirSync(join(root, "docs/adr")).filter((file) => /^[0-9]{4}-/.test(file));
  const list = read("docs/adr/README.md");
  t.ok(records.length > 5);
  for (const file of records) {
    t.ok(list.includes(`(${file})`), `${file} is listed`);
    for (const part of ["## Context", "## Decision", "## Consequences"])
      t.ok(read(`docs/adr/${file}`).includes(part), `${file}: ${part}`);
  }
});

/** For the reader of a failing run: the test's own tools are shown able to fail. */
t.test("the checks of this file fail on a document that lies", async (t: Test) => {
  const protocol = read("docs/PROTOCOL.md");
  const lie = protocol.replace(/(\| `request\.malformed`\s*\|\s*)400/, "$1418");
  t.not(tableIn(lie, "errors")[0]?.[1], tableIn(protocol, "errors")[0]?.[1]);
  t.notSame(namesIn("`site`, `reason`"), namesIn("`site`"));
});
