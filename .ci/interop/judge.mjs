// The second judge, AWS's de-aggregator for Node: judge.mjs LINES DUMP, the dump being what judge.py read.
// The same must hold: the lines and nothing else, each under its own key and in the shard of that key.
import assert from "node:assert";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Installed for the vectors.
const agg = createRequire(new URL("../../tests/vectors/package.json", import.meta.url))("aws-kinesis-agg");

const MARKER = "kpl-bench begins";
const [linesFile, dumpFile] = process.argv.slice(2);
const md5 = (bytes) => createHash("md5").update(bytes).digest("hex");
const identity = (key, data) => `${md5(key)} ${md5(data)}`;
// Not node:readline, which takes U+2028 for the end of a line.
const linesOf = (file) => readFileSync(file, "utf8").trimEnd().split("\n");

const owed = new Map();
const lines = linesOf(linesFile);
for (const line of lines) {
  const entry = identity(JSON.parse(line).key, line);
  owed.set(entry, (owed.get(entry) ?? 0) + 1);
}

let read = 0;
for (const line of linesOf(dumpFile)) {
  const [first, last, partitionKey, data] = JSON.parse(line);
  if (Buffer.from(data, "base64").toString() === MARKER) continue;
  agg.deaggregateSync({ partitionKey, data }, true, (error, records) => {
    assert.ifError(error);
    for (const record of records) {
      const entry = identity(record.partitionKey, Buffer.from(record.data, "base64"));
      assert(owed.get(entry) > 0, `not owed, or not so often: key ${JSON.stringify(record.partitionKey)}`);
      owed.set(entry, owed.get(entry) - 1);
      const hash = BigInt(`0x${md5(record.partitionKey)}`);
      assert(BigInt(first) <= hash && hash <= BigInt(last), `misplaced: key ${JSON.stringify(record.partitionKey)}`);
      read += 1;
    }
  });
}
assert(lines.length > 1);
assert.strictEqual(read, lines.length, "lines are missing");
console.log(`Node reads all ${lines.length} lines`);
