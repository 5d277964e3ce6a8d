// What a person sees while three hospitals train: one line per site and round on a terminal, rewritten in place, or a
// line every few seconds elsewhere. Time left is the time so far, continued at its pace.

import { io, type Socket } from "socket.io-client";

const lineIntervalMs = 3_000;
const pollMs = 10_000;

type Progress = { phase: string; round: number; step: number; steps: number; loss: number | null };
type OperatorEvent = {
  kind: string;
  site?: string;
  progress?: Progress;
  record?: { kind: string; study?: string; [key: string]: unknown };
};

export type Watcher = {
  /** Resolves when the study has finished. */
  readonly finished: Promise<void>;
  close(): void;
};

export type WatchOptions = {
  readonly url: string;
  readonly token: string;
  readonly study: string;
  readonly rounds: number;
  readonly print: (line: string) => void;
};

export function watchStudy({ url, token, study, rounds, print }: WatchOptions): Watcher {
  const socket: Socket = io(`${url}/operator`, { transports: ["websocket"], auth: { token } });
  const sites = new Map<string, Progress & { printedMs: number }>();
  const startMs = performance.now();
  let dice: string | null = null;
  const finished = new Promise<void>((resolve, reject) => {
    socket.on("connect_error", reject);
    socket.on("event", ({ kind, site = "", progress, record }: OperatorEvent) => {
      if (kind === "progress" && progress) onProgress(site, progress);
      if (kind !== "entry" || record?.study !== study) return;
      const line = sentence(record, rounds);
      if (line) print(`  ${line}`);
      if (record.kind === "version.judged" && typeof record["meanDice"] === "number")
        dice = record["meanDice"].toFixed(4);
      if (record.kind === "study.finished") resolve();
    });
  });
  const onProgress = (site: string, progress: Progress): void => {
    const nowMs = performance.now();
    const before = sites.get(site);
    const isNew = before?.phase !== progress.phase || before.round !== progress.round;
    const isDue = isNew || progress.step === progress.steps || nowMs - before.printedMs > lineIntervalMs;
    sites.set(site, { ...progress, printedMs: isDue ? nowMs : (before?.printedMs ?? nowMs) });
    if (!isDue) return;
    const share =
      (progress.round - 1 + (progress.phase === "training" ? (0.9 * progress.step) / progress.steps : 0.95)) /
      rounds;
    const leftMs = share > 0.01 ? ((nowMs - startMs) * (1 - share)) / share : null;
    const loss = progress.loss === null ? "" : `  loss ${progress.loss.toFixed(4)}`;
    const so = dice === null ? "" : `  Dice so far ${dice}`;
    print(
      `  round ${progress.round}/${rounds}  ${site}  ${progress.phase} ${progress.step}/${progress.steps}${loss}${so}${leftMs === null ? "" : `  about ${duration(leftMs)} left`}`,
    );
  };
  return {
    finished: Promise.race([finished, untilFinished({ url, token, study })]),
    close: () => void socket.close(),
  };
}

/** Asked now and then, in case the message was lost with a connection. */
async function untilFinished({
  url,
  token,
  study,
}: Pick<WatchOptions, "url" | "token" | "study">): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, pollMs).unref());
    const response = await fetch(`${url}/v1/studies/${study}`, {
      headers: { authorization: `Bearer ${token}` },
    }).catch(() => null);
    const { phase } = response?.ok ? ((await response.json()) as { phase: string }) : { phase: "" }; // StudyAnswer.
    if (phase === "finished") return;
  }
}

function sentence(record: { kind: string; [key: string]: unknown }, rounds: number): string | null {
  const dice = typeof record["meanDice"] === "number" ? record["meanDice"].toFixed(4) : "-";
  switch (record.kind) {
    case "plan.approved":
      return `${record["site"]} has approved the plan and brings ${record["examples"]} training cases`;
    case "round.opened":
      return `round ${record["round"]} of ${rounds} is open`;
    case "update.accepted":
      return `update of ${record["site"]} accepted`;
    case "update.refused":
      return `update of ${record["site"]} refused: ${record["code"]}`;
    case "version.created":
      return record["round"] === 0 ? null : `version ${String(record["version"]).slice(0, 12)} aggregated`;
    case "evaluation.reported":
      return `${record["site"]} measures Dice ${dice}`;
    case "version.judged":
      return `mean Dice ${dice}: ${record["promoted"] ? "promoted to best" : `kept back (${record["reason"]})`}`;
    default:
      return null;
  }
}

export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 90 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
