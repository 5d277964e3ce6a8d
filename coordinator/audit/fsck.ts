// Derives everything again from the log's own bytes and compares: leaf hashes, the signed heads, the rules of the log,
// every signed document, and the tables made from it. It trusts the coordinator's key and nothing in the database.

import type { PublicKey } from "@consilium/shared/base/brand.ts";
import { openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { equalBytes, MerkleTree } from "@consilium/shared/crypto/merkle.ts";
import {
  evolveFederation,
  type FederationState,
  initialFederationState,
} from "@consilium/shared/protocol/federation.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import { RecordChecker } from "../evidence/check-records.ts";
import type { LogStore, StoredCheckpoint } from "../persistence/ports.ts";
import { foldTables, project, type RowChange, type Tables, tableNames } from "../persistence/projection.ts";
import { fromStored } from "./leaf.ts";

const pageEntries = 1000;
/** Faults listed; a database damaged beyond this is no longer worth a list. */
const faultsMax = 200;

export type FsckReport = { readonly entries: number; readonly faults: readonly string[] };

export async function fsck(store: LogStore, origin: string, key: PublicKey): Promise<FsckReport> {
  const faults: string[] = [];
  const tree = new MerkleTree();
  const checker = new RecordChecker(origin, key);
  const changes: RowChange[] = [];
  let state: FederationState = initialFederationState;
  for (let size = await store.size(); tree.size < size; ) {
    const page = await store.read(tree.size, pageEntries);
    if (page.length === 0) break;
    for (const stored of page) {
      let entry: LogEntry;
      try {
        entry = fromStored(stored);
      } catch (error) {
        // Nothing after a damaged leaf can be folded.
        return {
          entries: tree.size,
          faults: [...faults, `${(error as Error).message}; entries from here on were not looked at`],
        };
      }
      if (entry.index !== tree.size)
        return { entries: tree.size, faults: [...faults, `entry ${tree.size} is missing`] };
      tree.append(stored.leafHash);
      faults.push(
        ...checker.check(state, entry).map((fault) => `entry ${entry.index}, ${entry.record.kind}: ${fault}`),
      );
      state = evolveFederation(state, entry);
      changes.push(...project(entry, state));
    }
    size = Math.max(size, tree.size);
  }
  faults.push(...checkpointFaults(await store.checkpoints(), tree, { origin, key }));
  faults.push(...tableFaults(foldTables(changes), await store.tables()));
  return { entries: tree.size, faults: faults.slice(0, faultsMax) };
}

function checkpointFaults(
  stored: readonly StoredCheckpoint[],
  tree: MerkleTree,
  { origin, key }: { origin: string; key: PublicKey },
): string[] {
  const faults = stored.flatMap(({ size, number, note }, at) => {
    if (number !== at) return [`checkpoint number ${at} is missing`];
    try {
      const head = openCheckpoint(note, origin, key);
      if (head.size !== size) return [`checkpoint ${size} speaks of size ${head.size}`];
      if (size > tree.size) return [`checkpoint ${size} was signed for entries that are gone`];
      return equalBytes(head.root, tree.root(size))
        ? []
        : [`checkpoint ${size} was signed for other entries`];
    } catch (error) {
      return [`checkpoint ${size}: ${(error as Error).message}`];
    }
  });
  const head = stored.at(-1)?.size ?? 0;
  return head === tree.size || faults.length > 0
    ? faults
    : [...faults, `the latest checkpoint has size ${head}, the log ${tree.size}`];
}

function tableFaults(expected: Tables, found: Tables): string[] {
  return tableNames.flatMap((table) => {
    const keys = new Set([...expected[table].keys(), ...found[table].keys()]);
    return [...keys].flatMap((key) => {
      const [should, is] = [expected[table].get(key), found[table].get(key)];
      if (!is) return [`table ${table}: row ${key} is missing`];
      if (!should) return [`table ${table}: row ${key} has no entry in the log`];
      const columns = Object.keys({ ...should, ...is }).filter(
        (column) => JSON.stringify(should[column]) !== JSON.stringify(is[column]),
      );
      return columns.map((column) => `table ${table}: row ${key}: column ${column} is not what the log says`);
    });
  });
}
