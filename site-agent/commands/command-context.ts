// What a command gets from the composition root: where it works, how it speaks, and its settings. Commands return how
// they ended; nothing but the root ends the process.

import type { SiteConfig } from "../config.ts";
import type { Home } from "../identity/home.ts";

export type CommandContext = {
  readonly home: Home;
  readonly config: SiteConfig;
  /** One JSON document on standard output instead of text. */
  readonly json: boolean;
  /** A line on standard output: the result. */
  readonly print: (line: string) => void;
  /** A line for people on standard error: progress, remarks. */
  readonly remark: (line: string) => void;
};

/** The result, as text or as one line of JSON. */
export function present(context: CommandContext, result: unknown, lines: readonly string[]): void {
  if (context.json) context.print(JSON.stringify(result));
  else for (const line of lines) context.print(line);
}
