import t from "tap";
import { chunks } from "./chunks.ts";

t.test("a list is cut in order, and only the last piece may be shorter", async (t) => {
  t.strictSame(chunks([1, 2, 3, 4, 5], 2), [[1, 2], [3, 4], [5]]);
  t.strictSame(chunks([1, 2], 2), [[1, 2]]);
  t.strictSame(chunks([], 3), []);
  t.throws(() => chunks([1], 0), /a piece has an element/);
});
