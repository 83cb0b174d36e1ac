"""AWS's Python de-aggregator reads our aggregates: pipe the output of the example write_aggregates into this."""
import base64
import json
import sys

from aws_kinesis_agg.deaggregator import iter_deaggregate_records

from cases import cases


def read(aggregate):
    kinesis = dict.fromkeys(["kinesisSchemaVersion", "sequenceNumber", "approximateArrivalTimestamp", "partitionKey"])
    for number, entry in enumerate(iter_deaggregate_records({"kinesis": {**kinesis, "data": aggregate}})):
        entry = entry["kinesis"]
        assert entry["aggregated"] and entry["subSequenceNumber"] == number
        yield entry["partitionKey"], entry["explicitHashKey"], base64.b64decode(entry["data"])


ours = [json.loads(line) for line in sys.stdin]
expected = cases()
assert [line["name"] for line in ours] == [case["name"] for case in expected]
# Of a mixed aggregate it gives plain members the first explicit hash key. We never send one.
pairs = [(line, case) for line, case in zip(ours, expected) if not case.get("mixed")]
for line, case in pairs:
    assert list(read(line["aggregate"])) == case["members"], case["name"]
print(f"AWS's Python de-aggregator reads {len(pairs)} aggregates as they were written")
