import fc from "fast-check";
import t from "tap";
import { fromBase64, fromBase64Url, toBase64, toBase64Url } from "./base64url.ts";
import { canonicalJsonText, decodeCanonicalJson, encodeCanonicalJson, type Json } from "./canonical-json.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

t.test("encoding conforms to the examples of RFC 8785 sections 3.2.2 and 3.2.3", async (t) => {
  const example = JSON.parse(
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
  );
  t.equal(
    canonicalJsonText(example),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
  const keys = ["\u20ac", "\r", "\ufb33", "1", "\ud83d\ude00", "\u0080", "\u00f6"];
  t.strictSame(
    [...canonicalJsonText(Object.fromEntries(keys.map((key, at) => [key, at]))).matchAll(/":(\d)/g)].map(
      (m) => Number(m[1]),
    ),
    [1, 3, 5, 6, 0, 4, 2],
    "keys are sorted by UTF-16 code units",
  );
});

t.test("numbers conform to RFC 8785 appendix B", async (t) => {
  const view = new DataView(new ArrayBuffer(8));
  const vectors = [
    ["0000000000000000", "0"],
    ["8000000000000000", "0"],
    ["0000000000000001", "5e-324"],
    ["7fefffffffffffff", "1.7976931348623157e+308"],
    ["4340000000000000", "9007199254740992"],
    ["4430000000000000", "295147905179352830000"],
    ["44b52d02c7e14af5", "9.999999999999997e+22"],
    ["44b52d02c7e14af6", "1e+23"],
    ["3eb0c6f7a0b5ed8d", "0.000001"],
    ["41b3de4355555557", "333333333.33333343"],
    ["becbf647612f3696", "-0.0000033333333333333333"],
  ] as const;
  for (const [bits, text] of vectors) {
    view.setBigUint64(0, BigInt(`0x${bits}`));
    t.equal(canonicalJsonText(view.getFloat64(0)), text);
  }
  for (const number of [Number.NaN, Number.POSITIVE_INFINITY]) {
    t.throws(() => canonicalJsonText(number), { code: "json.not-encodable" });
  }
});

t.test("only the canonical spelling is read", async (t) => {
  t.strictSame(decodeCanonicalJson(utf8('{"a":1,"b":[]}')), { a: 1, b: [] });
  for (const text of [
    '{"b":1,"a":1}',
    '{"a":1,"a":1}',
    '{"a": 1}',
    '{"a":1}\n',
    '{"a":1.0}',
    '{"a":-0}',
    '"\\u0041"',
    "\ufeff{}",
  ]) {
    t.throws(() => decodeCanonicalJson(utf8(text)), { name: "CanonicalJsonError" }, JSON.stringify(text));
  }
  t.throws(() => decodeCanonicalJson(utf8("[".repeat(40) + "]".repeat(40))), { code: "json.too-deep" });
  t.throws(() => decodeCanonicalJson(Uint8Array.of(0x22, 0xff, 0x22)), { code: "json.malformed" });
  t.throws(() => canonicalJsonText("\ud800"), { code: "json.not-encodable" });
});

t.test("decoding undoes encoding, and the order of keys does not matter", async () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: "grapheme" }), (value) => {
      const bytes = encodeCanonicalJson(value as Json);
      const reversed = JSON.parse(JSON.stringify(value), (_, item) =>
        item && typeof item === "object" && !Array.isArray(item)
          ? Object.fromEntries(Object.entries(item).reverse())
          : item,
      );
      return (
        Buffer.compare(encodeCanonicalJson(decodeCanonicalJson(bytes)), bytes) === 0 &&
        Buffer.compare(encodeCanonicalJson(reversed), bytes) === 0
      );
    }),
  );
});

t.test("base64 has one spelling per byte string", async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      return (
        Buffer.compare(fromBase64(toBase64(bytes)), bytes) === 0 &&
        Buffer.compare(fromBase64Url(toBase64Url(bytes)), bytes) === 0
      );
    }),
  );
  for (const text of ["QQ", "QR==", "QQ==\n", "Q Q=", "-_=="])
    t.throws(() => fromBase64(text), { code: "base64.malformed" });
  for (const text of ["QQ==", "QR", "+/"]) t.throws(() => fromBase64Url(text), { code: "base64.malformed" });
});
