// Runs the ordinary tools that the set-up stands on: pip, mvn, npm, tar, the compiler. Never through a shell. The end of
// what a tool says is kept, so that a failure can be explained.

import { spawn } from "node:child_process";

const OUTPUT_LENGTH_MAX = 4000;

export type Command = {
  readonly program: string;
  readonly args: readonly string[];
  /** Beside the inherited ones. */
  readonly environment?: Readonly<Record<string, string>>;
};

export type CommandResult = {
  readonly outcome: "done" | "failed" | "missing";
  /** The last of what the tool said. */
  readonly output: string;
};

/** Never rejects. */
export type RunCommand = (command: Command) => Promise<CommandResult>;

/** @param stopped ends the tool that is running */
export function commandRunner(environment: NodeJS.ProcessEnv, stopped: AbortSignal): RunCommand {
  return ({ program, args, environment: own = {} }) =>
    new Promise((resolve) => {
      let output = "";
      const child = spawn(program, args, {
        env: { ...environment, ...own },
        stdio: ["ignore", "pipe", "pipe"],
        signal: stopped,
      });
      const keep = (chunk: Buffer): void => {
        output = (output + chunk.toString("utf8")).slice(-OUTPUT_LENGTH_MAX);
      };
      child.stdout.on("data", keep);
      child.stderr.on("data", keep);
      child.on("error", (error) => {
        const isMissing = "code" in error && error.code === "ENOENT";
        resolve({ outcome: isMissing ? "missing" : "failed", output: output || error.message });
      });
      child.on("close", (code) => resolve({ outcome: code === 0 ? "done" : "failed", output }));
    });
}

/** The first of the programs that answers to these arguments. */
export async function firstPresent(
  programs: readonly string[],
  args: readonly string[],
  run: RunCommand,
): Promise<string | null> {
  for (const program of programs) {
    if ((await run({ program, args })).outcome === "done") return program;
  }
  return null;
}
