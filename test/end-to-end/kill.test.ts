// Processes die without warning in the middle of rounds. The rounds complete, nothing accepted is lost or counted twice,
// and the weights are those of a run in which nothing happened.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import {
  type SmallFederation,
  smallFederation,
  until,
  verifyLog,
  weightsByRound,
} from "./small-federation.ts";

const hospitals = ["hospital-a", "hospital-b", "hospital-c"];

async function undisturbed(federation: SmallFederation): Promise<string[]> {
  const coordinator = await federation.startCoordinator();
  await federation.openStudy();
  const agents = hospitals.map((name) => federation.startAgent(name));
  await until(federation.status, ({ phase }) => phase === "finished");
  const weights = await weightsByRound(federation);
  await Promise.all(agents.map((agent) => agent.stop()));
  await coordinator.stop();
  return weights;
}

async function disturbed(federation: SmallFederation): Promise<string[]> {
  let coordinator = await federation.startCoordinator();
  await federation.openStudy();
  const trace = join(federation.options.out, "opened.txt");
  const tracer = new URL("../support/trace-opens.mjs", import.meta.url).href;
  let [a, b, c] = hospitals.map((name) =>
    federation.startAgent(
      name,
      name === "hospital-b" ? { NODE_OPTIONS: `--import=${tracer}`, CONSILIUM_TRACE: trace } : {},
    ),
  );
  if (!a || !b || !c) throw new Error("three agents were started");

  // A site in mid-training.
  await until(federation.status, ({ round }) => round === 1);
  await a.kill();
  a = federation.startAgent("hospital-a");
  // The coordinator once it has something to lose.
  await until(federation.status, ({ round, sites }) => round === 1 && sites.some(({ accepted }) => accepted));
  await coordinator.kill();
  coordinator = await federation.startCoordinator();
  // The coordinator and its database together, at whatever moment of the second round.
  await until(federation.status, ({ round }) => round === 2);
  await coordinator.kill();
  killDatabase(federation);
  await c.kill();
  coordinator = await federation.startCoordinator();
  c = federation.startAgent("hospital-c");
  await until(federation.status, ({ phase }) => phase === "finished");

  const weights = await weightsByRound(federation);
  t.match(await verifyLog(federation), { ok: true, faults: [] });
  const accepted = (await federation.records())
    .filter(({ kind }) => kind === "update.accepted")
    .map((record) => `${record["round"]} ${record["site"]}`);
  t.equal(new Set(accepted).size, accepted.length, "nothing is counted twice");
  await Promise.all([a.stop(), b.stop(), c.stop()]);
  await coordinator.stop();
  checkTrace(federation, trace);
  return weights;
}

/** The embedded server runs on when its coordinator is killed; here it goes too. */
function killDatabase({ options }: SmallFederation): void {
  const file = join(options.out, "coordinator/postgres/cluster/postmaster.pid");
  const pid = Number(readFileSync(file, "utf8").split("\n")[0]);
  process.kill(pid, "SIGKILL");
}

/** What the traced hospital opened: images of its own, and none of another's. */
function checkTrace({ options, federation }: SmallFederation, trace: string): void {
  const opened = readFileSync(trace, "utf8").split("\n");
  const images = opened.filter((path) => /\.nii(\.gz)?$/.test(path));
  const own = federation.hospitals.find(({ name }) => name === "hospital-b")?.data ?? "";
  t.ok(images.length > 5, "the tracer sees images being opened");
  t.strictSame(
    images.filter((path) => !path.startsWith(own)),
    [],
    "an agent opens its own volumes only",
  );
  const others = ["hospital-a", "hospital-c", "coordinator"].map((name) =>
    join(options.out, name === "coordinator" ? name : `hospitals/${name}`),
  );
  t.strictSame(
    opened.filter((path) => others.some((folder) => path.startsWith(folder))),
    [],
    "and nothing else of others",
  );
}

t.test("killed sites, a killed coordinator and a killed database change nothing of the result", async (t) => {
  const [calm, rough] = [await smallFederation(["--steps", "4"]), await smallFederation(["--steps", "4"])];
  t.teardown(() => {
    calm.close();
    rough.close();
  });
  const expected = await undisturbed(calm);
  t.equal(expected.length, 3, "a start version and two rounds");
  t.strictSame(await disturbed(rough), expected, "the weights of every round are the same bytes");
});
