import t from "tap";
import { readConfig } from "./config.ts";

t.test("without settings the backend is chosen, and products are exact", (t) => {
  t.match(readConfig({}), { backend: "auto", products: "float32", wasmThreads: 1 });
  t.match(readConfig({ CONSILIUM_WASM_THREADS: "4" }), { wasmThreads: 4 });
  t.match(readConfig({ CONSILIUM_PRODUCTS: "" }), { products: "float32" }, "an empty one is none");
  t.match(readConfig({ CONSILIUM_PRODUCTS: "bfloat16" }), { products: "bfloat16" });
  t.end();
});

t.test("nonsense is named, all of it at once", (t) => {
  for (const products of ["int8", "BFLOAT16", " bfloat16", "toString", "9".repeat(100_000)])
    t.throws(() => readConfig({ CONSILIUM_PRODUCTS: products }), {
      message: /CONSILIUM_PRODUCTS must be one of float32, bfloat16/,
    });
  t.throws(() => readConfig({ CONSILIUM_PRODUCTS: "int8", CONSILIUM_BACKEND: "abacus" }), {
    message: /CONSILIUM_BACKEND must be one of[\s\S]*CONSILIUM_PRODUCTS must be one of/,
  });
  for (const threads of ["0", "65", "-1", "1.5", "many"])
    t.throws(() => readConfig({ CONSILIUM_WASM_THREADS: threads }), { message: /CONSILIUM_WASM_THREADS/ });
  t.end();
});
