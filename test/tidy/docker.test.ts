// The container files against the repository: what they copy, start, set and open must exist under these names. No
// container engine is needed, and none is replaced by this.

import { existsSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { readSettings } from "@consilium/coordinator/config.ts";
import t from "tap";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { parse } from "yaml";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const inRoot = (file: string): boolean => existsSync(join(root, file));

type Instruction = { readonly word: string; readonly rest: string };

/** Instructions with their continuation lines joined; comments are left out. */
export function instructionsIn(text: string): Instruction[] {
  const lines = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n");
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [word = "", ...rest] = line.split(" ");
      return { word, rest: rest.join(" ").trim() };
    });
}

/** Names that the programs read from the environment. */
function settingsOf(...files: string[]): string[] {
  return files.flatMap((file) =>
    [...read(file).matchAll(/"((?:CONSILIUM_|DATABASE_)[A-Z_]+)"/g)].map((match) => match[1] ?? ""),
  );
}

/** Settings of Node itself. */
const nodeSettings = ["NODE_ENV", "NODE_EXTRA_CA_CERTS"];
const files = {
  "docker/coordinator.Dockerfile": "coordinator/config.ts",
  "docker/site-agent.Dockerfile": "site-agent/config.ts",
} as const;

/** Faults of a Dockerfile. */
function faultsOf(text: string, settingsFile: string): string[] {
  const instructions = instructionsIn(text);
  const of = (word: string): string[] =>
    instructions.filter((one) => one.word === word).map(({ rest }) => rest);
  const stages = of("FROM").map((rest) => / AS (\S+)$/.exec(rest)?.[1] ?? "");
  const known = [...settingsOf(settingsFile), ...nodeSettings];
  const copied = of("COPY").filter((rest) => !rest.startsWith("--from="));
  const workspaces = of("RUN").flatMap((rest) =>
    [...rest.matchAll(/--workspace @consilium\/(\S+)/g)].map((match) => match[1] ?? ""),
  );
  const scripts = of("RUN").flatMap((rest) =>
    [...rest.matchAll(/node --import tsx (\S+)/g)].map((match) => match[1] ?? ""),
  );
  const started = of("ENTRYPOINT").map((rest) => (JSON.parse(rest) as string[])[1] ?? ""); // The exec form.
  return [
    ...copied
      .flatMap((rest) => rest.split(" ").slice(0, -1))
      .filter((path) => !inRoot(path))
      .map((path) => `copies ${path}`),
    ...of("COPY")
      .flatMap((rest) => /^--from=(\S+)/.exec(rest)?.[1] ?? [])
      .filter((stage) => !stages.includes(stage))
      .map((stage) => `copies from ${stage}`),
    ...workspaces.filter((name) => !inRoot(`${name}/package.json`)).map((name) => `installs ${name}`),
    ...[...scripts, ...started].filter((path) => !inRoot(path)).map((path) => `starts ${path}`),
    ...of("ENV")
      .flatMap((rest) => rest.split(" ").map((entry) => entry.split("=")[0] ?? ""))
      .filter((name) => !known.includes(name))
      .map((name) => `sets ${name}`),
    ...(of("USER").at(-1) === "node" ? [] : ["runs as root"]),
  ];
}

t.test("what the images copy, install, start and set exists", async (t) => {
  for (const [file, settings] of Object.entries(files)) {
    t.strictSame(faultsOf(read(file), settings), [], file);
    const started = instructionsIn(read(file)).some(({ word }) => word === "ENTRYPOINT");
    t.ok(started, `${file} was understood`);
  }
  const lie = [
    "FROM node:20 AS a",
    "COPY nowhere/ \\\n  here/",
    "COPY --from=b x y",
    "RUN npm ci --workspace @consilium/cloud",
    "ENV CONSILIUM_COLOUR=1",
    'ENTRYPOINT ["node", "nothing.js"]',
  ].join("\n");
  t.strictSame(faultsOf(lie, "coordinator/config.ts"), [
    "copies nowhere/",
    "copies from b",
    "installs cloud",
    "starts nothing.js",
    "sets CONSILIUM_COLOUR",
    "runs as root",
  ]);
});

t.test("an image brings the workspaces along that its sources import", async (t) => {
  for (const [file, side] of [
    ["docker/coordinator.Dockerfile", "coordinator"],
    ["docker/site-agent.Dockerfile", "site-agent"],
  ] as const) {
    const copies = instructionsIn(read(file)).filter(({ word }) => word === "COPY");
    for (const workspace of ["shared", side])
      t.ok(
        copies.some(({ rest }) => rest === `${workspace}/ ${workspace}/`),
        `${file} copies ${workspace}`,
      );
    const other = side === "coordinator" ? "site-agent" : "coordinator";
    t.notOk(
      copies.some(({ rest }) => rest === `${other}/ ${other}/`),
      `${file} leaves ${other} out`,
    );
  }
});

const Service = Type.Object({
  image: Type.Optional(Type.String()),
  build: Type.Optional(Type.Object({ context: Type.String(), dockerfile: Type.String() })),
  environment: Type.Optional(Type.Record(Type.String(), Type.String())),
  volumes: Type.Optional(Type.Array(Type.String())),
  ports: Type.Optional(Type.Array(Type.String())),
  networks: Type.Array(Type.String()),
  depends_on: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});
const Compose = Type.Object({
  services: Type.Record(Type.String(), Service),
  networks: Type.Record(Type.String(), Type.Unknown()),
  volumes: Type.Record(Type.String(), Type.Unknown()),
});

t.test("the composition names files, settings, volumes and networks that exist", async (t) => {
  const compose: unknown = parse(read("docker/compose.yaml"), { merge: true });
  const { services, networks, volumes } = Value.Parse(Compose, compose);
  t.strictSame(Object.keys(services).sort(), [
    "coordinator",
    "database",
    "hospital-a",
    "hospital-b",
    "hospital-c",
  ]);
  const known = [...settingsOf("coordinator/config.ts"), ...nodeSettings];
  const ofDatabase = ["POSTGRES_PASSWORD", /getenv \S+ (\S+)/.exec(read("docker/postgres/roles.sql"))?.[1]];
  for (const [name, service] of Object.entries(services)) {
    if (service.build)
      t.ok(inRoot(normalize(join("docker", service.build.context, service.build.dockerfile))), name);
    else t.ok(service.image, `${name} has an image`);
    for (const setting of Object.keys(service.environment ?? {}))
      t.ok((name === "database" ? ofDatabase : known).includes(setting), `${name} sets ${setting}`);
    for (const network of service.networks) t.ok(network in networks, `${name}: ${network}`);
    for (const other of Object.keys(service.depends_on ?? {}))
      t.ok(other in services, `${name} needs ${other}`);
    for (const source of (service.volumes ?? []).map((volume) => volume.split(":")[0] ?? "")) {
      if (source.startsWith("$")) continue;
      if (source.startsWith(".")) t.ok(inRoot(join("docker", source)), `${name} mounts ${source}`);
      else t.ok(source in volumes, `${name} keeps ${source}`);
    }
  }
  t.strictSame(services["database"]?.networks, ["inside"], "sites cannot reach the database");
  t.notOk(services["hospital-a"]?.networks.includes("inside"));
});

t.test(
  "the composed coordinator would start: its settings are complete, and its port is the program's",
  async (t) => {
    const { services } = Value.Parse(Compose, parse(read("docker/compose.yaml"), { merge: true }));
    const image = instructionsIn(read("docker/coordinator.Dockerfile"))
      .filter(({ word }) => word === "ENV")
      .flatMap(({ rest }) => rest.split(" ").map((entry) => entry.split("=")));
    const folder = t.testdir({ "cert.pem": "certificate", "key.pem": "key" });
    const given = { ...Object.fromEntries(image), ...services["coordinator"]?.environment };
    const tls = (name: string): string => String(given[name]).replace("/tls", folder);
    const environment = {
      ...given,
      CONSILIUM_TLS_CERT: tls("CONSILIUM_TLS_CERT"),
      CONSILIUM_TLS_KEY: tls("CONSILIUM_TLS_KEY"),
    };
    const { config, secrets } = readSettings(environment);
    t.equal(config.dataFolder, "/data");
    t.match(secrets.databaseUrl, /@database:5432\//);
    const { CONSILIUM_TLS_CERT: _, ...withoutTls } = environment;
    t.throws(() => readSettings(withoutTls), /TLS/);
    const { port } = readSettings({}).config;
    t.equal(config.port, port);
    t.strictSame(services["coordinator"]?.ports, [`127.0.0.1:${port}:${port}`]);
    t.equal(new URL(config.publicUrl ?? "").port, String(port));
    const exposed = instructionsIn(read("docker/coordinator.Dockerfile")).find(
      ({ word }) => word === "EXPOSE",
    );
    t.equal(exposed?.rest, String(port));
  },
);

t.test("nothing that an image needs is left out of what the engine is sent", async (t) => {
  const ignored = read(".dockerignore")
    .split("\n")
    .filter((line) => line && !line.startsWith("*"));
  for (const file of Object.keys(files))
    for (const { word, rest } of instructionsIn(read(file))) {
      if (word !== "COPY" || rest.startsWith("--from=")) continue;
      for (const path of rest.split(" ").slice(0, -1))
        t.notOk(
          ignored.some((entry) => path.replace(/\/$/, "") === entry),
          `${file}: ${path}`,
        );
    }
});
