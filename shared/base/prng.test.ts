import t from "tap";
import { Prng } from "./prng.ts";

const draw = (prng: Prng, count: number): number[] => Array.from({ length: count }, () => prng.uint32());

t.test("the same seed and label give the same numbers, others give others", async (t) => {
  t.strictSame(draw(new Prng(7), 20), draw(new Prng(7), 20));
  t.notSame(draw(new Prng(7), 20), draw(new Prng(8), 20));
  t.notSame(draw(Prng.labelled(7, "split"), 20), draw(Prng.labelled(7, "shuffle"), 20));
});

t.test("draws are spread as they should be", async (t) => {
  const prng = new Prng(1);
  const total = Array.from({ length: 50_000 }, () => prng.normal());
  const mean = total.reduce((sum, x) => sum + x, 0) / total.length;
  const variance = total.reduce((sum, x) => sum + (x - mean) ** 2, 0) / total.length;
  t.ok(Math.abs(mean) < 0.02, `normal mean ${mean}`);
  t.ok(Math.abs(variance - 1) < 0.03, `normal variance ${variance}`);
  const uniform = Array.from({ length: 50_000 }, () => prng.int(0, 9));
  for (let digit = 0; digit < 10; digit += 1) {
    const share = uniform.filter((x) => x === digit).length / uniform.length;
    t.ok(Math.abs(share - 0.1) < 0.01, `digit ${digit} has share ${share}`);
  }
});

t.test("a shuffle keeps every item and an empty list has nothing to pick", async (t) => {
  const items = [1, 2, 3, 4, 5, 6, 7, 8];
  t.strictSame([...new Prng(3).shuffled(items)].sort(), items);
  t.throws(() => new Prng(3).pick([]), RangeError);
});
