// Writes node.json: what AWS's Node aggregator makes of cases.json.
import { writeFileSync } from "node:fs";
import agg from "aws-kinesis-agg";
import { cases } from "./cases.mjs";

const written = {};
for (const { name, members } of cases()) {
  const aggregator = new agg.RecordAggregator();
  for (const { key, explicit, data } of members) {
    aggregator.addUserRecord({ partitionKey: key, explicitHashKey: explicit, data });
  }
  written[name] = aggregator.build().data.toString("base64");
}
writeFileSync(new URL("node.json", import.meta.url), JSON.stringify(written, null, 1) + "\n");
