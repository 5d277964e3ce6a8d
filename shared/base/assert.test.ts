import t from "tap";
import { AssertionError, assert, expectDefined, unreachable } from "./assert.ts";

t.test("assertions hold or stop the program", async (t) => {
  assert(true, "holds");
  t.throws(() => assert(false, "does not hold"), AssertionError);
  t.equal(expectDefined(0, "zero is a value"), 0);
  t.throws(() => expectDefined(undefined, "nothing"), { message: "missing: nothing" });
  t.throws(() => unreachable("x" as never, "kind"), { message: 'unexpected kind: "x"' });
});
