// The transparency log and its projections in Postgres. One transaction appends entries, their signed checkpoint and
// the rows they change; an advisory lock makes appends of several coordinators follow each other.

import { Prisma } from "./generated/client.ts";
import {
  type Append,
  LogConflictError,
  type LogStore,
  type StoredCheckpoint,
  type StoredEntry,
} from "./ports.ts";
import { type Database, transactionLimits } from "./prisma-client.ts";
import {
  primaryKeys,
  type Row,
  type RowChange,
  rowKey,
  type TableName,
  type Tables,
  tableNames,
} from "./projection.ts";

/** Names the lock that appending transactions take. */
const appendLock = 7_263_501;

/** Prisma's names of the projections. */
const models = {
  site: "site",
  invitation: "invitation",
  study: "study",
  plan_approval: "planApproval",
  round: "round",
  round_update: "roundUpdate",
  refusal: "refusal",
  model_version: "modelVersion",
  evaluation: "evaluation",
} as const satisfies Record<TableName, string>;

/** What the projections' delegates have in common; Prisma types each by its own model. */
type Delegate = {
  upsert(arguments_: { where: unknown; create: unknown; update: unknown }): Promise<unknown>;
  findMany(): Promise<Record<string, unknown>[]>;
};

export class PrismaLogStore implements LogStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async size(): Promise<number> {
    const last = await this.#database.auditEntry.findFirst({
      orderBy: { index: "desc" },
      select: { index: true },
    });
    return last ? Number(last.index) + 1 : 0;
  }

  async read(from: number, limit: number): Promise<StoredEntry[]> {
    const rows = await this.#database.auditEntry.findMany({
      where: { index: { gte: from } },
      orderBy: { index: "asc" },
      take: limit,
    });
    return rows.map((row) => ({ ...row, index: Number(row.index) }));
  }

  async append({ entries, checkpoint, changes }: Append): Promise<void> {
    const first = entries[0]?.index ?? 0;
    try {
      await this.#database.$transaction(async (transaction) => {
        const [lock] = await transaction.$queryRaw<{ size: bigint }[]>(
          Prisma.sql`SELECT coalesce(max("index") + 1, 0) AS size FROM audit_entry, (SELECT pg_advisory_xact_lock(${appendLock}::bigint)) AS held`,
        );
        if (Number(lock?.size ?? 0) !== first) throw new LogConflictError("another coordinator was first");
        await transaction.auditEntry.createMany({
          data: entries.map((entry) => ({ ...entry, leafHash: new Uint8Array(entry.leafHash) })),
        });
        const before = await transaction.auditCheckpoint.findFirst({ orderBy: { number: "desc" } });
        const number = before ? before.number + 1n : 0n;
        await transaction.auditCheckpoint.create({ data: { ...checkpoint, number } });
        for (const change of changes) await upsert(transaction, change);
      }, transactionLimits);
    } catch (error) {
      // The lock serialises honest writers; the primary key stops any other.
      if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === "P2002") {
        throw new LogConflictError("another coordinator was first", { cause: error });
      }
      throw error;
    }
  }

  async latestCheckpoint(): Promise<StoredCheckpoint | null> {
    const row = await this.#database.auditCheckpoint.findFirst({ orderBy: { size: "desc" } });
    return row && plainCheckpoint(row);
  }

  async checkpoints(): Promise<StoredCheckpoint[]> {
    const rows = await this.#database.auditCheckpoint.findMany({ orderBy: { size: "asc" } });
    return rows.map(plainCheckpoint);
  }

  async tables(): Promise<Tables> {
    const read = async (table: TableName): Promise<[TableName, Map<string, Row>]> => {
      const rows = (await delegate(this.#database, table).findMany()).map(plainRow);
      return [table, new Map(rows.map((row) => [rowKey(table, row), row]))];
    };
    const entries = await Promise.all(tableNames.map(read));
    return Object.fromEntries(entries) as Record<TableName, Map<string, Row>>; // fromEntries forgets the keys.
  }
}

type Client = Pick<Database, (typeof models)[TableName]>;

function delegate(client: Client, table: TableName): Delegate {
  return client[models[table]] as unknown as Delegate; // Every delegate has these methods; their types differ by model.
}

async function upsert(client: Client, { table, row }: RowChange): Promise<void> {
  const keys = primaryKeys[table];
  const key = Object.fromEntries(keys.map((column) => [column, row[column]]));
  const where = keys.length === 1 ? key : { [keys.join("_")]: key };
  await delegate(client, table).upsert({ where, create: row, update: row });
}

function plainCheckpoint({
  size,
  number,
  note,
}: {
  size: bigint;
  number: bigint;
  note: string;
}): StoredCheckpoint {
  return { size: Number(size), number: Number(number), note };
}

/** Database integers of 64 bits are times, sizes and indices: all safe integers. */
function plainRow(row: Record<string, unknown>): Row {
  const cells = Object.entries(row).map(([column, value]) => [
    column,
    typeof value === "bigint" ? Number(value) : value,
  ]);
  return Object.fromEntries(cells) as Row; // The schema has no other column types.
}
