// Check the example of docs/log.md with Node and nothing else: `node verify.mjs FOLDER LOG_KEY [WITNESS_KEY …]`.
// Needs Node 18 or newer. The same checks as verify.py, whose lines it prints too. Exit status 0: all holds; 1: not.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const INDEX = 4; // the entry that the page follows
const OLD_SIZE = 7;

const need = (condition, otherwise) => { if (!condition) throw new Error(otherwise); };
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const same = (a, b) => Buffer.compare(a, b) === 0;

function base64(text) {
  const value = Buffer.from(text, "base64");
  need(value.toString("base64") === text, "base64 in a second spelling");
  return value;
}

// ---- CBOR, as much of RFC 8949 as the files need. Maps become Map, tags {tag, value}, integers Number.

function cbor(data) {
  let at = 0;
  const take = (count) => {
    need(at + count <= data.length, "CBOR that breaks off");
    at += count;
    return data.subarray(at - count, at);
  };
  function item() {
    const [first] = take(1);
    const major = first >> 5, small = first & 31;
    if (major === 7) {
      need(small === 22, "a simple value that is not null");
      return null;
    }
    let number = small;
    if (small >= 24) {
      const width = { 24: 1, 25: 2, 26: 4 }[small];
      need(width, "CBOR of indefinite length, or a number beyond 32 bits");
      number = take(width).readUIntBE(0, width);
      need(number >= (width === 1 ? 24 : 2 ** (4 * width)), "a number that is not in its shortest form");
    }
    switch (major) {
      case 0: return number;
      case 1: return -1 - number;
      case 2: return take(number);
      case 3: return new TextDecoder("utf-8", { fatal: true }).decode(take(number));
      case 4: return Array.from({ length: number }, item);
      case 6: return { tag: number, value: item() };
    }
    const map = new Map();
    for (let i = 0; i < number; i++) {
      const key = item();
      need(!map.has(key), "a map with a key twice");
      map.set(key, item());
    }
    return map;
  }
  const value = item();
  need(at === data.length, "bytes after the end of the CBOR");
  return value;
}

/** A text's lines; it must end with a newline. */
function linesOf(text) {
  need(text.endsWith("\n"), "a last line without its newline");
  return text.slice(0, -1).split("\n");
}

/** The one thing that must be written: a byte string, as it stands in Sig_structure. */
function bytesInCbor(value) {
  const size = value.length;
  const head = size < 24 ? [0x40 + size] : size < 256 ? [0x58, size] : [0x59, size >> 8, size & 255];
  return Buffer.concat([Buffer.from(head), value]);
}

/** Sig_structure of RFC 9052 section 4.4. */
const coseSigned = (protectedHeader, payload) => Buffer.concat([
  Buffer.from("\x84\x6aSignature1", "latin1"), bytesInCbor(protectedHeader), Buffer.from([0x40]), bytesInCbor(payload),
]);

// ---- the Merkle tree, straight from the recursive definitions of RFC 6962 section 2.1

const leaf = (entry) => sha256(Buffer.from([0]), entry);
const node = (left, right) => sha256(Buffer.from([1]), left, right);

function split(size) {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

function treeHash(leaves) {
  if (leaves.length < 2) return leaves[0] ?? sha256();
  const k = split(leaves.length);
  return node(treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

function rootOfPath(value, index, size, path) {
  if (size === 1) {
    need(path.length === 0, "a path that is too long");
    return value;
  }
  need(path.length > 0, "a path that is too short");
  const k = split(size), below = path.slice(0, -1), last = path.at(-1);
  return index < k
    ? node(rootOfPath(value, index, k, below), last)
    : node(last, rootOfPath(value, index - k, size - k, below));
}

/** [old root, new root] that a consistency path leads to; `known`: these `old` leaves are the whole old tree. */
function rootsOfPath(old, size, oldRoot, path, known = true) {
  if (old === size) {
    need(path.length === (known ? 0 : 1), "a consistency path of another length");
    return known ? [oldRoot, oldRoot] : [path[0], path[0]];
  }
  need(path.length > 0, "a consistency path that is too short");
  const k = split(size), below = path.slice(0, -1), last = path.at(-1);
  if (old <= k) {
    const [was, now] = rootsOfPath(old, k, oldRoot, below, known);
    return [was, node(now, last)];
  }
  const [was, now] = rootsOfPath(old - k, size - k, oldRoot, below, false);
  return [node(last, was), node(last, now)];
}

// ---- keys and signed notes

function verifierKey(text) {
  const [name, id, ...rest] = text.split("+"); // the key's own base64 may hold further plus signs
  const typed = base64(rest.join("+"));
  need(sha256(name, "\n", typed).subarray(0, 4).toString("hex") === id, "a key id that is not the key's");
  return { name, id: Buffer.from(id, "hex"), type: typed[0], public: typed.subarray(1) };
}

function ed25519Holds(raw, signature, message) {
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" });
  return verify(null, message, key, signature);
}

function openCheckpoint(note, log, witnesses) {
  const end = note.lastIndexOf("\n\n");
  const text = note.subarray(0, end + 1);
  const times = {};
  let signed = false;
  for (const line of linesOf(note.subarray(end + 2).toString())) {
    const [dash, name, encoded] = line.split(" ");
    need(dash === "—", "a signature line without its dash");
    const blob = base64(encoded);
    for (const key of [log, ...witnesses]) {
      if (name !== key.name || !same(blob.subarray(0, 4), key.id)) continue;
      let message = text, signature = blob.subarray(4);
      if (key.type === 4) {
        times[name] = blob.readBigUInt64BE(4);
        message = Buffer.concat([Buffer.from(`cosignature/v1\ntime ${times[name]}\n`), text]);
        signature = blob.subarray(12);
      }
      need(ed25519Holds(key.public, signature, message), `a false signature by ${name}`);
      signed ||= key === log;
    }
  }
  need(signed, "no signature by the log key");
  const [origin, size, root, ...more] = linesOf(text.toString());
  need(origin === log.name && more.length === 0, "a checkpoint of another log");
  return { size: Number(size), root: base64(root), times };
}

// ---- statements and receipts

function statementOf(entry) {
  const { tag, value: [protectedHeader, unprotectedHeader, payload, signature] } = cbor(entry);
  need(tag === 18 && unprotectedHeader.size === 0, "not a COSE_Sign1 with an empty unprotected header");
  const header = cbor(protectedHeader);
  need(header.get(1) === -8, "another algorithm than EdDSA");
  const signed = coseSigned(protectedHeader, payload);
  return { payload: JSON.parse(payload), kid: header.get(4), signed, signature };
}

/** Which keys these entries, [index, bytes] in the log's order, announce and retire: key id (hex) → {use, public, retired, compromised}. */
function learnKeys(entries, log) {
  const known = new Map();
  const announce = ({ keys, retired }) => {
    for (const { use, kid, public_key: hex } of keys) {
      const raw = Buffer.from(hex, "hex");
      need(sha256(raw).toString("hex") === kid, "a key id that is not the key's");
      if (!known.has(kid)) known.set(kid, { use, public: raw, retired: false, compromised: false });
    }
    for (const { kid, compromised } of retired) {
      known.get(kid).retired = true;
      known.get(kid).compromised ||= compromised;
    }
  };
  for (const [index, entry] of entries) {
    const { payload, kid, signed, signature } = statementOf(entry);
    const announces = ["lawful-ledger/genesis/1", "lawful-ledger/keys/1"].includes(payload.type);
    if (index === 0) { // the first entry vouches for itself: what makes it the log's is the log key's signature
      const named = verifierKey(payload.log_vkey);
      need(named.name === log.name && same(named.public, log.public), "a first entry that names another log key");
      announce(payload);
    }
    const key = known.get(kid.toString("hex"));
    need(key?.use === "statements", `entry ${index} is signed by an unannounced key`);
    need(!key.compromised, `entry ${index} is signed by a compromised key`);
    need(!(announces && key.retired), `entry ${index} announces keys by a retired key`);
    need(ed25519Holds(key.public, signature, signed), `entry ${index} has a false signature`);
    if (announces && index) announce(payload);
  }
  return known;
}

/** RFC 9942: the signature is over the root, which the path in the unprotected header leads to. */
function checkReceipt(receipt, entry, known) {
  const { tag, value: [protectedHeader, unprotectedHeader, payload, signature] } = cbor(receipt);
  need(tag === 18 && payload === null, "not a COSE_Sign1 with a detached payload");
  const header = cbor(protectedHeader);
  need(header.get(1) === -7 && header.get(395) === 1, "not ES256 over a tree of RFC 9162");
  const proofs = unprotectedHeader.get(396).get(-1);
  need(proofs.length === 1, "not one proof");
  const [size, index, path] = cbor(proofs[0]);
  need(index < size, "an index beyond the tree");
  const root = rootOfPath(leaf(entry), index, size, path);
  const announced = known.get(header.get(4).toString("hex"));
  need(announced?.use === "receipts", "a receipt by an unannounced key");
  const key = { key: createPublicKey({ key: announced.public, format: "der", type: "spki" }), dsaEncoding: "ieee-p1363" };
  need(verify("sha256", coseSigned(protectedHeader, root), key, signature), "a false signature on the receipt");
  return { index, size };
}

/** The index at which the file proves the entry to be, under a checkpoint signed by the log key. */
function checkProof(proof, entry, log, witnesses) {
  const blank = proof.indexOf("\n\n");
  const [title, line, ...path] = proof.subarray(0, blank).toString().split("\n");
  need(title === "c2sp.org/tlog-proof@v1" && /^index (0|[1-9]\d*)$/.test(line), "not a proof file");
  const index = Number(line.slice("index ".length));
  const { size, root, times } = openCheckpoint(proof.subarray(blank + 2), log, witnesses);
  need(Object.keys(times).length === witnesses.length, "a witness given has not signed");
  need(index < size, "an index beyond the tree");
  need(same(rootOfPath(leaf(entry), index, size, path.map(base64)), root), "the path leads to another root");
  return index;
}

// ---- the folder

function tileName(kind, number, width) {
  need(number < 1000, "larger numbers are written x001/x234/067");
  return `tile/${kind}/${String(number).padStart(3, "0")}${width === 256 ? "" : `.p/${width}`}`;
}

/** All entries of the tree of this size, each as its level 0 tile says; level 1 as level 0 says. Below 65,536. */
function readTree(read, size) {
  const entries = [], full = [];
  for (let number = 0; number * 256 < size; number++) {
    const width = Math.min(256, size - 256 * number);
    const tile = read(tileName("0", number, width));
    const leaves = [];
    for (let rest = read(tileName("entries", number, width)); rest.length;) {
      const end = 2 + rest.readUInt16BE(0);
      entries.push(rest.subarray(2, end));
      leaves.push(leaf(entries.at(-1)));
      rest = rest.subarray(end);
    }
    need(leaves.length === width && same(Buffer.concat(leaves), tile), `tile ${number} does not hold its entries' hashes`);
    if (width === 256) full.push(treeHash(leaves));
  }
  if (full.length) {
    const above = read(tileName("1", 0, full.length));
    need(same(Buffer.concat(full), above), "the tile of level 1 does not hold the roots of those below");
  }
  return entries;
}

function main([folder, logKey, ...witnessKeys]) {
  const read = (name) => readFileSync(join(folder, name));
  const log = verifierKey(logKey), witnesses = witnessKeys.map(verifierKey);
  need(log.type === 1 && witnesses.every((key) => key.type === 4), "a key of the wrong type");
  const say = (section, text) => console.log(`${String(section).padEnd(2)} ${text}`);

  const entry = read(`entry-${INDEX}.cose`);
  const { payload, kid } = statementOf(entry);
  say(1, `entry ${INDEX} is a statement of type ${payload.type} by key ${kid.toString("hex").slice(0, 8)}…`);
  say(2, `its leaf hash is ${leaf(entry).toString("hex")}`);

  const { size, root, times } = openCheckpoint(read("checkpoint"), log, witnesses);
  need(Object.keys(times).length === witnesses.length, "a witness given has not signed");
  const entries = readTree(read, size);
  need(same(entries[INDEX], entry), "the bundle holds another entry");
  need(same(treeHash(entries.map(leaf)), root), "the tiles do not lead to the signed root");
  say(3, `the tiles of ${size} entries lead to the root ${root.toString("hex")}`);
  say(4, `the log key signed that root at size ${size} for ${log.name}`);
  const when = Object.entries(times).map(([name, at]) => `${name} at ${at}`).join(", ");
  say(5, `all witnesses given have cosigned it: ${when || "no witness was given"}`);

  need(checkProof(read(`entry-${INDEX}.tlog-proof`), entry, log, witnesses) === INDEX, "a proof for another entry");
  say(6, `the proof file leads from entry ${INDEX} to a root that the log key signed`);

  const chain = JSON.parse(read(`entry-${INDEX}.keys.json`)).map(({ statement, tlog_proof: proof }) => {
    const announcement = base64(statement);
    return [checkProof(Buffer.from(proof), announcement, log, witnesses), announcement];
  });
  learnKeys([...chain, [INDEX, entry]], log);
  say(7, `entry ${INDEX} is signed by a key that the log announced in the entries sent along`);
  const known = learnKeys(entries.map((each, number) => [number, each]), log);
  say(7, `all ${size} statements are signed by keys announced before them; ${known.size} keys are announced`);

  const place = checkReceipt(read(`entry-${INDEX}.receipt`), entry, known);
  need(place.index === INDEX && place.size === size, "a receipt for another place");
  say(8, `the COSE receipt shows the same: entry ${place.index} of ${place.size}`);

  const opening = JSON.parse(read(`entry-${INDEX}.opening.json`));
  const [salt, digest] = [opening.salt, opening.digest].map((text) => Buffer.from(text, "hex"));
  const opened = sha256(opening.domain, Buffer.from([0]), salt, digest).toString("hex");
  need(payload.commitments.pixels === opened, "salt and digest do not open the commitment");
  say(9, `the commitment ${opened.slice(0, 8)}… opens to the digest ${opening.digest.slice(0, 8)}…`);

  const old = openCheckpoint(read(`checkpoint.${OLD_SIZE}`), log, witnesses);
  need(same(treeHash(readTree(read, old.size).map(leaf)), old.root), "the old tiles lead elsewhere");
  const lines = linesOf(read(`consistency-${old.size}-${size}`).toString()).map(base64);
  const [was, now] = rootsOfPath(old.size, size, old.root, lines);
  need(same(was, old.root) && same(now, root), "the new tree does not begin with the old one");
  say(10, `the tree of ${size} begins with the tree of ${old.size}`);
}

// docs/verify-it-yourself.md checks records of real logs with these.
export { base64, checkProof, checkReceipt, learnKeys, verifierKey };

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    console.log(`WRONG: ${error.message}`);
    process.exitCode = 1;
  }
}
