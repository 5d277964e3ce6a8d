import t from "tap";
import { type LogLine, roundTimes } from "./round-times.ts";

/** Seconds of a site: when it begins to train, how long it computes and takes, and the same of scoring. */
function site(...rounds: readonly (readonly number[])[]): LogLine[] {
  const job = (kind: string, start = 0, computed = 0, taken = 0): LogLine[] => [
    { time: 1000 * start, event: "job.started", job: kind },
    { time: 1000 * (start + computed), event: "job.computed", durationMs: 1000 * computed },
    { time: 1000 * (start + taken), event: "job.finished", job: kind },
  ];
  return rounds.flatMap(([trainAt, trains, trained, scoreAt, scores, scored]) => [
    ...job("train", trainAt, trains, trained),
    ...job("evaluate", scoreAt, scores, scored),
  ]);
}

t.test(
  "a round is as long as until the next one, and what the slowest sites computed is not outside",
  (t) => {
    const logs = [
      site([0, 6, 7, 9, 1, 2], [20, 6, 6, 27, 1, 2]),
      site([1, 5, 9, 10, 3, 4], [21, 5, 6, 28, 1, 2]),
    ];
    const { times, shareOutside, shareOutsideAfterTheFirst } = roundTimes(logs, {
      rounds: 2,
      roundsBefore: 0,
    });
    t.match(times, [
      { seconds: 20, trainingSeconds: 6, scoringSeconds: 3 },
      { seconds: 10, trainingSeconds: 6, scoringSeconds: 1 },
    ]);
    const shares = [...times.map((time) => time.shareOutside), shareOutside, shareOutsideAfterTheFirst];
    t.strictSame(
      shares.map((share) => share?.toFixed(6)),
      [11 / 20, 3 / 10, 14 / 30, 3 / 10].map((share) => share.toFixed(6)),
    );
    t.match(roundTimes(logs, { rounds: 1, roundsBefore: 1 }).times, [{ seconds: 10 }], "a later phase");
    t.throws(() => roundTimes(logs, { rounds: 3, roundsBefore: 0 }), /round 3/);
    t.end();
  },
);
