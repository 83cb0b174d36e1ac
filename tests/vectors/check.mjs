// AWS's Node de-aggregator reads our aggregates: pipe the output of the example write_aggregates into this.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import agg from "aws-kinesis-agg";
import { cases } from "./cases.mjs";

const ours = readFileSync(0, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const expected = cases();
assert.deepStrictEqual(ours.map(({ name }) => name), expected.map(({ name }) => name));

let checked = 0;
ours.forEach(({ name, aggregate }, index) => {
  const { members, mixed } = expected[index];
  // Of a mixed aggregate it gives plain members the first explicit hash key. We never send one.
  if (mixed) return;
  agg.deaggregateSync({ data: aggregate }, true, (error, read) => {
    assert.ifError(error);
    assert.strictEqual(read.length, members.length, name);
    members.forEach(({ key, explicit, data }, number) => {
      const record = read[number];
      assert.strictEqual(record.subSequenceNumber, number, name);
      assert.strictEqual(record.partitionKey, key, name);
      assert.strictEqual(record.explicitPartitionKey, explicit, name);
      assert.strictEqual(record.data, data.toString("base64"), name);
    });
    checked += 1;
  });
});
assert.strictEqual(checked, expected.filter(({ mixed }) => !mixed).length);
console.log(`AWS's Node de-aggregator reads ${checked} aggregates as they were written`);
