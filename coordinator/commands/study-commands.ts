// `consilium study …` and `consilium round abort`.

import { readFileSync } from "node:fs";
import { StudiesAnswer, StudyAnswer } from "@consilium/shared/protocol/http.ts";
import { io } from "socket.io-client";
import type { CommandContext } from "./context.ts";
import type { OperatorClient } from "./operator-client.ts";
import { chosenStart, type StartOptions } from "./start-choice.ts";
import { table } from "./table.ts";

export async function openStudy(
  planFile: string,
  options: StartOptions,
  { client, print, json }: CommandContext,
): Promise<void> {
  const plan: unknown = JSON.parse(readFileSync(planFile, "utf8"));
  const connection = client();
  const start = await chosenStart(options, connection);
  const study = await connection.post("/v1/studies", { plan, start }, StudyAnswer);
  print(
    json
      ? JSON.stringify(study)
      : `study ${study.study} is open under plan ${study.plan}\n${describe(study)}`,
  );
}

export async function listStudies({ client, print, json }: CommandContext): Promise<void> {
  const { studies } = await client().get("/v1/studies", StudiesAnswer);
  if (json) return print(JSON.stringify(studies));
  const rows = studies.map((one) => [
    one.study,
    one.phase,
    `${one.completedRounds}/${one.rounds}`,
    one.bestMeanDice?.toFixed(4) ?? "-",
    one.released?.slice(0, 12) ?? "-",
    one.title,
  ]);
  print(
    rows.length > 0
      ? table(["study", "phase", "rounds", "best Dice", "released", "title"], rows)
      : "no study is open: open one with consilium study open PLAN",
  );
}

export async function showStudy(
  study: string,
  { watch }: { watch: boolean },
  context: CommandContext,
): Promise<void> {
  const { client, print, json } = context;
  const connection = client();
  const path = `/v1/studies/${encodeURIComponent(study)}`;
  const show = async (): Promise<StudyAnswer> => {
    const answer = await connection.get(path, StudyAnswer);
    print(json ? JSON.stringify(answer) : describe(answer));
    return answer;
  };
  const first = await show();
  if (watch && first.phase !== "finished") await follow(connection, study, { show, context });
}

export async function abortRound(study: string, { client, print, json }: CommandContext): Promise<void> {
  const answer = await client().post(
    `/v1/studies/${encodeURIComponent(study)}/round/abortion`,
    {},
    StudyAnswer,
  );
  print(json ? JSON.stringify(answer) : `the round was abandoned; ${describe(answer)}`);
}

export async function finishStudy(study: string, { client, print, json }: CommandContext): Promise<void> {
  const answer = await client().post(`/v1/studies/${encodeURIComponent(study)}/finish`, {}, StudyAnswer);
  print(json ? JSON.stringify(answer) : describe(answer));
}

function describe(study: StudyAnswer): string {
  const rows = study.sites.map((one) => [
    `  ${one.site}`,
    one.connected ? "connected" : "away",
    one.approvedExamples === null ? "has not approved" : `${one.approvedExamples} cases`,
    one.withdrawn ? "withdrawn" : one.accepted ? "update accepted" : "",
  ]);
  const best = study.best
    ? `best ${study.best.slice(0, 12)} with mean Dice ${study.bestMeanDice?.toFixed(4) ?? "-"}`
    : "no version promoted yet";
  return [
    `${study.study}: ${study.phase}, round ${study.round}, ${study.completedRounds} of ${study.rounds} complete; ${best}`,
    table(["  site", "presence", "plan", "round"], rows),
  ].join("\n");
}

/** Prints what happens until the study has finished. */
function follow(
  connection: OperatorClient,
  study: string,
  { show, context }: { show: () => Promise<StudyAnswer>; context: CommandContext },
): Promise<void> {
  const socket = io(`${connection.url}/operator`, {
    transports: ["websocket"],
    auth: { token: connection.token },
  });
  return new Promise((resolve, reject) => {
    socket.on("connect_error", (error) => {
      socket.close();
      reject(error);
    });
    socket.on(
      "event",
      (event: {
        kind: string;
        site?: string;
        record?: { kind: string; study?: string };
        progress?: Record<string, unknown>;
      }) => {
        if (event.kind === "progress")
          context.print(
            context.json ? JSON.stringify(event) : progressLine(event.site ?? "", event.progress ?? {}),
          );
        if (event.kind !== "entry" || event.record?.study !== study) return;
        context.print(context.json ? JSON.stringify(event) : `  ${event.record.kind}`);
        if (event.record.kind !== "study.finished") return;
        socket.close();
        show().then(() => resolve(), reject);
      },
    );
  });
}

function progressLine(site: string, progress: Record<string, unknown>): string {
  const { phase, round, step, steps, loss } = progress;
  return `  ${site}: round ${round}, ${phase} ${step}/${steps}${typeof loss === "number" ? `, loss ${loss.toFixed(4)}` : ""}`;
}
