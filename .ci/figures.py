"""Holds what kpl-bench --json wrote against its contract: figures.py FILE RECORDS."""
import json
import sys

COUNTS = [
    "records_put", "records_delivered", "records_failed", "records_lost", "records_duplicated", "records_corrupted",
    "kinesis_records", "put_records_requests", "bytes_sent", "shards", "seed",
]
MEASURES = ["wall_s", "records_per_s", "client_cpu_ns_per_record"]
QUANTILES = {"put_ns": ["p50", "p99", "p999", "max"], "outcome_ms": ["p50", "p99", "p999", "max"]}
NAMES = ["rate_limit", "runtime", "wire", "pinning"]

path, records = sys.argv[1], int(sys.argv[2])
with open(path, encoding="utf-8") as file:
    figures = json.load(file)

missing = [name for name in COUNTS + MEASURES + NAMES + list(QUANTILES) if name not in figures]
assert not missing, f"missing: {missing}"
for name in COUNTS:
    assert isinstance(figures[name], int), (name, figures[name])
for name in MEASURES:
    assert figures[name] > 0, (name, figures[name])
for name, quantiles in QUANTILES.items():
    values = [figures[name][quantile] for quantile in quantiles]
    assert values == sorted(values) and values[0] >= 0, (name, values)
assert figures["records_put"] == figures["records_delivered"] == records, figures
for name in ["records_failed", "records_lost", "records_duplicated", "records_corrupted"]:
    assert figures[name] == 0, (name, figures[name])
print(f"{path}: {records} records, {figures['client_cpu_ns_per_record']:.0f} ns of CPU each")
