// Who may call what: every route, found in the running program, with every kind of caller.

import { io } from "socket.io-client";
import t from "tap";
import { openSmallStudy, startFederation } from "../support/federation.ts";

/** The routes that anyone may call. Whoever adds one has to add it here, and to say why in docs/PROTOCOL.md. */
const publicRoutes = [
  "GET /healthz",
  "GET /readyz",
  "GET /v1/federation",
  "POST /v1/enrolments",
  "POST /v1/challenges",
  "POST /v1/sessions",
];
const operatorOnly = [
  "POST /v1/invitations",
  "GET /v1/sites",
  "POST /v1/sites/{site}/suspension",
  "POST /v1/sites/{site}/resumption",
  "POST /v1/sites/{site}/retirement",
  "POST /v1/studies",
  "GET /v1/studies",
  "GET /v1/studies/{study}",
  "POST /v1/studies/{study}/round/abortion",
  "POST /v1/studies/{study}/finish",
  "POST /v1/studies/{study}/withdrawals",
  "GET /v1/studies/{study}/versions",
  "POST /v1/studies/{study}/release",
  "POST /v1/studies/{study}/rollback",
  "GET /v1/versions/{version}/model",
  "GET /v1/versions/{version}/evidence",
  "GET /v1/audit/entries",
  "POST /v1/audit/verification",
];

t.test("every route denies whoever it is not for, and no route is missing from the lists", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  await openSmallStudy(federation, [a, b]);
  const openapi = (await (await fetch(`${federation.url}/docs/json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  }; // OpenAPI.
  const routes = Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  t.ok(routes.length >= publicRoutes.length + operatorOnly.length);
  for (const listed of [...publicRoutes, ...operatorOnly]) t.ok(routes.includes(listed), `${listed} exists`);

  const call = async (route: string, token: string | null): Promise<number> => {
    const [method = "", path = ""] = route.split(" ");
    const filled = path
      .replace("{site}", "hospital-a")
      .replace("{study}", "small")
      .replace("{version}", "0".repeat(64))
      .replace("{sha256}", "0".repeat(64));
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(`${federation.url}${filled}`, { method, headers });
    await response.arrayBuffer();
    return response.status;
  };
  const foreign = ["x".repeat(43), federation.operatorToken.slice(0, -1), `${federation.operatorToken}a`];
  for (const route of routes) {
    if (publicRoutes.includes(route)) {
      t.not(await call(route, null), 401, `${route} is public`);
      continue;
    }
    t.equal(await call(route, null), 401, `${route} without a token`);
    for (const token of foreign) t.equal(await call(route, token), 401, `${route} with a token of nobody`);
    if (operatorOnly.includes(route))
      t.equal(await call(route, a.token), 403, `${route} with a site's token`);
    t.not(await call(route, federation.operatorToken), 401, `${route} with the operator's token`);
  }
  t.match(await federation.operator("GET", "/v1/nothing"), { status: 404, body: { code: "route.unknown" } });
});

t.test("both sockets refuse whoever has not the right token", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const a = await federation.enrol("hospital-a");
  const outcome = (namespace: string, auth: Record<string, unknown>): Promise<string> =>
    new Promise((resolve) => {
      const socket = io(federation.url + namespace, {
        transports: ["websocket"],
        auth,
        forceNew: true,
        reconnection: false,
      });
      socket.once("connect", () => {
        socket.close();
        resolve("connected");
      });
      socket.once("connect_error", (error) => {
        socket.close();
        resolve(error.message);
      });
    });
  t.equal(await outcome("/sites", {}), "auth.missing");
  t.equal(await outcome("/sites", { token: 5 }), "auth.missing");
  t.equal(await outcome("/sites", { token: "x".repeat(43) }), "auth.refused");
  t.equal(
    await outcome("/sites", { token: federation.operatorToken }),
    "auth.refused",
    "an operator is no site",
  );
  t.equal(await outcome("/sites", { token: a.token }), "connected");
  t.equal(await outcome("/operator", {}), "auth.refused");
  t.equal(await outcome("/operator", { token: a.token }), "auth.refused", "a site is no operator");
  t.equal(await outcome("/operator", { token: federation.operatorToken }), "connected");
  t.match(await outcome("/elsewhere", { token: federation.operatorToken }), /Invalid namespace/);
});

t.test("proofs over the API verify with the tools of the site, for every pair of sizes", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const a = await federation.enrol("hospital-a");
  for (const name of ["hospital-b", "hospital-c", "hospital-d"]) await federation.enrol(name);
  const { openCheckpoint } = await import("@consilium/shared/crypto/checkpoint.ts");
  const { verifyConsistency, verifyInclusion, MerkleTree, leafHash } = await import(
    "@consilium/shared/crypto/merkle.ts"
  );
  const { coordinatorKey } = (await (await fetch(`${federation.url}/v1/federation`)).json()) as {
    coordinatorKey: never;
  }; // FederationAnswer.
  const note = String((await a.http("GET", "/v1/audit/checkpoint")).body["checkpoint"]);
  const head = openCheckpoint(note, federation.origin, coordinatorKey);
  const page = await federation.operator("GET", "/v1/audit/entries?from=0&limit=500");
  const tree = new MerkleTree();
  for (const leaf of page.body["entries"] as string[]) tree.append(leafHash(new TextEncoder().encode(leaf))); // EntriesAnswer.
  t.equal(tree.size, head.size);
  const hashes = (texts: unknown): Uint8Array[] =>
    (texts as string[]).map((text) => new Uint8Array(Buffer.from(text, "base64"))); // ProofAnswer.
  for (let from = 0; from <= head.size; from += 1) {
    const { body } = await a.http("GET", `/v1/audit/consistency?from=${from}&to=${head.size}`);
    t.ok(
      verifyConsistency({ size: from, root: tree.root(from) }, head, hashes(body["proof"])),
      `from ${from}`,
    );
  }
  for (let index = 0; index < head.size; index += 1) {
    const { body } = await a.http("GET", `/v1/audit/inclusion?index=${index}&size=${head.size}`);
    const [leaf = new Uint8Array()] = hashes([body["leafHash"]]);
    t.ok(
      verifyInclusion({ index, size: head.size, leaf, root: head.root }, hashes(body["proof"])),
      `leaf ${index}`,
    );
  }
  t.match(await a.http("GET", `/v1/audit/consistency?from=5&to=${head.size + 1}`), {
    status: 400,
    body: { code: "proof.out-of-range" },
  });
  t.match(await a.http("GET", "/v1/audit/consistency?from=-1&to=x"), {
    status: 400,
    body: { code: "request.malformed" },
  });
});
