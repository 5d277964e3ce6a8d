import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { BackendReport, ProbeFailure } from "../backend/backend-report.ts";
import { KERNELS_ADDON } from "../backend/kernels-addon.ts";
import { archiveOf } from "./archive-fixture.ts";
import { ADDON } from "./compile-addon.ts";
import { type Catalogue, type PinnedFile, pinnedFiles } from "./pinned-files.ts";
import type { RunCommand } from "./run-command.ts";
import { type SetUpMachine, type SetUpRequest, setUpNative } from "./set-up.ts";
import { planSetUp } from "./set-up-plan.ts";

/** The archives that a registry of the tests has, and a catalogue that pins them. */
const wheelEntries = planSetUp({ kind: "cpu", source: "pip", hasNodeHeaders: true }, pinnedFiles).archives[0]
  ?.entries;
const wheel = archiveOf(
  Object.keys(wheelEntries ?? {}).map((name) => ({ name, data: `content of ${name}` })),
);
const cudaArchive = (name: string): Buffer =>
  archiveOf([
    { name: `nvidia/${name}/lib/lib${name}.so.12`, data: name },
    { name: `nvidia/${name}/include/${name}.h`, data: "header" },
    { name: "nvidia/__init__.py" }, // Which each of these wheels has.
  ]);

function repinned(file: PinnedFile, content: Uint8Array | string): PinnedFile {
  const hex = createHash("sha256").update(content).digest("hex");
  return { ...file, digest: { algorithm: "sha256", hex } };
}
const tarball = (file: PinnedFile): PinnedFile => repinned(file, file.fileName);
const catalogue: Catalogue = {
  nodePackages: { cpu: tarball(pinnedFiles.nodePackages.cpu), gpu: tarball(pinnedFiles.nodePackages.gpu) },
  dependencies: Object.fromEntries(
    Object.entries(pinnedFiles.dependencies).map(([name, file]) => [name, tarball(file)]),
  ),
  nodeHeaders: tarball(pinnedFiles.nodeHeaders),
  cpuWheel: repinned(pinnedFiles.cpuWheel, wheel),
  gpuWheel: repinned(pinnedFiles.gpuWheel, wheel),
  cpuJar: pinnedFiles.cpuJar,
  cudaWheels: pinnedFiles.cudaWheels.slice(0, 2).map((file) => repinned(file, cudaArchive(file.fileName))),
};
const contentOf = ({ fileName, registry }: PinnedFile): Uint8Array | string => {
  if (registry === "npm") return fileName;
  return fileName.startsWith("tensorflow") ? wheel : cudaArchive(fileName);
};

type Proof = { readonly unusable: string } | { readonly failures: string[] };

const proven = (proof: Proof): BackendReport | ProbeFailure =>
  "unusable" in proof
    ? proof
    : {
        ...{ name: "tfjs-node", version: "4.22.0", devices: [], isGpu: false },
        selfTest: { passed: proof.failures.length === 0, failures: proof.failures },
      };

type Fakes = {
  readonly absent?: readonly string[];
  /** What the compiler does, with a name in what it is to make. */
  readonly compiles?: (path: string) => boolean;
  readonly proof?: Proof;
  readonly over?: Partial<SetUpMachine>;
};

function machineWith(
  t: Test,
  { absent = [], compiles = () => true, proof = { failures: [] }, over = {} }: Fakes = {},
) {
  const root = t.testdir({ node_modules: { "@tensorflow": { tfjs: {} } } });
  const places = { store: join(root, "data/native"), scope: join(root, "node_modules/@tensorflow") };
  const fetched: string[] = [];
  const printed: string[] = [];
  const known = [catalogue.nodePackages.cpu, catalogue.nodePackages.gpu, catalogue.nodeHeaders];
  known.push(...Object.values(catalogue.dependencies), ...catalogue.cudaWheels);
  known.push(catalogue.cpuWheel, catalogue.gpuWheel);
  const run: RunCommand = async ({ program, args }) => {
    if (absent.includes(program)) return { outcome: "missing", output: "" };
    const option = (name: string): string => args[args.indexOf(name) + 1] ?? "";
    const file = known.find(({ request }) => args.includes(request));
    if (file) {
      fetched.push(file.fileName);
      writeFileSync(
        join(option(file.registry === "npm" ? "--pack-destination" : "--dest"), file.fileName),
        contentOf(file),
      );
    } else if (program === "tar") {
      writeFileSync(join(option("-C"), "package.json"), readFileSync(option("-xzf")));
    } else if (args.includes("-o")) {
      if (!compiles(option("-o"))) return { outcome: "failed", output: "no such header" };
      writeFileSync(option("-o"), "addon");
    }
    return { outcome: "done", output: "" };
  };
  const machine: SetUpMachine = {
    catalogue,
    run,
    print: (line) => printed.push(line),
    ticker: () => () => {},
    system: { platform: "linux", architecture: "x64", hasGlibc: true },
    nodeHeaders: "/node/include",
    compilerWish: undefined,
    processId: 77,
    isAlive: (processId) => processId === 77,
    freeBytes: async () => 1e12,
    prove: async () => proven(proof),
    ...over,
  };
  const cpu: SetUpRequest = { kind: "cpu", from: null, via: null };
  const setUp = (request: Partial<SetUpRequest> = {}, other: Partial<SetUpMachine> = {}) =>
    setUpNative({ ...cpu, ...request }, places, { ...machine, ...other });
  return { places, fetched, printed, setUp, root };
}

const made = (scope: string): string[] => readdirSync(scope).sort();

t.test("the package is put together, compiled, moved into its place, and proven", async (t) => {
  const { places, setUp, printed, fetched } = machineWith(t);
  t.equal((await setUp()).name, "tfjs-node");
  const at = (path: string): string => join(places.scope, "tfjs-node", path);
  t.equal(readFileSync(at(ADDON), "utf8"), "addon");
  t.match(readFileSync(at("deps/lib/libtensorflow.so"), "utf8"), /libtensorflow_cc/, "the linker's name");
  t.ok(existsSync(at("deps/include/tensorflow/c/c_api.h")));
  t.equal(readFileSync(at("node_modules/progress/package.json"), "utf8"), "progress-2.0.3.tgz");
  const { find } = (await import(at("node_modules/@mapbox/node-pre-gyp/index.js"))) as {
    find: (manifest: string) => string;
  }; // Written by the code under test.
  t.equal(find(at("package.json")), at(ADDON), "its stand-in finds the addon");
  t.strictSame(made(places.scope), ["tfjs", "tfjs-node"], "nothing else is in node_modules");
  t.strictSame(made(places.store), fetched.sort(), "the downloads are kept, and nothing else");
  const [first = ""] = printed;
  t.match(first, /^To be downloaded: about 277 MB/, "which is said before anything is fetched");
});

t.test(
  "a second run finds it and fetches nothing; after npm ci it is built again from what was kept",
  async (t) => {
    const { places, setUp, fetched, printed } = machineWith(t);
    await setUp();
    const count = fetched.length;
    await setUp();
    t.match(printed.at(-1), /set up already/);
    rmSync(join(places.scope, "tfjs-node"), { recursive: true });
    await setUp();
    t.equal(fetched.length, count);
    t.ok(printed.some((line) => line.startsWith("Nothing to be downloaded")));
    t.ok(existsSync(join(places.scope, "tfjs-node", ADDON)));
  },
);

t.test(
  "CUDA's libraries get where TensorFlow looks for them, without what a compiler and Python want",
  async (t) => {
    const { places, setUp } = machineWith(t);
    await setUp({ kind: "gpu" });
    const nvidia = join(places.scope, "tfjs-node-gpu/deps/nvidia");
    const names = catalogue.cudaWheels.map(({ fileName }) => fileName);
    t.strictSame(made(nvidia), names.sort());
    for (const name of names) t.strictSame(readdirSync(join(nvidia, name)), ["lib"]);
  },
);

t.test("kernels that do not compile are done without, loudly, and tried again", async (t) => {
  let works = false;
  const { places, setUp, printed } = machineWith(t, {
    compiles: (path) => works || !path.endsWith(KERNELS_ADDON),
  });
  const kernels = join(places.scope, "tfjs-node", KERNELS_ADDON);
  await setUp();
  t.notOk(existsSync(kernels));
  t.ok(existsSync(join(places.scope, "tfjs-node", ADDON)));
  t.match(printed.join("\n"), /no such header\n.*slower/);
  works = true;
  await setUp();
  t.ok(existsSync(kernels));
  await setUp({ kind: "gpu" });
  t.notOk(existsSync(join(places.scope, "tfjs-node-gpu", KERNELS_ADDON)), "they are the processor's");
});

t.test("kernels with which TensorFlow does not work are taken out, loudly, and tried again", async (t) => {
  for (const fault of [{ unusable: "undefined symbol" }, { failures: ["GELU"] }]) {
    const { places, setUp, printed } = machineWith(t);
    const kernels = join(places.scope, "tfjs-node", KERNELS_ADDON);
    const prove = async (): Promise<BackendReport | ProbeFailure> =>
      proven(existsSync(kernels) ? fault : { failures: [] });
    t.ok((await setUp({}, { prove })).selfTest.passed);
    t.notOk(existsSync(kernels));
    t.match(printed.join("\n"), /does not work with our own kernels \(.*(symbol|GELU)\)/);
    await setUp();
    t.ok(existsSync(kernels), "a later run builds them again");
    await t.rejects(setUp({ kind: "gpu" }, { prove: async () => proven(fault) }), {
      code: "native.unproven",
    });
  }
});

t.test("a wheel that was brought is not fetched, and a foreign one is refused", async (t) => {
  const { places, setUp, fetched, root } = machineWith(t);
  const from = join(root, "brought.whl");
  writeFileSync(from, wheel);
  await setUp({ from });
  t.notOk(fetched.some((name) => name.endsWith(".whl")));
  writeFileSync(from, cudaArchive("cublas"));
  await t.rejects(setUp({ from }), { code: "native.digest" });
  t.ok(existsSync(join(places.scope, "tfjs-node", ADDON)), "what works is left alone");
});

t.test("whatever fails, node_modules is as it was, and whole downloads are kept", async (t) => {
  const faults: [Fakes, string][] = [
    [{ compiles: () => false }, "native.compile"],
    [{ proof: { unusable: "its process ended without an answer" } }, "native.unproven"],
    [{ proof: { failures: ["matMul"] } }, "native.unproven"],
    [{ absent: ["tar"] }, "native.no-tool"],
    [{ over: { freeBytes: async () => 1 } }, "native.no-space"],
    [{ absent: ["python3", "python", "mvn"] }, "native.no-client"],
    [{ absent: ["g++", "c++", "clang++"] }, "native.no-compiler"],
    [{ over: { system: { platform: "darwin", architecture: "arm64", hasGlibc: false } } }, "native.platform"],
    [{ over: { system: { platform: "linux", architecture: "x64", hasGlibc: false } } }, "native.platform"],
    [{ over: { prove: () => Promise.reject(new Error("unforeseen")) } }, ""],
  ];
  for (const [fakes, code] of faults) {
    const { places, setUp } = machineWith(t, fakes);
    const before = join(places.scope, "tfjs-node");
    mkdirSync(before);
    writeFileSync(join(before, "package.json"), "before");
    await t.rejects(setUp(), code ? { code } : /unforeseen/);
    t.strictSame(made(places.scope), ["tfjs", "tfjs-node"], code);
    t.equal(readFileSync(join(before, "package.json"), "utf8"), "before", "what was there is back");
    if (existsSync(places.store)) t.notMatch(made(places.store).join(), /work-/);
  }
});

t.test("the compiler is looked for before anything is downloaded", async (t) => {
  const { setUp, fetched } = machineWith(t, { absent: ["g++", "c++", "clang++"] });
  await t.rejects(setUp(), { code: "native.no-compiler" });
  t.strictSame(fetched, []);
});

t.test("what a killed run has left is cleaned up, and what a living one has is not", async (t) => {
  const { places, setUp } = machineWith(t, { over: { isAlive: (processId) => processId !== 5 } });
  const left = (folder: string, name: string): void => {
    mkdirSync(join(folder, name), { recursive: true });
  };
  left(places.store, "work-5");
  left(places.store, "work-6");
  left(places.scope, ".tfjs-node.made-5");
  left(places.scope, ".tfjs-node.previous");
  left(places.scope, ".another");
  await setUp();
  t.strictSame(made(places.scope), [".another", "tfjs", "tfjs-node"]);
  t.ok(made(places.store).includes("work-6"));
  t.notOk(made(places.store).includes("work-5"));
});

t.test("a Node without its C headers gets them from npm", async (t) => {
  const { setUp, fetched } = machineWith(t, { over: { nodeHeaders: null } });
  await setUp();
  t.ok(fetched.includes("node-api-headers-1.9.0.tgz"));
});
