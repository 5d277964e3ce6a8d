// The demo's hands: it does nothing that a person at a terminal could not do, through the same two commands.

import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const programs = {
  consilium: join(root, "coordinator/bin/consilium.js"),
  site: join(root, "site-agent/bin/consilium-site.js"),
};
const tailLines = 30;
/** Commands at once: what most machines have cores for. */
const atOnce = 2;

export type Program = keyof typeof programs;
export type Run = { readonly code: number; readonly output: string };

export class CommandFailed extends Error {
  override name = "CommandFailed";
}

/** Every process that was started and may have to be ended. */
const running = new Set<ChildProcess>();

/** Run a command to its end. Its remarks go to `log`. @throws CommandFailed with the end of what it said */
export async function command(
  program: Program,
  words: readonly string[],
  log: string,
  allowed: readonly number[] = [0],
): Promise<Run> {
  const child = start(program, words);
  const said: string[] = [];
  const file = createWriteStream(log, { flags: "a" });
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const remarks = readLines(child, (line) => {
    file.write(`${line}\n`);
    said.push(line);
    if (said.length > tailLines) said.shift();
  });
  const code = await exited(child);
  await remarks;
  file.end();
  if (!allowed.includes(code))
    throw new CommandFailed(
      `${program} ${words[0]} ended with ${code}:\n${said.join("\n")}\n${output.slice(-2000)}`,
    );
  return { code, output };
}

/** A command whose answer is one JSON document. */
export async function ask<T>(program: Program, words: readonly string[], log: string): Promise<T> {
  const { output } = await command(program, words, log);
  return JSON.parse(output) as T; // The demo reads its own project's answers.
}

export type Service = {
  /** Resolves when the process has ended; rejects when it ended by itself with a failure. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
  /** As when the power goes. */
  kill(): Promise<void>;
};

/** A process that runs until it is stopped. */
export function service(
  program: Program,
  words: readonly string[],
  log: string,
  environment: Readonly<Record<string, string>> = {},
): Service {
  const child = start(program, words, environment);
  const file = createWriteStream(log, { flags: "a" });
  child.stdout?.pipe(file, { end: false });
  child.stderr?.pipe(file, { end: false });
  let isStopping = false;
  const ended = exited(child).then((code) => {
    if (isStopping || code === 0) return;
    throw new CommandFailed(`${program} ${words[0]} ended with ${code}:\n${lastLines(log)}`);
  });
  ended.catch(() => undefined); // Heard by whoever waits for it.
  return {
    ended,
    async stop() {
      isStopping = true;
      child.kill("SIGTERM");
      await ended.catch(() => undefined);
    },
    async kill() {
      isStopping = true;
      child.kill("SIGKILL");
      await ended.catch(() => undefined);
    },
  };
}

/** For an end that was not planned. */
export function killAll(): void {
  for (const child of running) child.kill("SIGTERM");
}

/** Work on every item, a few at once. @throws what the first to fail throws */
export async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

function start(
  program: Program,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): ChildProcess {
  const env = { ...process.env, ...environment };
  const child = spawn(process.execPath, [programs[program], ...words], {
    stdio: ["ignore", "pipe", "pipe"],
    env,
  });
  running.add(child);
  child.once("close", () => running.delete(child));
  return child;
}

function exited(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}

async function readLines(child: ChildProcess, onLine: (line: string) => void): Promise<void> {
  if (!child.stderr) return;
  for await (const line of createInterface({ input: child.stderr })) onLine(line);
}

function lastLines(file: string): string {
  return readFileSync(file, "utf8").split("\n").slice(-tailLines).join("\n");
}
