// The Merkle tree of RFC 6962 section 2.1: leaf and node hashes, roots of any earlier size, inclusion and
// consistency proofs, and their verification (RFC 9162 sections 2.1.3.2 and 2.1.4.2). Proofs come from a party that
// is not trusted: their length and every index are checked before they are used.

import { assert, expectDefined } from "../base/assert.ts";
import { sha256Bytes } from "./digest.ts";

const leafPrefix = Uint8Array.of(0);
const nodePrefix = Uint8Array.of(1);

export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256Bytes(leafPrefix, leaf);
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256Bytes(nodePrefix, left, right);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** Grows by appending leaf hashes; answers for every size it has ever had. */
export class MerkleTree {
  /** `levels[h][i]` is the hash of the complete subtree over leaves [i*2^h, (i+1)*2^h). */
  readonly #levels: Uint8Array[][] = [[]];

  get size(): number {
    return this.#level(0).length;
  }

  append(hash: Uint8Array): void {
    assert(hash.length === 32, "a leaf hash has 32 bytes");
    let carry = hash;
    for (let height = 0; ; height += 1) {
      const level = this.#level(height);
      level.push(carry);
      if (level.length % 2 === 1) return;
      carry = nodeHash(expectDefined(level.at(-2), "left sibling"), carry);
    }
  }

  /** Forget everything after the first `size` leaves: what was appended to try and did not become durable. */
  truncate(size: number): void {
    assert(size >= 0 && size <= this.size, `no tree of size ${size}`);
    this.#levels.forEach((level, height) => {
      level.length = Math.floor(size / 2 ** height);
    });
  }

  leaf(index: number): Uint8Array {
    return expectDefined(this.#level(0)[index], `leaf ${index}`);
  }

  /** Root of the tree over the first `size` leaves; SHA-256 of nothing for the empty tree. */
  root(size: number = this.size): Uint8Array {
    assert(size >= 0 && size <= this.size, `no tree of size ${size}`);
    return size === 0 ? sha256Bytes() : this.#range(0, size);
  }

  /** Audit path of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1). */
  inclusionProof(index: number, size: number = this.size): Uint8Array[] {
    assert(index >= 0 && index < size && size <= this.size, `no leaf ${index} in a tree of size ${size}`);
    return this.#path(index, 0, size);
  }

  /** Proof that the tree of `from` leaves is a prefix of the tree of `to` leaves (RFC 6962 section 2.1.2). */
  consistencyProof(from: number, to: number = this.size): Uint8Array[] {
    assert(from >= 0 && from <= to && to <= this.size, `no sizes ${from} and ${to}`);
    return from === 0 || from === to ? [] : this.#subproof(from, 0, to, true);
  }

  #level(height: number): Uint8Array[] {
    let level = this.#levels[height];
    if (!level) this.#levels[height] = level = [];
    return level;
  }

  /** Hash of the leaves [begin, end); a complete aligned subtree is looked up, everything else is split. */
  #range(begin: number, end: number): Uint8Array {
    const width = end - begin;
    const height = Math.log2(width);
    if (Number.isInteger(height) && begin % width === 0) {
      return expectDefined(this.#level(height)[begin / width], "complete subtree");
    }
    const split = begin + splitPoint(width);
    return nodeHash(this.#range(begin, split), this.#range(split, end));
  }

  #path(index: number, begin: number, end: number): Uint8Array[] {
    if (end - begin === 1) return [];
    const split = begin + splitPoint(end - begin);
    return index < split
      ? [...this.#path(index, begin, split), this.#range(split, end)]
      : [...this.#path(index, split, end), this.#range(begin, split)];
  }

  #subproof(size: number, begin: number, end: number, whole: boolean): Uint8Array[] {
    if (size === end - begin) return whole ? [] : [this.#range(begin, end)];
    const width = splitPoint(end - begin);
    const split = begin + width;
    return size <= width
      ? [...this.#subproof(size, begin, split, whole), this.#range(split, end)]
      : [...this.#subproof(size - width, split, end, false), this.#range(begin, split)];
  }
}

/** Largest power of two smaller than `width`. */
function splitPoint(width: number): number {
  let split = 1;
  while (split * 2 < width) split *= 2;
  return split;
}

export type InclusionClaim = { index: number; size: number; leaf: Uint8Array; root: Uint8Array };

/** RFC 9162 section 2.1.3.2. */
export function verifyInclusion(claim: InclusionClaim, proof: readonly Uint8Array[]): boolean {
  if (!Number.isSafeInteger(claim.index) || claim.index < 0 || claim.index >= claim.size) return false;
  let fn = claim.index;
  let sn = claim.size - 1;
  let hash = claim.leaf;
  for (const sibling of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      hash = nodeHash(hash, sibling);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(hash, claim.root);
}

export type TreeHead = { size: number; root: Uint8Array };

/** RFC 9162 section 2.1.4.2: true when the tree at `earlier` is a prefix of the tree at `later`. */
export function verifyConsistency(earlier: TreeHead, later: TreeHead, proof: readonly Uint8Array[]): boolean {
  if (earlier.size > later.size) return false;
  if (earlier.size === later.size) return proof.length === 0 && equalBytes(earlier.root, later.root);
  if (earlier.size === 0) return proof.length === 0;
  const path = Number.isInteger(Math.log2(earlier.size)) ? [earlier.root, ...proof] : [...proof];
  const [first, ...rest] = path;
  if (!first) return false;
  let fn = earlier.size - 1;
  let sn = later.size - 1;
  while (fn % 2 === 1) [fn, sn] = [half(fn), half(sn)];
  let fr = first;
  let sr = first;
  for (const hash of rest) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(hash, fr);
      sr = nodeHash(hash, sr);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = nodeHash(sr, hash);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(fr, earlier.root) && equalBytes(sr, later.root);
}

const half = (value: number): number => Math.floor(value / 2);
