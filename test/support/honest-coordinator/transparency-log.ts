// The log of the test coordinator: real leaves, real tree, real signed checkpoints. `rewrite` makes it dishonest, for
// tests of those who watch it.

import { assert } from "@consilium/shared/base/assert.ts";
import { signCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { leafHash, MerkleTree } from "@consilium/shared/crypto/merkle.ts";

export class TransparencyLog {
  readonly #origin: string;
  readonly #key: SigningKey;
  #leaves: string[] = [];
  #tree = new MerkleTree();

  constructor(origin: string, key: SigningKey) {
    this.#origin = origin;
    this.#key = key;
  }

  get size(): number {
    return this.#tree.size;
  }

  append(leaf: string): void {
    this.#leaves.push(leaf);
    this.#tree.append(leafHash(new TextEncoder().encode(leaf)));
  }

  checkpoint(size: number = this.size): string {
    return signCheckpoint({ origin: this.#origin, size, root: this.#tree.root(size) }, this.#key);
  }

  /** Null where the log has no such sizes. */
  consistency(from: number, to: number): Uint8Array[] | null {
    return from >= 0 && from <= to && to <= this.size ? this.#tree.consistencyProof(from, to) : null;
  }

  /** History changed after the fact: the leaves from `index` on are replaced. */
  rewrite(index: number, leaves: readonly string[]): void {
    assert(index <= this.#leaves.length, "there is something to rewrite");
    const all = [...this.#leaves.slice(0, index), ...leaves];
    this.#leaves = [];
    this.#tree = new MerkleTree();
    for (const leaf of all) this.append(leaf);
  }
}
