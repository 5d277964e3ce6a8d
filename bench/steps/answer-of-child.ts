// A measurement in a process of its own: kernels are registered once a process, and memory is a process's.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";

export type ChildOptions = {
  readonly environment?: Readonly<Record<string, string>>;
  /** Sent once it has started. */
  readonly message?: object;
};

/** What the program sent last; undefined where it ended without a word. */
export function answerOfChild(
  program: string,
  words: readonly string[],
  { environment = {}, message }: ChildOptions = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(program), [...words], {
      execArgv: ["--import", import.meta.resolve("tsx")],
      env: { ...process.env, ...environment },
    });
    let answer: unknown;
    child.on("message", (received) => {
      answer = received;
    });
    child.on("error", reject);
    child.on("close", () => resolve(answer));
    if (message) child.send(message);
  });
}
