"""Writes python.json, what AWS's Python aggregator makes of cases.json, and decode_only.json, aggregates that no
writer of ours makes, each with what AWS's Python de-aggregator reads in it."""
import base64
import contextlib
import hashlib
import io
import json

from aws_kinesis_agg import MAGIC
from aws_kinesis_agg.aggregator import AggRecord, messages_pb2
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

from cases import HERE, cases


def aggregated(members):
    aggregate = AggRecord()
    for key, explicit, data in members:
        assert aggregate.add_user_record(key, data, explicit)
    return aggregate.get_contents()[2]


def wrapped(message):
    return MAGIC + message + hashlib.md5(message).digest()


def message(keys=("k", "l"), explicit=(), records=((0, None, b"d"),), tags=()):
    aggregate = messages_pb2.AggregatedRecord()
    aggregate.partition_key_table.extend(keys)
    aggregate.explicit_hash_key_table.extend(explicit)
    for key_index, explicit_index, data in records:
        record = aggregate.records.add()
        if key_index is not None:
            record.partition_key_index = key_index
        if explicit_index is not None:
            record.explicit_hash_key_index = explicit_index
        if data is not None:
            record.data = data
        for key, value in tags:
            tag = record.tags.add()
            tag.key = key
            if value is not None:
                tag.value = value
    return aggregate.SerializePartialToString()


def decode_only():
    three = ((0, None, b"0"), (1, None, b"1"), (0, None, b"2"))
    good = wrapped(message(records=three))
    table, records = message(records=()), message(keys=(), records=three)
    yield "tags", wrapped(message(records=three, tags=[("name", "value"), ("only a name", None)]))
    yield "records before their table", wrapped(records + table)
    yield "a key table in two pieces", wrapped(message(keys=["k"], records=()) + records + message(["l"], records=()))
    yield "the same key twice", wrapped(message(keys=["k", "k"], records=three))
    yield "keys that nobody uses", wrapped(message(keys=["k", "l", "m"], records=three))
    yield "an unknown field", wrapped(message(records=three) + b"\xf8\x07\x01")
    yield "a varint longer than need be", wrapped(table + b"\x1a\x88\x00\x08\x80\x00\x1a\x82\x00de")
    yield "explicit hash keys", wrapped(message(explicit=["7", "8"], records=((0, 1, b"0"), (0, 0, b"1"))))
    yield "an explicit hash key with leading zeros", wrapped(message(explicit=["007"], records=((0, 0, b"0"),)))
    yield "an empty partition key", wrapped(message(keys=["", "l"], records=three))
    yield "no records", wrapped(table)
    yield "a key index out of range", wrapped(message(records=three[:2] + ((2, None, b"2"),) + three[2:]))
    yield "an explicit index out of range", wrapped(message(explicit=["7"], records=((0, 0, b"0"), (0, 1, b"1"))))
    yield "a record without key index", wrapped(message(records=three + ((None, None, b"3"),)))
    yield "a record without data", wrapped(message(records=three + ((0, None, None),)))
    yield "a message cut short", wrapped(message(records=three)[:-1])
    yield "a wrong magic", b"\xf3\x89\x9a\xc3" + good[4:]
    yield "a wrong digest", good[:-1] + bytes([good[-1] ^ 1])
    yield "an aggregate cut short", good[:-1]
    yield "the magic alone", MAGIC
    yield "magic and digest of nothing", wrapped(b"")
    yield "nothing", b""
    yield "plain text", b"plain text that is longer than twenty bytes"


def read_by_python(data):
    """The members as AWS's Python de-aggregator reads them, or None for a raw record."""
    kinesis = dict.fromkeys(["kinesisSchemaVersion", "sequenceNumber", "approximateArrivalTimestamp", "partitionKey"])
    record = {"kinesis": {**kinesis, "data": base64.b64encode(data)}}
    read = []
    # A member that it cannot read it reports on the standard error, where it may stumble over the same index again.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(IndexError):
        for entry in iter_deaggregate_records(record):
            read.append(entry["kinesis"])
    if any("aggregated" not in entry for entry in read):
        return None
    return [[e["partitionKey"], e["explicitHashKey"], base64.b64decode(e["data"]).hex()] for e in read]


def write(name, content):
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def main():
    write("python.json", {c["name"]: base64.b64encode(aggregated(c["members"])).decode() for c in cases()})
    write("decode_only.json", [
        {"name": name, "data": base64.b64encode(data).decode(), "read_by_python": read_by_python(data)}
        for name, data in decode_only()
    ])


main()
