import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { compileCommand, compileKernelsCommand, findCompiler, readKernelSources } from "./compile-addon.ts";
import { fetchFile, hasDigest, missingFiles, takeBrought } from "./fetch-files.ts";
import { type PinnedFile, pinnedFiles } from "./pinned-files.ts";
import { fetchCommand, findClients } from "./registry-clients.ts";
import { type Command, commandRunner, type RunCommand } from "./run-command.ts";
import { chooseSource } from "./set-up.ts";
import { filesOf, fingerprintOf, knownFiles, planSetUp } from "./set-up-plan.ts";

/** A machine on which only these programs are. */
const withPrograms =
  (...present: string[]): RunCommand =>
  async ({ program }) => ({ outcome: present.includes(program) ? "done" : "missing", output: "" });

const wish = { kind: "cpu", source: "pip", hasNodeHeaders: true } as const;
const namesOf = (files: readonly PinnedFile[]): string[] => files.map(({ fileName }) => fileName);

function pinned(fileName: string, content: string, registry: PinnedFile["registry"] = "pip"): PinnedFile {
  const hex = createHash("sha256").update(content).digest("hex");
  return { registry, request: "thing==1", fileName, megabytes: 1, digest: { algorithm: "sha256", hex } };
}

t.test("the packages are those of the lock file, to the digest", async (t) => {
  const lock = JSON.parse(readFileSync(new URL("../../package-lock.json", import.meta.url), "utf8")) as {
    packages: Record<string, { version: string; integrity: string }>;
  }; // Our own file.
  const { nodePackages, dependencies } = pinnedFiles;
  const all = {
    "@tensorflow/tfjs-node": nodePackages.cpu,
    "@tensorflow/tfjs-node-gpu": nodePackages.gpu,
    ...dependencies,
  };
  for (const [name, { request, digest }] of Object.entries(all)) {
    const locked = lock.packages[`node_modules/${name}`];
    t.equal(request, `${name}@${locked?.version}`);
    t.equal(`sha512-${Buffer.from(digest.hex, "hex").toString("base64")}`, locked?.integrity, name);
  }
});

t.test("a plan is the package, what it requires, and TensorFlow from where it is wanted", async (t) => {
  const small = ["tensorflow-tfjs-node-4.22.0.tgz", "google-protobuf-3.21.4.tgz", "progress-2.0.3.tgz"];
  const wheel = "tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl";
  const cpu = planSetUp(wish, pinnedFiles);
  t.strictSame(namesOf(filesOf(cpu)), [...small, wheel]);
  t.equal(cpu.archives[0]?.entries["tensorflow/libtensorflow_cc.so.2"], "deps/lib/libtensorflow_cc.so.2");
  t.ok(cpu.hasHeaders);
  const bare = planSetUp({ ...wish, source: "maven", hasNodeHeaders: false }, pinnedFiles);
  const jar = "tensorflow-core-native-1.1.0-linux-x86_64.jar";
  t.strictSame(namesOf(filesOf(bare)), [...small, "node-api-headers-1.9.0.tgz", jar]);
  t.notOk(bare.hasHeaders, "the jar brings none");
  const gpu = planSetUp({ ...wish, kind: "gpu" }, pinnedFiles);
  t.equal(gpu.packageFolder, "tfjs-node-gpu");
  t.equal(gpu.archives.length, 13, "TensorFlow and twelve wheels of CUDA");
  const fingerprints = [cpu, bare, gpu].map((plan) => fingerprintOf(plan, null));
  const withKernels = ["a", "b"].map((sha256) => fingerprintOf(cpu, { sha256 }));
  t.equal(new Set([...fingerprints, ...withKernels]).size, 5);
  for (const { digest } of knownFiles("gpu", pinnedFiles)) t.match(digest.hex, /^([0-9a-f]{64}){1,2}$/);
});

t.test("what is there decides where TensorFlow comes from, then whose client is", async (t) => {
  const { cpuWheel, cpuJar } = pinnedFiles;
  const source = (there: PinnedFile[], python: string | null, maven: string | null) =>
    chooseSource({ there, clients: { python, maven } }, pinnedFiles);
  t.equal(source([], "python3", "mvn"), "pip");
  t.equal(source([], null, "mvn"), "maven");
  t.equal(source([], null, null), "pip", "which then says what is missing");
  t.equal(source([cpuJar], "python3", null), "maven");
  t.equal(source([cpuWheel, cpuJar], null, "mvn"), "pip");
  t.strictSame(await findClients(withPrograms("python", "mvn")), { python: "python", maven: null });
  t.strictSame(await findClients(withPrograms("mvn")), { python: null, maven: "mvn" });
});

t.test("clients are asked for one exact file, and keep their caches in the project", async (t) => {
  const clients = { python: "python3", maven: "mvn" };
  const command = (file: PinnedFile): Command | null => fetchCommand(file, clients, "/work");
  const pip = command(pinnedFiles.cpuWheel);
  t.equal(pip?.program, "python3");
  t.match(pip?.args.join(" "), /--no-deps --no-cache-dir .*--platform manylinux_2_27_x86_64 --dest \/work/);
  t.equal(pip?.args.at(-1), "tensorflow-cpu==2.21.0");
  t.strictSame(pip?.environment, { TMPDIR: "/work" });
  const old = pinnedFiles.cudaWheels.find(({ fileName }) => fileName.includes("manylinux2014"));
  t.match(
    old && command(old)?.args.join(" "),
    /--platform manylinux2014_x86_64 --platform manylinux_2_17_x86/,
  );
  t.match(command(pinnedFiles.cpuJar)?.args.join(" "), /dependency:copy .*-Dmaven.repo.local=\/work/);
  t.match(
    command(pinnedFiles.nodePackages.cpu)?.args.join(" "),
    /^pack @tensorflow\/tfjs-node@4.22.0 .*--ignore-scripts/,
  );
  t.equal(fetchCommand(pinnedFiles.cpuWheel, { python: null, maven: null }, "/work"), null);
});

type Asked = { places: { store: string; work: string }; printed: string[] };

function store(t: Test): Asked {
  const folder = t.testdir({ store: {}, work: {} });
  return { places: { store: join(folder, "store"), work: join(folder, "work") }, printed: [] };
}

/** A registry that delivers this content for whatever it is asked. */
const delivering =
  (fileName: string, content: string): RunCommand =>
  async ({ args }) => {
    writeFileSync(join(args[args.indexOf("--dest") + 1] ?? "", fileName), content);
    return { outcome: "done", output: "" };
  };

async function fetching(file: PinnedFile, run: RunCommand, { places, printed }: Asked): Promise<void> {
  const clients = { python: "python3", maven: null };
  let stops = 0;
  const ticker = () => () => {
    stops += 1;
  };
  try {
    await fetchFile(file, { ...places, clients }, { run, print: (line) => printed.push(line), ticker });
  } finally {
    if (stops !== 1) printed.push("the ticker runs on");
  }
}

t.test("a file gets into the store whole and with its digest, or not at all", async (t) => {
  const file = pinned("thing.whl", "right");
  const asked = store(t);
  await fetching(file, delivering("thing.whl", "right"), asked);
  t.ok(await hasDigest(join(asked.places.store, "thing.whl"), file));
  t.strictSame(asked.printed, ["Fetching thing.whl (1 MB) with pip ..."], "it is announced");
  const faults: [RunCommand, string][] = [
    [delivering("thing.whl", "wrong"), "native.digest"],
    [delivering("other.whl", "right"), "native.download"],
    [async () => ({ outcome: "failed", output: "no route" }), "native.download"],
    [async () => ({ outcome: "missing", output: "" }), "native.no-tool"],
  ];
  for (const [run, code] of faults) {
    const other = store(t);
    await t.rejects(fetching(file, run, other), { code });
    t.strictSame(
      [readdirSync(other.places.store), readdirSync(other.places.work)],
      [[], []],
      "nothing is left",
    );
    t.equal(other.printed.includes("no route"), code === "native.download" && other.printed.length === 2);
  }
  const jar = { ...file, registry: "maven" } as const;
  await t.rejects(
    fetchFile(
      jar,
      { ...asked.places, clients: { python: null, maven: null } },
      {
        run: withPrograms(),
        print: () => {},
        ticker: () => () => {},
      },
    ),
    { code: "native.no-client" },
  );
});

t.test("what is in the store is not fetched again, unless it is damaged", async (t) => {
  const { places } = store(t);
  const files = [pinned("whole", "whole"), pinned("damaged", "right"), pinned("absent", "x")];
  writeFileSync(join(places.store, "whole"), "whole");
  writeFileSync(join(places.store, "damaged"), "cut");
  t.strictSame(namesOf(await missingFiles(files, places.store)), ["damaged", "absent"]);
  t.strictSame(readdirSync(places.store), ["whole"], "the damaged one is gone");
});

t.test("a file that was brought is known by its digest, under any name", async (t) => {
  const { places } = store(t);
  const known = [pinned("a.whl", "a"), pinned("b.tgz", "b")];
  const brought = join(places.work, "..", "brought");
  mkdirSync(brought);
  const take = (from: string) => takeBrought(from, { known, ...places });
  writeFileSync(join(brought, "renamed"), "a");
  t.strictSame(namesOf(await take(join(brought, "renamed"))), ["a.whl"]);
  t.strictSame(readdirSync(places.store), ["a.whl"]);
  writeFileSync(join(brought, "b.tgz"), "b");
  t.strictSame(namesOf(await take(brought)), ["b.tgz"], "of a folder what has a known name");
  t.ok(existsSync(join(brought, "b.tgz")), "which stays where it is");
  writeFileSync(join(brought, "b.tgz"), "other");
  await t.rejects(take(brought), { code: "native.digest" });
  await t.rejects(take(join(brought, "b.tgz")), { code: "native.digest" });
  await t.rejects(take(join(brought, "absent")), { code: "native.from" });
});

t.test(
  "the compiler is the one that is wished for, else one that is there, else there is none",
  async (t) => {
    t.equal(await findCompiler(undefined, withPrograms("clang++")), "clang++");
    t.equal(await findCompiler(undefined, withPrograms("g++", "clang++")), "g++");
    t.equal(await findCompiler("my-c++", withPrograms("g++", "my-c++")), "my-c++");
    await t.rejects(findCompiler(undefined, withPrograms()), {
      code: "native.no-compiler",
      message: /install g\+\+/,
    });
    const base = { compiler: "g++", packageFolder: "/p", nodeHeaders: "/node", hasHeaders: true };
    const { args } = compileCommand(base);
    t.match(
      args.join(" "),
      /-I \/node -I \/p -I \/p\/deps\/include .* -o \/p\/lib\/napi-v8\/tfjs_binding.node/,
    );
    t.ok(
      args.includes("-Wl,-rpath,$ORIGIN/../../deps/lib"),
      "it finds its libraries wherever the project lies",
    );
    t.match(compileCommand({ ...base, hasHeaders: false }).args.join(" "), /-I \S+\/native\/c-interface /);
    const { names } = await readKernelSources();
    const kernels = compileKernelsCommand(base, names).args.join(" ");
    t.match(kernels, /kernels\/loops.cc .* -o \/p\/lib\/napi-v8\/consilium_kernels.node /);
    t.notMatch(kernels, /check-loops/, "the program of the tests is no part of them");
    t.notMatch(kernels, /march/, "and what is built here must run on other processors");
  },
);

t.test("a tool that fails, or is not there, is reported with its last words", async (t) => {
  const stop = new AbortController();
  const run = commandRunner({ PATH: process.env["PATH"] ?? "" }, stop.signal);
  const node = (script: string) => run({ program: process.execPath, args: ["-e", script] });
  t.strictSame(await node("console.log(1); console.error(2); process.exitCode = 3"), {
    outcome: "failed",
    output: "1\n2\n",
  });
  t.equal((await node("console.log('x'.repeat(100000))")).output.length, 4000);
  t.equal((await run({ program: "consilium-no-such-program", args: [] })).outcome, "missing");
  const endless = node("setInterval(() => {}, 1000)");
  stop.abort();
  t.equal((await endless).outcome, "failed", "and stopping ends it");
});
