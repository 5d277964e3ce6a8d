// Whole federated rounds on real images: coordinator, database and three agents as processes of their own, as the demo
// starts them. Of every round it says how much of its time was in nobody's training steps or predictions. Prints JSON.
// npm run bench -- whole-round [--data DIR] [--recipe NAME] [--rounds N] [--steps N] [--adapter-rounds N] [--adapter-steps N]

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runFederation } from "../test/demo/federated-run.ts";
import { makeHospitals } from "../test/demo/hospitals.ts";
import { readOptions } from "../test/demo/options.ts";
import { killAll } from "../test/demo/processes.ts";
import { type LogLine, roundTimes } from "./rounds/round-times.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string", default: "../shared/data" },
    recipe: { type: "string", default: "unet-prompter" },
    rounds: { type: "string", default: "4" },
    steps: { type: "string", default: "150" },
    "adapter-rounds": { type: "string", default: "3" },
    "adapter-steps": { type: "string", default: "20" },
  },
});
const [images, splits] = [join(values.data, "msd-hippocampus-mr"), join(values.data, "splits.json")];
if (!existsSync(images) || !existsSync(splits))
  throw new Error(`skipped: hippocampus needs ${images} and ${splits}`);

const out = mkdtempSync(join(tmpdir(), "consilium-rounds-"));
const lengths = (["rounds", "steps", "adapter-rounds", "adapter-steps"] as const).flatMap((name) => [
  `--${name}`,
  values[name],
]);
const options = readOptions([
  ...["--data", images, "--sites", `${splits}#hippocampus-mr-3-hospitals`],
  ...["--recipe", values.recipe, ...lengths, "--out", join(out, "run")],
]);
process.env["CONSILIUM_LOG"] = "info";
try {
  const federation = await makeHospitals(options);
  const say = (line: string): void => console.error(line);
  const { run, coordinator } = await runFederation(options, federation, say);
  await coordinator.stop();
  const logs = federation.hospitals.map(({ name }) => linesOf(join(options.out, "logs", `${name}.log`)));
  const machine = { processor: cpus()[0]?.model, processors: cpus().length, node: process.version };
  const phases = options.phases.map(({ study, rounds, steps }, phase) => ({
    ...{ study, rounds, steps },
    ...roundTimes(logs, { rounds, roundsBefore: roundsBefore(phase) }),
  }));
  console.log(
    JSON.stringify({ machine, recipe: values.recipe, backends: run.backends, phases }, undefined, 1),
  );
} finally {
  killAll();
  rmSync(out, { recursive: true, force: true });
}

function roundsBefore(phase: number): number {
  return options.phases.slice(0, phase).reduce((sum, { rounds }) => sum + rounds, 0);
}

/** The agent's log among whatever else is in the file. */
function linesOf(file: string): LogLine[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.startsWith('{"level"'))
    .map((line) => JSON.parse(line) as LogLine); // Written by the agent.
}
