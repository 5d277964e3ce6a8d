// The site's command line as a process of its own, as a hospital runs it: what it prints, how it ends, and the
// possibility of ending it at any moment.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../site-agent/bin/consilium-site.js", import.meta.url));

export class SiteCommand {
  /** Everything printed so far, both streams. */
  output = "";
  /** Standard output alone. */
  result = "";
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  readonly #listeners: (() => void)[] = [];

  constructor(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, [program, ...args], {
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      this.result += chunk;
      this.#print(chunk);
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => this.#print(chunk));
    this.#ended = once(this.#child, "close");
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Resolves as soon as this text has been printed. */
  async says(text: string): Promise<void> {
    while (!this.output.includes(text)) await new Promise<void>((resolve) => this.#listeners.push(resolve));
  }

  /** The exit code, null after a signal. */
  async ended(): Promise<number | null> {
    const [code] = await this.#ended;
    return typeof code === "number" ? code : null;
  }

  #print(chunk: Buffer): void {
    this.output += chunk;
    for (const wake of this.#listeners.splice(0)) wake();
  }
}

/** Run a command to its end. */
export async function siteCommand(
  args: readonly string[],
  environment?: Readonly<Record<string, string>>,
): Promise<{ code: number | null; output: string; result: string }> {
  const command = new SiteCommand(args, environment);
  const code = await command.ended();
  return { code, output: command.output, result: command.result };
}
