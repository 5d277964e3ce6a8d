// Many small tensors as few: what is done to each number alike is done once for all of them. A model of adapters has
// hundreds of tensors of some hundred numbers, and a step costs more for every tensor than for its numbers.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../backend/tensors.ts";

/** Larger tensors stay by themselves: they would be copied, and gain nothing. */
const SMALL_MAX = 65_536;

type Member = { readonly index: number; readonly shape: number[]; readonly size: number };

type Group = {
  readonly key: string;
  readonly kind: string;
  /** [numbers, 1, 1, ...], with as many axes as the first of its members. */
  readonly shape: number[];
  readonly members: readonly Member[];
};

export class JoinedTensors {
  /** In their order; what is joined goes by their keys. */
  readonly groups: readonly Omit<Group, "members">[];
  readonly #groups: readonly Group[];

  /** @param kindOf only tensors of one kind are joined */
  constructor(tensors: readonly tf.Tensor[], kindOf: (tensor: tf.Tensor, index: number) => string) {
    const members = new Map<string, Member[]>();
    const kinds = new Map<string, string>();
    tensors.forEach((tensor, index) => {
      const kind = kindOf(tensor, index);
      const key = tensor.size <= SMALL_MAX ? kind : `${kind}, ${index}`;
      kinds.set(key, kind);
      members.set(key, [...(members.get(key) ?? []), { index, shape: tensor.shape, size: tensor.size }]);
    });
    this.#groups = [...members].map(([key, own]) => ({
      ...{ key, kind: expectDefined(kinds.get(key), key) },
      ...{ shape: joinedShape(own), members: own },
    }));
    this.groups = this.#groups;
  }

  /** @param tensors of the shapes that it was made for, in their order */
  join(tensors: readonly tf.Tensor[]): Map<string, tf.Tensor> {
    return new Map(
      this.#groups.map(({ key, shape, members }) => {
        const own = members.map(({ index }) => expectDefined(tensors[index], "a tensor"));
        const [only] = own;
        if (only && own.length === 1) return [key, only];
        const flat = own.map((tensor) => tf.reshape(tensor, [tensor.size]));
        return [key, tf.reshape(tf.concat(flat), shape)];
      }),
    );
  }

  /** What was joined, in the order and with the shapes of before. */
  part(joined: ReadonlyMap<string, tf.Tensor>): tf.Tensor[] {
    const parts: tf.Tensor[] = [];
    for (const { key, members } of this.#groups) {
      const whole = expectDefined(joined.get(key), key);
      const sizes = members.map(({ size }) => size);
      const own = members.length === 1 ? [whole] : tf.split(tf.reshape(whole, [whole.size]), sizes);
      members.forEach(({ index, shape }, place) => {
        const part = expectDefined(own[place], "a part");
        parts[index] = members.length === 1 ? part : tf.reshape(part, shape);
      });
    }
    return parts;
  }
}

function joinedShape(members: readonly Member[]): number[] {
  const first = expectDefined(members[0], "a member");
  if (members.length === 1) return first.shape;
  const all = members.reduce((sum, { size }) => sum + size, 0);
  return [all, ...first.shape.slice(1).map(() => 1)];
}
