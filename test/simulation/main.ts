// `npm run simulate -- --seeds N [--from S]`, or `--seed S` for one seed with its history.

import { parseArgs } from "node:util";
import { history, simulate, Violation } from "./simulate.ts";

const { values } = parseArgs({
  options: { seeds: { type: "string" }, from: { type: "string" }, seed: { type: "string" } },
});
const [first, count] = values.seed
  ? [Number(values.seed), 1]
  : [Number(values.from ?? 1), Number(values.seeds ?? 1000)];
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error("usage: npm run simulate -- [--seeds COUNT] [--from SEED] | --seed SEED");
  process.exit(2);
}

let [crashes, entries] = [0, 0];
for (let seed = first; seed < first + count; seed += 1) {
  try {
    const world = simulate(seed);
    crashes += world.crashes;
    entries += world.coordinator.log.length;
    if (values.seed) console.log(history(world, 1000).join("\n"));
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    console.error(`seed ${seed} violates: ${error.message}\n\nThe last entries of its log:`);
    console.error(history(error.world, 20).join("\n"));
    process.exit(1);
  }
  if ((seed - first + 1) % 500 === 0) console.log(`${seed - first + 1} of ${count} seeds hold`);
}
console.log(`${count} seeds hold: ${crashes} crashes, ${entries} log entries`);
