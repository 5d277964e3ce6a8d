// A federated round without training: three sites, an update of 1 MB each, over the real HTTP and socket channels into a
// coordinator on PostgreSQL, with evaluation and judgement; beside it, in the same run, the same bytes uploaded and
// synced by a bare server. Prints JSON. npm run bench -- round-overhead [--rounds 20]

import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PrismaLogStore } from "@consilium/coordinator/persistence/prisma-log-store.ts";
import { PrismaSessionStore } from "@consilium/coordinator/persistence/prisma-session-store.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { plainConvUNetTrainable } from "@consilium/shared/model/plain-conv-unet.ts";
import { startFederation, statementFor, submitEvaluation } from "../test/support/federation.ts";
import { type PlainSite, safetensors, sha256Hex } from "../test/support/plain-site.ts";
import { startTestDatabase } from "../test/support/postgres.ts";
import { smallConfig, smallPlan } from "../test/support/small-study.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const rounds = Number(values.rounds);
const siteNames = ["hospital-a", "hospital-b", "hospital-c"];

/** A UNet whose trainable tensors are 1 MB. */
const config = {
  ...smallConfig,
  featuresPerStage: [77, 154],
  kernelSizes: [
    [3, 3],
    [3, 3],
  ] as [[number, number], [number, number]],
};
const manifest = plainConvUNetTrainable(config);
const updateBytes =
  4 * manifest.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);

const test = await startTestDatabase();
const federation = await startFederation({
  logStore: new PrismaLogStore(test.database),
  sessionStore: new PrismaSessionStore(test.database),
});
try {
  const sites: PlainSite[] = [];
  for (const name of siteNames) sites.push(await federation.enrol(name));
  const plan = smallPlan("bench", siteNames, {
    recipe: { id: "unet-prompter", version: 1, config },
    rounds: {
      count: rounds,
      quorum: 3,
      recruitmentMs: 60_000,
      trainingMs: 600_000,
      evaluationMs: 600_000,
      abandonedInARowMax: 1,
    },
  });
  const { status, body } = await federation.operator("POST", "/v1/studies", {
    plan,
    start: { kind: "seeded", seed: 1 },
  });
  if (status !== 201) throw new Error(JSON.stringify(body));
  for (const site of sites) {
    await site.connect();
    const approval = {
      origin: site.origin,
      site: site.name,
      study: "bench",
      plan: String(body["plan"]),
      examples: 10,
      approver: "bench",
      approvedAtMs: 0,
    };
    await site.send({ kind: "plan.approve", envelope: site.seal("plan-approval", approval) });
  }
  const seconds: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const updates = sites.map((_, at) => update(round * 10 + at));
    const startMs = performance.now();
    await Promise.all(sites.map((site, at) => submit(site, updates[at] ?? new Uint8Array(), round)));
    await Promise.all(sites.map((site) => submitEvaluation(site, 0.5)));
    seconds.push((performance.now() - startMs) / 1000);
  }
  for (const site of sites) await site.expect("study.finished");
  seconds.sort((a, b) => a - b);
  const at = (share: number): number =>
    seconds[Math.min(seconds.length - 1, Math.floor(share * seconds.length))] ?? Number.NaN;
  const bare = await bareUploads();
  const result = {
    what: "round without training: offer, upload, intake, FedAvg, version, evaluation, judgement, next offer",
    sites: sites.length,
    updateMB: updateBytes / 1e6,
    rounds,
    secondsPerRound: { median: at(0.5), p95: at(0.95) },
    bareUploadSecondsPerRound: bare,
    ratioToBareUpload: at(0.5) / bare,
    publishedElsewhere: {
      nvflareSeconds: 2.5,
      flowerSeconds: 6.15,
      note: "NVFlare 2.9 and Flower 1.41 on a machine of this kind, 1 MiB payload, 3 clients; not measured in this run",
    },
  };
  console.log(JSON.stringify(result, null, 2));
} finally {
  await federation.close();
  await test.close();
}

function update(seed: number): Uint8Array {
  const prng = new Prng(seed);
  const tensors = manifest.map(({ name, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return [
      name,
      { shape, values: Float32Array.from({ length: count }, () => (prng.next() - 0.5) / 1000) },
    ] as const;
  });
  return safetensors(Object.fromEntries(tensors));
}

async function submit(site: PlainSite, bytes: Uint8Array, round: number): Promise<void> {
  const offer = await site.expect("round.offer", (message) => message["round"] === round);
  const delta = await site.upload(bytes);
  await site.send({ kind: "update.submit", envelope: site.seal("update", statementFor(site, offer, delta)) });
}

/** Three uploads of the same size at once into files that are synced, and nothing else. */
async function bareUploads(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "consilium-bench-"));
  let files = 0;
  const server = createServer((request, response) => {
    const descriptor = openSync(join(folder, String(files++)), "w");
    request.on("data", (chunk: Buffer) => writeSync(descriptor, chunk));
    request.on("end", () => {
      fsyncSync(descriptor);
      closeSync(descriptor);
      response.end();
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const bodies = siteNames.map((_, at) => update(round * 10 + at));
    const startMs = performance.now();
    await Promise.all(
      bodies.map(async (body) =>
        fetch(`${url}/${sha256Hex(body)}`, { method: "PUT", body: body as NonNullable<RequestInit["body"]> }),
      ),
    ); // Bytes are a body.
    seconds.push((performance.now() - startMs) / 1000);
  }
  server.close();
  rmSync(folder, { recursive: true, force: true });
  return seconds.sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? Number.NaN;
}
