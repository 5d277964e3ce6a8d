// A network that loses, doubles, delays and so reorders messages, and a virtual clock that jumps from job to job.

import { assert } from "@consilium/shared/base/assert.ts";

const jobCountMax = 20_000;

export type Job = {
  readonly atMs: number;
  readonly order: number;
  readonly node: string;
  /** The life of the process that this job belongs to; null for what outlives one. */
  readonly life: number | null;
  readonly run: () => void;
};

/** Jobs in the order of (time, order of scheduling), on a binary heap. */
export class Agenda {
  #jobs: Job[] = [];
  #order = 0;

  schedule(job: Omit<Job, "order">): void {
    assert(this.#jobs.length < jobCountMax, "the job queue is bounded");
    this.#jobs.push({ ...job, order: this.#order++ });
    let at = this.#jobs.length - 1;
    while (at > 0 && this.#before(at, (at - 1) >> 1)) {
      this.#swap(at, (at - 1) >> 1);
      at = (at - 1) >> 1;
    }
  }

  next(): Job | undefined {
    const first = this.#jobs[0];
    const last = this.#jobs.pop();
    if (first === last || !last) return first;
    this.#jobs[0] = last;
    for (let at = 0; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      const child = right < this.#jobs.length && this.#before(right, left) ? right : left;
      if (child >= this.#jobs.length || !this.#before(child, at)) return first;
      this.#swap(at, child);
      at = child;
    }
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#jobs[a] as Job, this.#jobs[b] as Job]; // Callers pass indices within the heap.
    return x.atMs !== y.atMs ? x.atMs < y.atMs : x.order < y.order;
  }

  #swap(a: number, b: number): void {
    [this.#jobs[a], this.#jobs[b]] = [this.#jobs[b] as Job, this.#jobs[a] as Job]; // Both are within the heap.
  }
}
