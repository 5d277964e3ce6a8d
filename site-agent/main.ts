// `consilium-site`: the hospital's command line. This is the composition root of the agent's process and of every
// command; nothing else reads the environment, knows the real clock or ends the process.

import { readFileSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { WASM_THREADS_MAX } from "./backend/backend-report.ts";
import { PRODUCT_FORMATS } from "./backend/graph/compiled-graph.ts";
import { type BackendStarter, startedOnce } from "./commands/backend-choice.ts";
import type { CommandContext } from "./commands/command-context.ts";
import type { StartModelOptions } from "./commands/start-model.ts";
import { BACKEND_WISHES, type ComputeWish, readConfig, type SiteConfig } from "./config.ts";
import { type ExitReason, exitCodes, exitCodeTable } from "./exit-codes.ts";
import { exitReasonOf, faultCode, faultSentence } from "./fault.ts";
import { homeAt } from "./identity/home.ts";

type SharedOptions = { readonly home?: string; readonly json: boolean } & Partial<ComputeWish>;

/** How the command ended. */
let ended: ExitReason = "done";
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());

const program = new Command("consilium-site")
  .description(
    "A hospital's site in a Consilium federation: it trains on the hospital's own images, which stay here.",
  )
  .addHelpText("after", `\n${exitCodeTable()}`)
  .showHelpAfterError()
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exitCodes.done.code : exitCodes.usage.code));

addSite();
addStudies();
addModels();
const reason = await program.parseAsync().then(() => ended, failed);
process.exit(exitCodes[reason].code); // Idle connections and tensor libraries must not keep the process.

function addSite(): void {
  command("enrol <invitation>", "make this site's key and introduce it with an operator's invitation")
    .option("--ca <file>", "certificate authority of the coordinator, in PEM")
    .option("--insecure-http", "speak to a coordinator on another machine without encryption", false)
    .action((invitation: string, options: SharedOptions & { ca?: string; insecureHttp: boolean }) =>
      run(options, async (context) => {
        const { enrolSite } = await import("./commands/enrol.ts");
        return enrolSite(invitation, { ...options, agent: agentName() }, context);
      }),
    );
  command("check", "look at everything: identity, log, backend, data, what a plan would do")
    .option("--data <folder>", "images and labels to look at")
    .option("--split <split>", "last-fifth, or a file", "last-fifth")
    .option("--study <study>", "show what this study's plan asks, and what a training step of it takes here")
    .option("--plan <file>", "the same for a plan from a file, signed or not; no site need be enrolled")
    .option("--clear-alarm <by>", "after an alarm: who has settled it")
    .option("--trust-current-log", "with --clear-alarm: take the log as it is now as the true one", false)
    .action((options: SharedOptions & CheckFlags) => run(options, (context) => check(options, context)));
  command("run", "the agent: wait for rounds, train, send protected updates; ends cleanly on SIGTERM").action(
    (options: SharedOptions) =>
      run(options, async (context) => {
        const { runAgent } = await import("./commands/run.ts");
        const wish = wishOf(options, context.config);
        return runAgent({ wish, stopped: stopping.signal }, context);
      }),
  );
  command("ledger", "what has left the house, by kind, and whether it adds up").action(
    (options: SharedOptions) =>
      run(options, async (context) => (await import("./commands/ledger.ts")).showLedger(context)),
  );
}

type CheckFlags = {
  readonly data?: string;
  readonly split: string;
  readonly study?: string;
  readonly plan?: string;
  readonly clearAlarm?: string;
  readonly trustCurrentLog: boolean;
};

async function check(options: SharedOptions & CheckFlags, context: CommandContext): Promise<ExitReason> {
  const { clearAlarm: by, trustCurrentLog } = options;
  if (by !== undefined) {
    const { clearAlarm } = await import("./commands/clear-alarm.ts");
    return clearAlarm({ by, trustCurrentLog }, context);
  }
  const { checkSite } = await import("./commands/check.ts");
  const { measuredStep } = await import("./commands/step-report.ts");
  const { products } = wishOf(options, context.config);
  return checkSite(options, backendOf(options, context.config), context, measuredStep(products));
}

function addStudies(): void {
  command("approve <study>", "read a study's plan, see what it asks, and sign it")
    .requiredOption("--data <folder>", "the images and labels that this site brings")
    .option("--split <split>", "which cases validate: last-fifth, or a file", "last-fifth")
    .requiredOption("--approver <name>", "who approves; goes into the signed approval")
    .option("--yes", "approve without asking at the terminal", false)
    .action(
      (
        study: string,
        options: SharedOptions & { data: string; split: string; approver: string; yes: boolean },
      ) =>
        run(options, async (context) => {
          const { approveStudy } = await import("./commands/approve.ts");
          return approveStudy(study, options, context);
        }),
    );
}

function addModels(): void {
  addTrain();
  addStartModel();
  command("predict", "segment one image with a model file; no coordinator is needed")
    .requiredOption("--model <file>", "a model file")
    .requiredOption("--image <file>", "a NIfTI image")
    .requiredOption("--out <file>", "where the label map goes")
    .option("--keys <file>", "trusted public keys, one a line")
    .option("--mirror", "average over the mirror images that the plan allows", false)
    .option("--stages", "also write what each stage of the answer says, beside the label map", false)
    .action(
      (
        options: SharedOptions & {
          model: string;
          image: string;
          out: string;
          keys?: string;
          mirror: boolean;
          stages: boolean;
        },
      ) =>
        run(options, async (context) => {
          const { predictImage } = await import("./commands/predict.ts");
          return predictImage(options, backendOf(options, context.config), context);
        }),
    );
  command("evaluate", "score model files on labelled cases: Dice, HD95, NSD; no coordinator is needed")
    .requiredOption("--model <file...>", "a model file, or several")
    .requiredOption("--data <folder>", "images with labels")
    .option("--split <split>", "all, last-fifth, or a file whose validation cases are scored", "all")
    .option("--keys <file>", "trusted public keys, one a line")
    .option("--mirror", "average over the mirror images that the plan allows", false)
    .addOption(
      new Option(
        "--stages <which>",
        "of answers in stages: all of them, the automatic ones, or the answer alone",
      )
        .choices(["all", "automatic", "answer"])
        .default("all"),
    )
    .option("--baseline <kind>", "atlas: also score the voxel-wise atlas of the training cases", baseline)
    .option("--train-data <folder>", "the atlas's cases, where they are not the training part of the split")
    .action((options: SharedOptions & EvaluateFlags) =>
      run(options, async (context) => {
        const { evaluateModels } = await import("./commands/evaluate.ts");
        return evaluateModels(options, backendOf(options, context.config), context);
      }),
    );
}

type EvaluateFlags = {
  readonly model: readonly string[];
  readonly data: string;
  readonly split: string;
  readonly keys?: string;
  readonly mirror: boolean;
  readonly stages: "all" | "automatic" | "answer";
  readonly baseline?: "atlas";
  readonly trainData?: string;
};

function addTrain(): void {
  type TrainFlags = {
    plan: string;
    start: string;
    data: string;
    split: string;
    steps: number;
    seed: number;
    out: string;
  };
  command("train", "train alone on this site's images, with the code of a round and no coordinator")
    .requiredOption("--plan <file>", "a plan, signed or not")
    .requiredOption("--start <file>", "weights file, model file, or seed:N")
    .requiredOption("--data <folder>", "images with labels")
    .option("--split <split>", "which cases are left out for validation: last-fifth, or a file", "last-fifth")
    .requiredOption("--steps <number>", "training steps", wholeNumber)
    .option("--seed <number>", "seed of slices and augmentation", wholeNumber, 0)
    .requiredOption("--out <file>", "the model file to write")
    .action((options: SharedOptions & TrainFlags) =>
      run(options, async (context) => {
        const { trainAlone } = await import("./commands/train.ts");
        return trainAlone(options, backendOf(options, context.config), context, stopping.signal);
      }),
    );
}

function addStartModel(): void {
  command("start-model", "put together the weights that a study of rfmedsam2 starts from")
    .requiredOption("--plan <file>", "a plan, signed or not")
    .option(
      "--checkpoint <file>",
      "a checkpoint of SAM 2.1, .pt or .safetensors, or none; pretrained-micro has its own",
    )
    .option("--prompter <file>", "a model file whose prompter is taken")
    .option("--adapters <file>", "a model file whose adapters are taken")
    .option("--seed <number>", "what is not taken from a file is drawn", wholeNumber, 1)
    .option("--by <who>", "who answers for what is said of the parts; goes into the log", "")
    .requiredOption(
      "--out <file>",
      "the weights file to write, for consilium study open --start; FILE.provenance.json goes beside it",
    )
    .action((options: SharedOptions & StartModelOptions) =>
      run(options, async (context) => {
        const { writeStartModel } = await import("./commands/start-model.ts");
        return writeStartModel(options, context);
      }),
    );
}

function command(nameAndArguments: string, description: string): Command {
  return program
    .command(nameAndArguments)
    .description(description)
    .option("--home <folder>", "this site's home folder (CONSILIUM_HOME, default ./site)")
    .option("--json", "one JSON document on standard output instead of text", false)
    .option("--backend <name>", BACKEND_WISHES.join(", "), oneOf(BACKEND_WISHES))
    .option("--products <format>", `of graphs: ${PRODUCT_FORMATS.join(", ")}`, oneOf(PRODUCT_FORMATS))
    .option("--wasm-threads <count>", "that share the kernels of wasm", threadCount);
}

async function run(
  options: SharedOptions,
  act: (context: CommandContext) => Promise<ExitReason>,
): Promise<void> {
  const config = readConfig(process.env);
  ended = await act({
    home: homeAt(options.home ?? config.home),
    config,
    json: options.json,
    print: (line) => void process.stdout.write(`${line}\n`),
    remark: (line) => void process.stderr.write(`${line}\n`),
  });
}

/** A sentence for people, a code for machines, a number for scripts. */
function failed(error: unknown): ExitReason {
  if (process.argv.includes("--json"))
    process.stdout.write(`${JSON.stringify({ fault: faultCode(error) })}\n`);
  process.stderr.write(`${faultSentence(error)}\n`);
  return exitReasonOf(error);
}

function backendOf(options: SharedOptions, config: SiteConfig): BackendStarter {
  return startedOnce(async () => {
    const { startChosenBackend } = await import("./commands/start-chosen-backend.ts");
    return startChosenBackend(wishOf(options, config));
  });
}

function wishOf({ backend, products, wasmThreads }: SharedOptions, config: SiteConfig): ComputeWish {
  return {
    backend: backend ?? config.backend,
    products: products ?? config.products,
    wasmThreads: wasmThreads ?? config.wasmThreads,
  };
}

function agentName(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
  const version = manifest instanceof Object && "version" in manifest ? String(manifest.version) : "unknown";
  return `consilium-site ${version}, node ${process.versions.node}, ${process.platform}-${process.arch}`;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("must be a whole number");
  return value;
}

function threadCount(text: string): number {
  const count = wholeNumber(text);
  if (count < 1 || count > WASM_THREADS_MAX)
    throw new InvalidArgumentError(`must be from 1 to ${WASM_THREADS_MAX}`);
  return count;
}

function oneOf<Word extends string>(words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new InvalidArgumentError(`must be one of ${words.join(", ")}`);
    return word;
  };
}

function baseline(text: string): "atlas" {
  if (text !== "atlas") throw new InvalidArgumentError("must be atlas");
  return text;
}
