import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { publicKey } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import t from "tap";
import { HonestCoordinator } from "../../test/support/honest-coordinator/honest-coordinator.ts";
import { readLedger } from "../transport/ledger-report.ts";
import { type EnrolmentOptions, enrol } from "./enrol.ts";
import { homeAt } from "./home.ts";
import { parseInvitation } from "./invitation.ts";
import { readEnrolled } from "./site-file.ts";

function optionsFor(folder: string, change: Partial<EnrolmentOptions> = {}): EnrolmentOptions {
  const home = homeAt(join(folder, "site"));
  const clock = new ManualClock(7);
  return { home, insecureHttp: false, ca: null, agent: "test/1", clock, pid: process.pid, ...change };
}

async function startedCoordinator(teardown: (stop: () => Promise<void>) => void): Promise<HonestCoordinator> {
  const coordinator = new HonestCoordinator();
  await coordinator.start();
  teardown(() => coordinator.stop());
  return coordinator;
}

t.test("an invited site makes a key, is enrolled, and pins its coordinator", async (t) => {
  const coordinator = await startedCoordinator((stop) => t.teardown(stop));
  const options = optionsFor(t.testdir({}));
  const text = coordinator.invite("hospital-a");
  const file = await enrol(parseInvitation(` ${text}\n`), options);
  t.match(file, {
    site: "hospital-a",
    coordinatorKey: coordinator.key.publicKey,
    origin: coordinator.origin,
  });
  const { identity } = await readEnrolled(options.home);
  t.equal(identity.key.publicKey, file.publicKey);
  t.equal((await stat(options.home.keyFile)).mode & 0o777, 0o600);
  const { messages } = await readLedger(options.home.ledger);
  t.strictSame(messages.map(({ message }) => message).sort(), ["enrolment.request", "federation.read"]);
  await t.rejects(enrol(parseInvitation(text), options), { code: "identity.exists" });
});

t.test("an enrolment that broke off is completed with the same key", async (t) => {
  const coordinator = await startedCoordinator((stop) => t.teardown(stop));
  const options = optionsFor(t.testdir({}));
  const invitation = parseInvitation(coordinator.invite("hospital-a"));
  let cuts = 0;
  coordinator.interfere = (request) => (request.url?.includes("enrolments") && cuts++ === 0 ? "cut" : null);
  await t.rejects(enrol(invitation, options), { code: "transport.unreachable" });
  const key = await readFile(options.home.keyFile, "utf8");
  await enrol(invitation, options);
  t.equal(await readFile(options.home.keyFile, "utf8"), key);
});

t.test("a coordinator with another key or log is refused before the secret is shown to it", async (t) => {
  const coordinator = await startedCoordinator((stop) => t.teardown(stop));
  const invitation = parseInvitation(coordinator.invite("hospital-a"));
  const changes = [{ coordinatorKey: generateSigningKey().publicKey }, { origin: "consilium.test/other" }];
  for (const [index, change] of changes.entries()) {
    const options = optionsFor(join(t.testdir({ 0: {}, 1: {} }), String(index)));
    await t.rejects(enrol({ ...invitation, ...change }, options), { code: "transport.other-federation" });
  }
  t.notOk(coordinator.requests.some((one) => one.startsWith("POST")));
});

t.test("an unencrypted coordinator elsewhere gets nothing without --insecure-http", async (t) => {
  const coordinator = await startedCoordinator((stop) => t.teardown(stop));
  const invitation = parseInvitation(coordinator.invite("hospital-a", "http://coordinator.example"));
  await t.rejects(enrol(invitation, optionsFor(t.testdir({}))), { code: "transport.insecure" });
});

t.test("an exposed, damaged or missing identity is refused with what to do", async (t) => {
  const coordinator = await startedCoordinator((stop) => t.teardown(stop));
  const options = optionsFor(t.testdir({}));
  const { home } = options;
  await t.rejects(readEnrolled(home), { code: "identity.missing" });
  await enrol(parseInvitation(coordinator.invite("hospital-a")), options);
  await chmod(home.keyFile, 0o640);
  await t.rejects(readEnrolled(home), { code: "identity.key-exposed", message: /chmod 600/ });
  await chmod(home.keyFile, 0o600);
  const site = await readFile(home.siteFile, "utf8");
  await writeFile(home.siteFile, site.slice(0, -5));
  await t.rejects(readEnrolled(home), { code: "identity.damaged" });
  await writeFile(home.siteFile, site);
  await writeFile(home.keyFile, generateSigningKey().exportPem());
  await t.rejects(readEnrolled(home), { code: "identity.damaged" }, "another key than was enrolled");
  await writeFile(home.keyFile, "no key");
  await t.rejects(readEnrolled(home), { code: "identity.damaged" });
});

t.test("what is not an invitation is refused without being repeated", async (t) => {
  const good = new HonestCoordinator().invite("hospital-a", "https://coordinator.example");
  t.ok(publicKey(parseInvitation(good).coordinatorKey));
  const bad = [
    "",
    "hello",
    good.slice(1),
    good.slice(0, -1),
    `${good}A`,
    good.replace("v1", "v2"),
    "x".repeat(1e5),
  ];
  for (const text of bad) {
    t.throws(() => parseInvitation(text), {
      code: "invitation.malformed",
      message: /^That is not an invitation/,
    });
  }
});
