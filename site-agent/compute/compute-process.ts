// Computing in a process of its own, seen from the agent: it is started for the first task, kept for the next ones with
// the cases that it has prepared, and ended when none has come for a while. It may end at any moment: then the task has
// failed, and the next one starts another process. It keeps nothing on the disk, so nothing is lost.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { minuteMs, secondMs } from "@consilium/shared/base/units.ts";
import { expectRecipe } from "../work/checked-documents.ts";
import type { Compute, ComputeControl, ComputeTask, Scored, Trained, TrainingTask } from "./compute.ts";
import { ComputeError } from "./compute-error.ts";
import {
  type ComputeSettings,
  type FromCompute,
  readFromCompute,
  readScored,
  readTrained,
  type ToCompute,
} from "./compute-messages.ts";

export type ComputeProcessOptions = {
  /** The file of the program that computes. */
  readonly program: string;
  readonly settings: ComputeSettings;
  /** It is ended when no task has come for so long. */
  readonly idleMsMax?: number;
  /** A task that was given up ends at its next step; a step may be long, and the process is not waited for. */
  readonly abortMsMax?: number;
};

const IDLE_MS_MAX = 10 * minuteMs;
const ABORT_MS_MAX = 5 * secondMs;

export class ComputeProcess implements Compute {
  readonly #options: Required<ComputeProcessOptions>;
  #child: ChildProcess | null = null;
  #idle: NodeJS.Timeout | null = null;

  constructor(options: ComputeProcessOptions) {
    this.#options = { idleMsMax: IDLE_MS_MAX, abortMsMax: ABORT_MS_MAX, ...options };
  }

  /** @throws ComputeError, StudyError */
  async train(task: TrainingTask, control: ComputeControl): Promise<Trained> {
    const specs = expectRecipe(task.plan).trainable(task.plan.recipe.config);
    return this.#answer({ kind: "train", task }, control, (message) => readTrained(message, specs));
  }

  /** @throws ComputeError */
  async score(task: ComputeTask, control: ComputeControl): Promise<Scored> {
    return this.#answer({ kind: "score", task }, control, readScored);
  }

  /** End the process. */
  async close(): Promise<void> {
    if (this.#idle) clearTimeout(this.#idle);
    const child = this.#child;
    if (child === null) return;
    const ended = once(child, "exit");
    this.#end(child);
    await ended;
  }

  /** A task that comes meanwhile has another process. */
  #end(child: ChildProcess): void {
    if (this.#child === child) this.#child = null;
    child.kill("SIGKILL");
  }

  async #answer<Result>(
    order: Exclude<ToCompute, { kind: "abort" }>,
    control: ComputeControl,
    read: (message: FromCompute) => Result | null,
  ): Promise<Result> {
    control.signal.throwIfAborted();
    if (this.#idle) clearTimeout(this.#idle);
    const child = this.#child ?? this.#start();
    try {
      const result = read(await this.#lastWord(child, order, control));
      if (result === null) throw new ComputeError("compute.answer-malformed");
      return result;
    } catch (error) {
      if (error instanceof ComputeError && error.code === "compute.answer-malformed") this.#end(child);
      throw control.signal.aborted ? control.signal.reason : error;
    } finally {
      this.#idle = setTimeout(() => void this.close(), this.#options.idleMsMax).unref();
    }
  }

  /** Everything that it says before is news. */
  #lastWord(child: ChildProcess, order: ToCompute, { hear, signal }: ComputeControl): Promise<FromCompute> {
    const said = new AbortController(); // Ends all listening.
    const last = new Promise<FromCompute>((resolve, reject) => {
      const onMessage = (message: unknown): void => {
        const heard = readFromCompute(message);
        if (heard === null) reject(new ComputeError("compute.answer-malformed"));
        else if (heard.kind === "news") hear(heard.news);
        else if (heard.kind === "failed") reject(new ComputeError(heard.code));
        else resolve(heard);
      };
      const onEnd = (): void => reject(new ComputeError("compute.ended"));
      child.on("message", onMessage);
      child.once("exit", onEnd);
      child.once("error", onEnd);
      said.signal.addEventListener("abort", () => {
        child.off("message", onMessage);
        child.off("exit", onEnd);
        child.off("error", onEnd);
      });
    });
    const giveUp = (): void => {
      send(child, { kind: "abort" });
      const timer = setTimeout(() => this.#end(child), this.#options.abortMsMax);
      said.signal.addEventListener("abort", () => clearTimeout(timer));
    };
    signal.addEventListener("abort", giveUp, { signal: said.signal, once: true });
    send(child, order);
    return last.finally(() => said.abort());
  }

  #start(): ChildProcess {
    const { program, settings } = this.#options;
    const child = fork(program, [JSON.stringify(settings)], {
      // The loader is named because the agent may have been started in a way that its options do not show.
      execArgv: ["--import", import.meta.resolve("tsx")],
      serialization: "advanced", // Weights and changes go as bytes.
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    child.once("exit", () => {
      if (this.#child === child) this.#child = null;
    });
    this.#child = child;
    return child;
  }
}

/** To a process that has just ended nothing can be sent; its end is heard of by itself. */
function send(child: ChildProcess, message: ToCompute): void {
  child.send(message, () => {});
}
