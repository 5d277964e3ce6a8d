// The typed client of the generated code over node-postgres. Nothing else imports Prisma.

import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./generated/client.ts";

export type Database = PrismaClient;

/** Connections of one coordinator. */
const connectionsMax = 8;
/** An appending transaction waits this long for its turn, and may take this long. */
export const transactionLimits = { maxWait: 15_000, timeout: 30_000 } as const;

/** @param role a role to become on every connection, where the login itself is the owner. */
export function openDatabase(url: string, role: string | null): Database {
  const options = role === null ? {} : { options: `-c role=${role}` };
  return new PrismaClient({
    adapter: new PrismaPg({ connectionString: url, max: connectionsMax, ...options }),
  });
}
