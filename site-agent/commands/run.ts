// `consilium-site run`: the agent at work. It composes journal, ledger, channel, witness and jobs around the machine,
// keeps the clock that the machine lacks, and ends everything in the order that loses nothing.

import { fileURLToPath } from "node:url";
import { secondMs } from "@consilium/shared/base/units.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { helloIntervalMs } from "@consilium/shared/protocol/limits.ts";
import type { SiteRecord } from "@consilium/shared/protocol/site-session.ts";
import { Agent, type AgentEnd, type AgentPorts } from "../agent.ts";
import { ComputeProcess } from "../compute/compute-process.ts";
import type { ComputeWish } from "../config.ts";
import { type AgentEvent, eventOf } from "../events.ts";
import type { ExitReason } from "../exit-codes.ts";
import { faultCode } from "../fault.ts";
import { readEnrolled } from "../identity/site-file.ts";
import { JournalRecord, journalName } from "../journal-record.ts";
import { createLogger } from "../logger.ts";
import { BlobStore } from "../store/blobs.ts";
import { type Journal, openJournal } from "../store/journal.ts";
import { ControlChannel } from "../transport/control-channel.ts";
import { Witness } from "../transport/witness.ts";
import { ApprovalWatch } from "../work/approval-watch.ts";
import type { SitePorts } from "../work/site-ports.ts";
import { siteWork } from "../work/site-work.ts";
import { StudyMaterials } from "../work/study-materials.ts";
import { backendLines } from "./backend-choice.ts";
import type { CommandContext } from "./command-context.ts";
import { type Connection, openConnection, systemClock } from "./connection.ts";
import { EventPrinter } from "./event-printer.ts";

/** How often the wire total is entered into the ledger. */
const balanceIntervalMs = 60 * secondMs;
/** How long a restarted agent with an alarm tries to tell the coordinator before it ends. */
const alarmNoticeMsMax = 10 * secondMs;
const timerMsMax = 2 ** 31 - 1;

const computeProgram = fileURLToPath(new URL("./compute-child.ts", import.meta.url));

export type RunPorts = {
  readonly wish: ComputeWish;
  /** Aborted by SIGINT and SIGTERM. */
  readonly stopped: AbortSignal;
};

export async function runAgent(ports: RunPorts, context: CommandContext): Promise<ExitReason> {
  const { home } = context;
  await readEnrolled(home); // Without an identity there is nothing to lock.
  const journal = await openJournal({
    folder: home.folder,
    name: journalName,
    schema: JournalRecord,
    clock: systemClock,
    pid: process.pid,
  });
  try {
    const connection = await openConnection(home);
    try {
      return await runConnected({ ...ports, journal, connection, context });
    } finally {
      await connection.close();
    }
  } finally {
    await journal.close();
  }
}

type Running = RunPorts & {
  readonly journal: Journal<SiteRecord>;
  readonly connection: Connection;
  readonly context: CommandContext;
};

async function runConnected(running: Running): Promise<ExitReason> {
  const { journal, stopped, context } = running;
  const log = createLogger(context.config.logLevel);
  const printer = new EventPrinter({
    json: context.json,
    isTerminal: process.stdout.isTTY,
    clock: systemClock,
    write: (text) => void process.stdout.write(text),
  });
  const tell = (event: AgentEvent): void => {
    log(event);
    printer.print(event);
  };
  const parts = await composed(running, tell);
  const { agent, channel, witness, compute } = parts;
  tell({ kind: "agent.started", records: journal.records.length, droppedBytes: journal.droppedBytes });
  await agent.post({ kind: "started" });
  channel.start();
  const timers = startTimers(running, parts);
  const stop = (): void => void witness.flush().finally(() => agent.stop());
  stopped.addEventListener("abort", stop, { once: true });
  if (stopped.aborted) stop();
  const end = await agent.ended;
  for (const timer of timers) clearInterval(timer);
  await channel.close();
  await compute.close();
  tell({ kind: "agent.stopped" });
  return reasonOf(end, context);
}

type Parts = {
  readonly agent: Agent;
  readonly channel: ControlChannel;
  readonly approvals: ApprovalWatch;
  readonly witness: Witness;
  readonly compute: ComputeProcess;
};

async function composed(running: Running, tell: (event: AgentEvent) => void): Promise<Parts> {
  const { journal, connection, context, wish } = running;
  const { enrolled, client, wire, ledger, session, patience } = connection;
  const { identity, file } = enrolled;
  const { home, config } = context;
  const blobs = await BlobStore.open(home.blobs);
  const coordinatorKey = file.coordinatorKey;
  const materials = new StudyMaterials({ home, identity, coordinatorKey, client, blobs, patience });
  const { preparedBytesMax } = config;
  const compute = new ComputeProcess({ program: computeProgram, settings: { ...wish, preparedBytesMax } });
  const work: SitePorts = {
    ...{ home, identity, coordinatorKey, client, blobs, materials, compute, patience, tell },
    clock: systemClock,
    onBackend: (started) => {
      for (const line of backendLines(started)) context.remark(line);
    },
    owedBlobs: () =>
      [...agent.state.updates.values()].filter(({ settled }) => !settled).map(({ delta }) => delta),
  };
  const ports: AgentPorts = {
    journal,
    channel: { send: (message) => channel.send(message) },
    work: siteWork(work),
    clock: systemClock,
    deadline: (inMs) => AbortSignal.timeout(Math.min(inMs, timerMsMax)),
    tell: (notice) => {
      const event = eventOf(notice);
      if (event) tell(event);
    },
  };
  const agent = new Agent(journal.records, ports);
  const witness = new Witness({
    identity,
    coordinatorKey,
    clock: systemClock,
    held: () => agent.state.witnessed,
    consistency: (from, to) => client.consistency(from, to),
    report: (event) => agent.post(event),
    onUnchecked: (error) => {
      const code = faultCode(error);
      if (code !== "transport.aborted") tell({ kind: "checkpoint.unchecked", code });
    },
  });
  const channel = new ControlChannel(
    { wire, book: ledger, session, clock: systemClock, ...patience },
    {
      onConnected: () => {
        tell({ kind: "coordinator.connected" });
        void agent.post({ kind: "connected" });
      },
      onDisconnected: (error) => tell({ kind: "coordinator.disconnected", code: faultCode(error) }),
      onMessage: (message) => void agent.post({ kind: "message", message }),
      onGap: () => void agent.post({ kind: "timer" }),
      onCheckpoint: (note) => void witness.observe(note),
      onRefused: (code) => {
        tell({ kind: "coordinator.refused", code });
        // Nothing but another version of the agent can help.
        if (code === "protocol.unsupported") agent.stop({ kind: "failed", error: new ProtocolError(code) });
      },
    },
  );
  const approvals = new ApprovalWatch({ home, identity, agent, tell });
  return { agent, channel, approvals, witness, compute };
}

function startTimers({ connection }: Running, { agent, channel, approvals }: Parts): NodeJS.Timeout[] {
  const fail = (error: unknown): void => agent.stop({ kind: "failed", error });
  const hello = (): void => {
    if (channel.isConnected) void agent.post({ kind: "timer" });
    approvals.look().catch(fail);
  };
  approvals.look().catch(fail);
  const timers = [
    setInterval(hello, helloIntervalMs),
    setInterval(() => void connection.ledger.balance(connection.wire).catch(fail), balanceIntervalMs),
  ];
  if (agent.state.alarm) timers.push(setTimeout(() => agent.stop({ kind: "alarm" }), alarmNoticeMsMax));
  return timers;
}

function reasonOf(end: AgentEnd, { remark }: CommandContext): ExitReason {
  switch (end.kind) {
    case "stopped":
      return "done";
    case "failed":
      throw end.error;
    case "alarm":
      remark(
        "ALARM: the coordinator's log does not continue the checkpoint that this site holds: entries were",
      );
      remark(
        "altered, dropped or reordered, or someone else answers in the coordinator's place. The agent has",
      );
      remark("stopped and starts no more. Call the operator over another line. When the cause is known and");
      remark("settled: consilium-site check --clear-alarm YOUR-NAME");
      return "alarm";
  }
}
