// `consilium`: the operator's command line. This is the composition root of the coordinator's process and of every
// command; nothing else reads the environment or ends the process.

import { EnvironmentError } from "@consilium/shared/base/environment.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import { Command, InvalidArgumentError, Option } from "commander";
import { exportEvidenceOf, showEntries, verifyBundle, verifyLog } from "./commands/audit-commands.ts";
import type { CommandContext } from "./commands/context.ts";
import { type DraftCommandOptions, draftStudy } from "./commands/draft-command.ts";
import {
  exportVersion,
  listVersions,
  releaseVersion,
  rollBackVersion,
  showVersion,
} from "./commands/model-commands.ts";
import { OperatorClient, RefusedError, UnreachableError } from "./commands/operator-client.ts";
import { changeSite, inviteSite, listSites, withdrawSite } from "./commands/site-commands.ts";
import type { StartOptions } from "./commands/start-choice.ts";
import { abortRound, finishStudy, listStudies, openStudy, showStudy } from "./commands/study-commands.ts";
import { type ExitName, exitCodes, exitCodeTable } from "./exit-codes.ts";

type GlobalOptions = { data: string; url?: string; tokenFile?: string; json: boolean };

const print = (line: string): void => console.log(line);

const program = new Command("consilium")
  .description("Operate a Consilium federation.")
  .option("--data <folder>", "the coordinator's data folder", process.env["CONSILIUM_DATA"] ?? "data")
  .option("--url <url>", "the coordinator's address, where it runs on another machine")
  .option("--token-file <file>", "the operator's token, likewise")
  .option("--json", "one JSON document instead of text", false)
  .addHelpText("after", exitCodeTable())
  .showHelpAfterError()
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exitCodes.done.code : exitCodes.usage.code));

function context(): CommandContext {
  const options = program.opts<GlobalOptions>();
  return { client: () => new OperatorClient(options), print, json: options.json };
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("must be a whole number");
  return value;
}

addServe();
addSites();
addStudies();
addModels();
addAudit();
process.exitCode = await program.parseAsync().then(() => process.exitCode ?? exitCodes.done.code, fail);

function addServe(): void {
  program
    .command("serve")
    .description(
      "run the coordinator; without DATABASE_URL it starts a PostgreSQL of its own in the data folder",
    )
    .option("--host <address>", "address to listen on; anything but loopback needs TLS")
    .option("--port <number>", "port to listen on; 0 takes any")
    .option("--public-url <url>", "how sites reach this coordinator")
    .option("--tls-cert <file>", "certificate chain in PEM form")
    .option("--tls-key <file>", "its private key")
    .action(async (options: Record<string, string>) => {
      const { serve } = await import("./commands/serve.ts");
      const given = {
        CONSILIUM_DATA: program.opts<GlobalOptions>().data,
        CONSILIUM_HOST: options["host"],
        CONSILIUM_PORT: options["port"],
        CONSILIUM_PUBLIC_URL: options["publicUrl"],
        CONSILIUM_TLS_CERT: options["tlsCert"],
        CONSILIUM_TLS_KEY: options["tlsKey"],
      };
      const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      const untilSignal = new Promise<string>((resolve) => {
        for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve(signal));
      });
      await serve({ environment: { ...process.env, ...set }, untilSignal, print });
      process.exit(exitCodes.done.code); // Idle connections of a driver must not keep the process.
    });
}

function addSites(): void {
  program
    .command("invite <site>")
    .description("make a single-use invitation for a hospital")
    .option("--days <number>", "days that it is valid", wholeNumber, 7)
    .option("--out <file>", "write it to a file of mode 0600 instead of the terminal")
    .action((site: string, options: { days: number; out?: string }) => inviteSite(site, options, context()));
  const site = program.command("site").description("enrolled sites");
  site.command("list").action(() => listSites(context()));
  const verbs = { suspend: "suspension", resume: "resumption", retire: "retirement" } as const;
  for (const [name, verb] of Object.entries(verbs)) {
    site
      .command(`${name} <site>`)
      .option("--reason <text>", "goes into the log", "")
      .action((id: string, { reason }: { reason: string }) =>
        changeSite(id, verb, { reason, context: context() }),
      );
  }
  site
    .command("withdraw <site> <study>")
    .description("take a site's contribution back, with every version that it reached")
    .option("--reason <text>", "goes into the log", "")
    .action((id: string, study: string, { reason }: { reason: string }) =>
      withdrawSite(id, study, { reason, context: context() }),
    );
}

function addStudies(): void {
  const study = program.command("study").description("studies and their plans");
  study
    .command("draft <study>")
    .description("draft a plan from what the hospitals tell of their images")
    .requiredOption(
      "--fingerprint <site=file...>",
      "the answer of consilium-site check --data DIR --json, one a site",
    )
    .requiredOption("--labels <list>", "1:liver,2:spleen")
    .option("--title <text>", "one line", "")
    .addOption(
      new Option("--size <name>", "of the network").choices(["small", "medium", "large"]).default("medium"),
    )
    .option("--rounds <number>", "federated rounds", wholeNumber, 20)
    .option("--steps <number>", "training steps of a site in a round", wholeNumber, 50)
    .option("--batch <number>", "slices of a training step, or clips with --variant", wholeNumber, 4)
    .addOption(
      new Option("--partial-labels <rule>", "when an organ that is not drawn counts as not contoured")
        .choices(["per-site", "per-case"])
        .default("per-site"),
    )
    .addOption(
      new Option(
        "--variant <name>",
        "refine the network's answers with SAM 2.1 of this size: rfmedsam2",
      ).choices([...Object.keys(sam2Variants)]),
    )
    .option("--image-size <number>", "side of SAM 2's image, where it is not its own", wholeNumber)
    .option("--window-hu <low:high>", "CT numbers that are black and white in SAM 2's image, of CT alone")
    .addOption(
      new Option("--trains <part>", "what the study trains with --variant")
        .choices(["prompter", "adapters", "joint"])
        .default("joint"),
    )
    .option(
      "--decoder-rate <share>",
      "train SAM 2's mask decoder with its adapters, at this share of their learning rate, such as 0.05",
    )
    .option("--seed <number>", "of the training", wholeNumber, 1)
    .requiredOption("--out <file>", "where the plan goes")
    .action((id: string, options: DraftCommandOptions) => {
      for (const remark of draftStudy(id, options)) print(remark);
      print(
        `drafted: ${options.out}; read and change it, then open it with consilium study open ${options.out}`,
      );
    });
  study
    .command("open <plan>")
    .description("sign a plan (a JSON file) and offer it to its sites")
    .option("--seed <number>", "seed of the start model", wholeNumber)
    .option("--start <file>", "weights to start from instead, with FILE.provenance.json if it is there")
    .option(
      "--part <part=source...>",
      "parts to start from instead: a study's version in use, a version, or seed:N",
    )
    .action((plan: string, options: StartOptions) => openStudy(plan, options, context()));
  study.command("list").action(() => listStudies(context()));
  study
    .command("status <study>")
    .option("--watch", "follow until it has finished", false)
    .action((id: string, options: { watch: boolean }) => showStudy(id, options, context()));
  study
    .command("finish <study>")
    .description("end a study early")
    .action((id: string) => finishStudy(id, context()));
  program
    .command("round")
    .description("the round in progress")
    .command("abort <study>")
    .description("abandon the round; the next one opens from the same version")
    .action((id: string) => abortRound(id, context()));
}

function addModels(): void {
  const model = program.command("model").description("model versions");
  model.command("list <study>").action((study: string) => listVersions(study, context()));
  model
    .command("show <version>")
    .description("what a version's signed manifest says, and where its parts come from")
    .action((version: string) => showVersion(version, context()));
  model
    .command("release <study> [version]")
    .description("put a version into use; without one, the study's best")
    .option("--reason <text>", "goes into the log", "")
    .action((study: string, version: string | undefined, { reason }: { reason: string }) =>
      releaseVersion(study, version ?? null, { reason, context: context() }),
    );
  model
    .command("rollback <study>")
    .description("go back to the release before")
    .option("--reason <text>", "goes into the log", "")
    .action((study: string, { reason }: { reason: string }) =>
      rollBackVersion(study, { reason, context: context() }),
    );
  model
    .command("export <version>")
    .description("write a version as one model file")
    .requiredOption("--out <file>", "the file")
    .action((version: string, { out }: { out: string }) => exportVersion(version, out, context()));
}

function addAudit(): void {
  const audit = program.command("audit").description("the audit log");
  const ended = (exit: ExitName): void => {
    process.exitCode = exitCodes[exit].code;
  };
  audit
    .command("verify")
    .description("derive the whole database from its log again and compare")
    .action(async () => ended(await verifyLog(context())));
  audit
    .command("export <version>")
    .description("write the evidence of a version as one bundle")
    .requiredOption("--out <file>", "the file")
    .action((version: string, { out }: { out: string }) => exportEvidenceOf(version, out, context()));
  audit
    .command("show")
    .option("--from <index>", "first entry", wholeNumber, 0)
    .option("--limit <number>", "entries at most", wholeNumber, 100)
    .action((options: { from: number; limit: number }) => showEntries(options, context()));
  audit
    .command("check <bundle>")
    .description("the offline verifier; as npm run verify")
    .requiredOption("--keys <file>", "trusted public keys, one a line")
    .option("--witness <file>", "a checkpoint that a site has kept")
    .action(async (bundle: string, options: { keys: string; witness?: string }) =>
      ended(await verifyBundle(bundle, options, context())),
    );
}

/** A message for people and a number for scripts. */
function fail(error: unknown): number {
  console.error(error instanceof Error ? error.message : String(error));
  if (error instanceof RefusedError) return exitCodes.refused.code;
  if (error instanceof UnreachableError) return exitCodes.unreachable.code;
  if (error instanceof EnvironmentError) return exitCodes.usage.code;
  const { name, code } = error as { name?: string; code?: string }; // Loaded only when they can occur.
  if (name === "LeafError") return exitCodes.damagedLog.code;
  if (name === "EmbeddedPostgresError" || name === "MigrationError" || code === "ECONNREFUSED")
    return exitCodes.database.code;
  return exitCodes.failed.code;
}
