// The times of whole rounds from the logs of all agents: a round lasts from when the first of them begins to train until
// the first begins to train again, or the last has scored. What it takes at least is the longest training and the longest
// scoring of any site; the rest is reading, preparing, sending, adding up, waiting.

import { expectDefined } from "@consilium/shared/base/assert.ts";

export type LogLine = {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly event: string;
  readonly job?: string;
  readonly durationMs?: number;
};

type Job = {
  readonly kind: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly computedMs: number;
};

export type RoundTime = {
  readonly seconds: number;
  /** Of the site that trained longest, and of the one that scored longest. */
  readonly trainingSeconds: number;
  readonly scoringSeconds: number;
  /** Of the round's time, what was neither. */
  readonly shareOutside: number;
};

/** The times of a phase's rounds, and the shares of all of them and of all but the first, in which images are read. */
export function roundTimes(
  logs: readonly (readonly LogLine[])[],
  { rounds, roundsBefore }: { readonly rounds: number; readonly roundsBefore: number },
) {
  const sites = logs.map(jobsOf);
  const within = (kind: string, round: number): Job[] =>
    sites.map((jobs) =>
      expectDefined(
        jobs.filter((job) => job.kind === kind)[roundsBefore + round],
        `${kind} of every site in round ${round + 1}`,
      ),
    );
  const times = Array.from({ length: rounds }, (_, round): RoundTime => {
    const [training, scoring] = [within("train", round), within("evaluate", round)];
    const start = Math.min(...training.map(({ startMs }) => startMs));
    const end =
      round + 1 < rounds
        ? Math.min(...within("train", round + 1).map(({ startMs }) => startMs))
        : Math.max(...scoring.map(({ endMs }) => endMs));
    const longest = (jobs: readonly Job[]): number => Math.max(...jobs.map(({ computedMs }) => computedMs));
    const [trainingMs, scoringMs] = [longest(training), longest(scoring)];
    return {
      ...{ seconds: (end - start) / 1000, trainingSeconds: trainingMs / 1000 },
      ...{ scoringSeconds: scoringMs / 1000, shareOutside: 1 - (trainingMs + scoringMs) / (end - start) },
    };
  });
  return { times, shareOutside: shareOf(times), shareOutsideAfterTheFirst: shareOf(times.slice(1)) };
}

function shareOf(times: readonly RoundTime[]): number | null {
  const seconds = times.reduce((sum, time) => sum + time.seconds, 0);
  const outside = times.reduce((sum, time) => sum + time.seconds * time.shareOutside, 0);
  return seconds > 0 ? outside / seconds : null;
}

/** The jobs that came to their end. */
function jobsOf(lines: readonly LogLine[]): Job[] {
  const jobs: Job[] = [];
  let startMs = 0;
  let computedMs = 0;
  for (const { event, time, job = "", durationMs = 0 } of lines) {
    if (event === "job.started") [startMs, computedMs] = [time, 0];
    if (event === "job.computed") computedMs = durationMs;
    if (event === "job.finished") jobs.push({ kind: job, startMs, endMs: time, computedMs });
  }
  return jobs;
}
