import { ManualClock } from "@consilium/shared/base/clock.ts";
import t from "tap";
import { FolderError } from "../data/folder-error.ts";
import { type AgentEvent, describeEvent } from "../events.ts";
import { exitReasonOf, faultCode, faultSentence } from "../fault.ts";
import { createLogger } from "../logger.ts";
import { StoreError } from "../store/store-error.ts";
import { TransportError } from "../transport/transport-error.ts";
import { EventPrinter } from "./event-printer.ts";

const step = (number: number): AgentEvent => ({
  kind: "job.progress",
  job: "train",
  step: number,
  steps: 100,
  loss: 0.5,
});

function printed(options: { json?: boolean; isTerminal?: boolean }, events: readonly AgentEvent[]): string {
  const clock = new ManualClock(0);
  let text = "";
  const write = (part: string): void => {
    text += part;
  };
  const printer = new EventPrinter({ json: false, isTerminal: false, ...options, clock, write });
  for (const event of events) {
    printer.print(event);
    clock.advance(3_000);
  }
  return text;
}

t.test("progress is a line now and then, one line on a terminal, every event for machines", async (t) => {
  const events = [step(1), step(2), step(3), step(4), step(5), step(100), { kind: "agent.stopped" } as const];
  t.equal(
    printed({}, events),
    [
      "training: 1 of 100, loss 0.5000",
      "training: 5 of 100, loss 0.5000",
      "training: 100 of 100, loss 0.5000",
      "agent stopped",
      "",
    ].join("\n"),
  );
  const terminal = printed({ isTerminal: true }, events);
  t.equal(terminal.split("\n").length, 3);
  t.ok(terminal.startsWith("training: 1 of 100, loss 0.5000\r\u001b[Ktraining: 2"));
  const lines = printed({ json: true }, events).trim().split("\n");
  t.strictSame(JSON.parse(lines[1] ?? ""), { atMs: 3000, ...step(2) });
  t.equal(lines.length, events.length);
});

t.test("the log lets through what is exactly an event, and nothing else", async (t) => {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger("debug", { write: (line: string) => void lines.push(JSON.parse(line)) });
  log({ kind: "job.failed", job: "train", code: "folder.unreadable", holdOffMs: 5000 });
  log({ kind: "agent.stopped", patient: "MUSTERMANN" } as never); // What a careless caller might add.
  log({ kind: "job.failed", job: "train", code: "C:\\patients\\MUSTERMANN", holdOffMs: 1 });
  log({ kind: "alarm.raised", reason: "shrunk" });
  t.match(lines[0], { event: "job.failed", code: "folder.unreadable", level: 40 });
  t.match(lines[1], { event: "event.refused" });
  t.match(lines[2], { event: "event.refused" });
  t.match(lines[3], { event: "alarm.raised", level: 60 });
  t.notMatch(JSON.stringify(lines), /MUSTERMANN/);
  t.match(describeEvent({ kind: "alarm.raised", reason: "shrunk" }), /^ALARM/);
});

t.test("of an error only what was written for people is shown", async (t) => {
  const path = Object.assign(new Error("ENOENT: no such file, open '/data/MUSTERMANN.nii'"), {
    code: "ENOENT",
  });
  t.equal(faultCode(path), "ENOENT");
  t.notMatch(faultSentence(path), /MUSTERMANN/);
  t.match(
    faultSentence(new TypeError("MUSTERMANN is undefined")),
    /^Something failed that was not foreseen: TypeError, internal(, at event-printer.test.ts:\d+)?\.$/,
  );
  t.equal(faultSentence("MUSTERMANN"), "Something failed that was not foreseen: string, internal.");
  t.match(
    faultSentence(new FolderError("folder.unreadable")),
    /check that it exists.*\(folder.unreadable\)$/,
  );
  t.equal(exitReasonOf(new FolderError("folder.large")), "data");
  t.equal(exitReasonOf(new StoreError("lock.held", "")), "locked");
  t.equal(exitReasonOf(new TransportError("transport.insecure")), "usage");
  t.equal(exitReasonOf(new TransportError("transport.no-progress")), "unreachable");
  t.equal(exitReasonOf(path), "failed");
});
