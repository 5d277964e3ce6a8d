import { join } from "node:path";
import { siteId } from "@consilium/shared/base/brand.ts";
import { openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { AlarmDocument } from "@consilium/shared/protocol/documents.ts";
import t, { type Test } from "tap";
import { exitCodes } from "../../site-agent/exit-codes.ts";
import { homeAt } from "../../site-agent/identity/home.ts";
import { readEnrolled } from "../../site-agent/identity/site-file.ts";
import { HonestCoordinator } from "../support/honest-coordinator/honest-coordinator.ts";
import { SiteCommand, siteCommand } from "../support/site-command.ts";

const site = siteId("hospital-a");

async function enrolledSite(t: Test): Promise<{ coordinator: HonestCoordinator; home: string }> {
  const coordinator = new HonestCoordinator();
  await coordinator.start();
  t.teardown(() => coordinator.stop());
  const home = join(t.testdir({}), "home");
  const { code, output } = await siteCommand(["enrol", coordinator.invite(site), "--home", home]);
  if (code !== 0) throw new Error(output);
  return { coordinator, home };
}

const run = (home: string): SiteCommand => new SiteCommand(["run", "--home", home]);

/** Run until the log has been witnessed, then stop. */
async function witness(t: Test, home: string): Promise<void> {
  const agent = run(home);
  await agent.says("witnessed");
  agent.kill("SIGTERM");
  t.equal(await agent.ended(), exitCodes.done.code);
}

t.test("a rewritten log stops the site until a person clears the alarm", async (t) => {
  const { coordinator, home } = await enrolledSite(t);
  coordinator.log.append("entry 1");
  coordinator.log.append("entry 2");
  await witness(t, home);

  coordinator.log.rewrite(1, ["another entry 1", "another entry 2", "entry 3"]);
  const alarmed = run(home);
  t.equal(await alarmed.ended(), exitCodes.alarm.code);
  // Two streams, whose order is nobody's.
  t.match(alarmed.output, /ALARM: the coordinator's log was altered/);
  t.match(alarmed.output, /ALARM[\s\S]*does not continue[\s\S]*--clear-alarm/);
  const alarm = coordinator.study.messages("witness.alarm")[0];
  const { identity } = await readEnrolled(homeAt(home));
  const statement = openEnvelope(AlarmDocument, alarm?.envelope, identity.key.publicKey);
  t.match(statement, { site, heldSize: 3, offeredSize: 4, reason: "inconsistent" });

  coordinator.study.owed = () => {
    t.fail("an alarmed site asks for nothing");
    return [];
  };
  const again = run(home);
  t.equal(await again.ended(), exitCodes.alarm.code, "also after a restart");
  t.equal(coordinator.study.messages("witness.alarm").length, 2, "and says so again");
  coordinator.study.owed = () => [];
  const checked = await siteCommand(["check", "--home", home, "--json", "--backend", "cpu"]);
  t.equal(checked.code, exitCodes.alarm.code);
  t.match(JSON.parse(checked.result), { journal: { alarm: "inconsistent" }, log: { continues: false } });

  const clear = ["check", "--home", home, "--clear-alarm", "Data protection officer"];
  t.equal((await siteCommand(clear)).code, 0);
  const third = run(home);
  t.equal(await third.ended(), exitCodes.alarm.code, "the log is still another one");
  t.equal((await siteCommand([...clear, "--trust-current-log"])).code, 0);
  coordinator.log.append("entry 4");
  await witness(t, home);
  const nothing = await siteCommand(clear);
  t.equal(nothing.code, exitCodes.usage.code, "there is nothing to clear any more");
});

t.test("one agent to a home folder, and a clean end on SIGTERM while disconnected", async (t) => {
  const { coordinator, home } = await enrolledSite(t);
  const first = run(home);
  await coordinator.until(() => coordinator.isConnected(site));
  const second = run(home);
  t.equal(await second.ended(), exitCodes.locked.code);
  await coordinator.stop();
  await first.says("no connection");
  first.kill("SIGTERM");
  t.equal(await first.ended(), exitCodes.done.code);
});

t.test("faults of a command line, an invitation and a home end with their own codes", async (t) => {
  const home = join(t.testdir({}), "home");
  const ends = async (args: string[], reason: keyof typeof exitCodes): Promise<void> => {
    const { code, output } = await siteCommand([...args, "--home", home], { CONSILIUM_LOG: "debug" });
    t.equal(code, exitCodes[reason].code, `${args.join(" ")}: ${output.slice(0, 200)}`);
  };
  await ends(["enrol", "nonsense"], "usage");
  await ends(["run"], "identity");
  await ends(["dance"], "usage");
  await ends(["train", "--backend", "abacus"], "usage");
  for (const format of ["int8", "", "BFLOAT16", "bfloat16,".repeat(1000)])
    await ends(["check", "--products", format], "usage");
  await ends(["ledger"], "done");
  const { code } = await siteCommand(["ledger", "--home", home], { CONSILIUM_LOG: "shouting" });
  t.equal(code, exitCodes.configuration.code);
});
