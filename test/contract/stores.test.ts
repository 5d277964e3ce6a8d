import { MemoryLogStore, MemorySessionStore } from "@consilium/coordinator/persistence/memory-stores.ts";
import { PrismaLogStore } from "@consilium/coordinator/persistence/prisma-log-store.ts";
import { PrismaSessionStore } from "@consilium/coordinator/persistence/prisma-session-store.ts";
import t from "tap";
import { startTestDatabase } from "../support/postgres.ts";
import { logStoreContract, projectionContract, sessionStoreContract } from "./log-store.ts";

t.test("the stores in memory keep the contract", async (t) => {
  const store = new MemoryLogStore();
  await logStoreContract(t, store);
  await projectionContract(t, store);
  await sessionStoreContract(t, new MemorySessionStore());
});

t.test("the stores in PostgreSQL keep the contract", async (t) => {
  const test = await startTestDatabase();
  t.teardown(() => test.close());
  const store = new PrismaLogStore(test.database);
  await logStoreContract(t, store);
  await projectionContract(t, store);
  await sessionStoreContract(t, new PrismaSessionStore(test.database));
});
