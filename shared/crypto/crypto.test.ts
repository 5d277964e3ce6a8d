import fc from "fast-check";
import t from "tap";
import { Type } from "typebox";
import { publicKey } from "../base/brand.ts";
import { Prng } from "../base/prng.ts";
import { openCheckpoint, openNote, signCheckpoint } from "./checkpoint.ts";
import { blobDigest, documentDigest, sha256Bytes } from "./digest.ts";
import { documentType, openEnvelope, preAuthenticationEncoding, seal } from "./envelope.ts";
import {
  generateSigningKey,
  publicKeyFromBytes,
  signingKeyFromPem,
  signingKeyFromSeed,
  verifySignature,
} from "./keys.ts";
import { leafHash, MerkleTree, nodeHash, verifyConsistency, verifyInclusion } from "./merkle.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

t.test("digests conform to FIPS 180-4 and keep their domains apart", async (t) => {
  t.equal(blobDigest(utf8("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  t.not(documentDigest("plan", { a: 1 }), documentDigest("model-version", { a: 1 }));
  t.equal(documentDigest("plan", { b: 2, a: 1 }), documentDigest("plan", { a: 1, b: 2 }));
});

t.test("Ed25519 conforms to RFC 8032 section 7.1, tests 1 to 3", async (t) => {
  const vectors = [
    [
      "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
      "",
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
      "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
      "72",
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
      "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
      "af82",
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
  ] as const;
  for (const [seed, key, message, signature] of vectors) {
    const signer = signingKeyFromSeed(bytes(seed));
    t.equal(signer.publicKey, publicKeyFromBytes(bytes(key)));
    t.equal(hex(signer.sign(bytes(message))), signature);
    t.ok(verifySignature(signer.publicKey, bytes(message), bytes(signature)));
    t.notOk(verifySignature(signer.publicKey, bytes(`${message}00`), bytes(signature)));
    t.notOk(verifySignature(signer.publicKey, bytes(message), bytes(signature).subarray(1)));
  }
  const key = generateSigningKey();
  t.equal(signingKeyFromPem(key.exportPem()).publicKey, key.publicKey);
  t.throws(() => signingKeyFromPem("-----BEGIN NONSENSE-----"), { code: "key.malformed" });
});

const Greeting = documentType(
  "greeting",
  Type.Object({ text: Type.String() }, { additionalProperties: false }),
);

t.test("an envelope opens for its signer, its type and its exact bytes, and for nothing else", async (t) => {
  // The pre-authentication encoding printed in the DSSE protocol document.
  const encoded = preAuthenticationEncoding("http://example.com/HelloWorld", utf8("hello world"));
  t.equal(Buffer.from(encoded).toString(), "DSSEv1 29 http://example.com/HelloWorld 11 hello world");

  const key = generateSigningKey();
  const envelope = seal(Greeting, { text: "hello" }, key);
  t.strictSame(openEnvelope(Greeting, envelope, key.publicKey), { text: "hello" });

  const refuses = (changed: unknown, code: string, signer = key.publicKey, type = Greeting): void => {
    t.throws(() => openEnvelope(type, changed, signer), { code });
  };
  refuses(null, "envelope.malformed");
  refuses({ ...envelope, extra: 1 }, "envelope.malformed");
  refuses(
    { ...envelope, signatures: [...envelope.signatures, ...envelope.signatures] },
    "envelope.malformed",
  );
  refuses(envelope, "envelope.wrong-signer", generateSigningKey().publicKey);
  refuses(envelope, "envelope.wrong-type", key.publicKey, documentType("farewell", Greeting.schema));
  refuses(
    { ...envelope, payload: Buffer.from('{"text":"bye"}').toString("base64") },
    "envelope.bad-signature",
  );
  refuses({ ...envelope, payload: `${envelope.payload}\n` }, "envelope.malformed");
  const spaced = { sign: key.sign, publicKey: key.publicKey, payload: utf8('{"text": "hello"}') };
  const signature = spaced.sign(preAuthenticationEncoding(Greeting.payloadType, spaced.payload));
  const forged = {
    payload: Buffer.from(spaced.payload).toString("base64"),
    payloadType: Greeting.payloadType,
    signatures: [{ keyid: key.publicKey, sig: Buffer.from(signature).toString("base64") }],
  };
  refuses(forged, "envelope.bad-payload");
  refuses(seal({ ...Greeting, schema: Type.Any() }, { text: 5 }, key), "envelope.bad-payload");
});

t.test("every single flipped bit of an envelope is refused", async (t) => {
  const key = generateSigningKey();
  const text = JSON.stringify(seal(Greeting, { text: "hello" }, key));
  const raw = Buffer.from(text);
  let opened = 0;
  for (let bit = 0; bit < raw.length * 8; bit += 1) {
    const copy = Buffer.from(raw);
    copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    try {
      openEnvelope(Greeting, JSON.parse(copy.toString()), key.publicKey);
      opened += 1;
    } catch {
      // Refused, as it must be: as JSON, as an envelope or as a signature.
    }
  }
  t.equal(opened, 0);
});

t.test("tree hashes conform to the test vectors of the Certificate Transparency reference log", async (t) => {
  const inputs = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
  ];
  const roots = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
  ];
  const tree = new MerkleTree();
  t.equal(hex(tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  inputs.forEach((input, index) => {
    tree.append(leafHash(bytes(input)));
    t.equal(hex(tree.root()), roots[index]);
  });
  t.strictSame(tree.inclusionProof(0, 8).map(hex), [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
  ]);
  t.strictSame(tree.consistencyProof(6, 8).map(hex), [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  ]);
});

t.test("every proof of every pair of sizes verifies, and no altered one does", async (t) => {
  const tree = new MerkleTree();
  const leaves = Array.from({ length: 40 }, (_, index) => leafHash(Uint8Array.of(index)));
  for (const leaf of leaves) tree.append(leaf);
  const prng = new Prng(1);
  let accepted = 0;
  for (let size = 1; size <= 40; size += 1) {
    const root = tree.root(size);
    for (let index = 0; index < size; index += 1) {
      const proof = tree.inclusionProof(index, size);
      const claim = { index, size, root, leaf: tree.leaf(index) };
      t.ok(verifyInclusion(claim, proof), `leaf ${index} of ${size}`);
      if (verifyInclusion({ ...claim, index: (index + 1) % size }, proof) && size > 1) accepted += 1;
      if (verifyInclusion(claim, [...proof, root])) accepted += 1;
      if (proof.length > 0 && verifyInclusion(claim, proof.slice(1))) accepted += 1;
      if (proof.length > 0 && verifyInclusion(claim, flipped(proof, prng))) accepted += 1;
    }
    for (let from = 0; from <= size; from += 1) {
      const proof = tree.consistencyProof(from, size);
      const [earlier, later] = [
        { size: from, root: tree.root(from) },
        { size, root },
      ];
      t.ok(verifyConsistency(earlier, later, proof), `${from} to ${size}`);
      if (from > 0 && verifyConsistency({ ...earlier, root: nodeHash(root, root) }, later, proof))
        accepted += 1;
      if (verifyConsistency(earlier, later, [...proof, root])) accepted += 1;
      if (proof.length > 0 && verifyConsistency(earlier, later, flipped(proof, prng))) accepted += 1;
    }
  }
  t.equal(accepted, 0, "no altered proof was accepted");
  t.notOk(
    verifyConsistency({ size: 2, root: tree.root(2) }, { size: 1, root: tree.root(1) }, []),
    "a log never shrinks",
  );
});

function flipped(proof: readonly Uint8Array[], prng: Prng): Uint8Array[] {
  const copy = proof.map((hash) => Uint8Array.from(hash));
  const hash = prng.pick(copy);
  const at = prng.int(0, 31);
  hash[at] = (hash[at] ?? 0) ^ (1 << prng.int(0, 7));
  return copy;
}

t.test("a truncated tree grows again as if nothing had been", async (t) => {
  for (let size = 0; size <= 20; size += 1) {
    const tree = new MerkleTree();
    for (let index = 0; index < 20; index += 1) tree.append(leafHash(Uint8Array.of(index)));
    const whole = hex(tree.root());
    tree.truncate(size);
    for (let index = size; index < 20; index += 1) tree.append(leafHash(Uint8Array.of(index)));
    t.equal(hex(tree.root()), whole, `from ${size}`);
  }
});

t.test("a tree's history is a function of its leaves", async () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 60 }), fc.nat(60), (leaves, cut) => {
      const whole = new MerkleTree();
      const part = new MerkleTree();
      for (const leaf of leaves) whole.append(leafHash(leaf));
      for (const leaf of leaves.slice(0, cut)) part.append(leafHash(leaf));
      return hex(whole.root(part.size)) === hex(part.root());
    }),
  );
});

t.test("notes conform to the published example of C2SP signed-note", async (t) => {
  const text =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
  const note = `${text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n`;
  const raw = Buffer.from("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "base64").subarray(1); // Algorithm 1, then the key.
  t.equal(openNote(note, "PeterNeumann", publicKeyFromBytes(raw)), text);
  t.throws(() => openNote(note, "Peter", publicKeyFromBytes(raw)), { code: "checkpoint.not-signed" });
});

t.test("a checkpoint opens only in the exact form its log signed", async (t) => {
  const key = generateSigningKey();
  const origin = "consilium.example/log";
  const note = signCheckpoint({ origin, size: 7, root: sha256Bytes() }, key);
  t.match(openCheckpoint(note, origin, key.publicKey), { origin, size: 7 });
  for (const changed of [
    `${note}\n`,
    ` ${note}`,
    note.replace("7", "8"),
    note.replace(origin, "other"),
    note.trimEnd(),
    "",
    note + note,
  ]) {
    t.throws(() => openCheckpoint(changed, origin, key.publicKey), { name: "CheckpointError" });
  }
  t.throws(() => openCheckpoint(note, origin, generateSigningKey().publicKey), {
    code: "checkpoint.not-signed",
  });
  t.throws(() => publicKey("ed25519:short"), { code: "name.malformed" });
});
