// One log entry as the bytes of its leaf and back. The text is canonical JSON, so an entry has exactly one.

import { equalBytes, leafHash } from "@consilium/shared/crypto/merkle.ts";
import {
  decodeCanonicalJson,
  encodeCanonicalJson,
  type Json,
} from "@consilium/shared/encoding/canonical-json.ts";
import { isStudyRecord, LogEntry } from "@consilium/shared/protocol/records.ts";
import { Value } from "typebox/value";
import type { StoredEntry } from "../persistence/ports.ts";

export class LeafError extends Error {
  override name = "LeafError";
  readonly code = "log.damaged";
}

export function toStored(entry: LogEntry): StoredEntry {
  const bytes = encodeCanonicalJson(entry as unknown as Json); // The schema describes JSON.
  const study = isStudyRecord(entry.record) ? entry.record.study : null;
  const { index, record } = entry;
  return {
    index,
    kind: record.kind,
    study,
    leaf: new TextDecoder().decode(bytes),
    leafHash: leafHash(bytes),
  };
}

/**
 * The entry in a leaf's text.
 * @throws LeafError when the text is not the canonical form of a log entry at that index
 */
export function parseLeaf(text: string, index: number): LogEntry {
  let entry: unknown;
  try {
    entry = decodeCanonicalJson(new TextEncoder().encode(text));
  } catch (cause) {
    throw new LeafError(`entry ${index} is not canonical JSON`, { cause });
  }
  if (!Value.Check(LogEntry, entry)) throw new LeafError(`entry ${index} is not a log entry`);
  if (entry.index !== index) throw new LeafError(`entry ${index} says it is entry ${entry.index}`);
  return entry;
}

/** @throws LeafError when any column of the stored row disagrees with its leaf */
export function fromStored(stored: StoredEntry): LogEntry {
  const entry = parseLeaf(stored.leaf, stored.index);
  const again = toStored(entry);
  if (!equalBytes(again.leafHash, stored.leafHash))
    throw new LeafError(`entry ${stored.index} does not have its hash`);
  if (again.kind !== stored.kind || again.study !== stored.study) {
    throw new LeafError(`entry ${stored.index} is filed under another kind or study`);
  }
  return entry;
}
