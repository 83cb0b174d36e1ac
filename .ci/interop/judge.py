"""Makes a stream, and judges what was delivered to it, with AWS's SDK and AWS's de-aggregator.

    judge.py create URL STREAM SPLITS     makes a stream with four open shards, and a closed one if SPLITS is 1, not 0
    judge.py judge URL STREAM LINES DUMP  reads the stream, holds it against the lines, writes what it read as DUMP for
                                          judge.mjs, and deletes the stream
    judge.py judge URL STREAM LINES DUMP FIGURES
                                          the same of a stream whose shards were split and merged meanwhile; FIGURES is
                                          what kpl-bench --json wrote

What must hold: the stream has the lines and nothing else, each as often as it stands in the file, each under its own
partition key, and each in the shard whose hash range holds the MD5 of that key. Besides, the stream has kpl-bench's
marker, once in every open shard.

A reshard may overtake an aggregate, which is then stored in a shard to which not all of its members belong. Consumers
drop it (the KCL does; AWS's de-aggregator for Python leaves that to its caller), so it is dropped here, and its members
must be there once more. How many were dropped, and how many are there too often, must be what kpl-bench found, which
explains each of them or fails.
"""
import base64
import collections
import hashlib
import json
import sys
import time

import boto3
from aws_kinesis_agg.deaggregator import iter_deaggregate_records
from botocore.config import Config

MARKER = ("kpl-bench", b"kpl-bench begins")
MAGIC = b"\xf3\x89\x9a\xc2"
OPEN_SHARDS = 4


def client(url):
    config = Config(retries={"max_attempts": 5}, read_timeout=60)
    return boto3.client("kinesis", endpoint_url=url, region_name="us-east-1", config=config)


def shards_of(kinesis, stream):
    page = kinesis.list_shards(StreamName=stream)
    shards = page["Shards"]
    while page.get("NextToken"):
        page = kinesis.list_shards(NextToken=page["NextToken"])
        shards += page["Shards"]
    return shards


def is_open(shard):
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def hash_range(shard):
    return int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])


def wait_until_active(kinesis, stream):
    for _ in range(300):
        if kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
            return
        time.sleep(0.1)
    sys.exit(f"stream {stream} does not become active")


def create(url, stream, splits):
    kinesis, splits = client(url), int(splits)
    kinesis.create_stream(StreamName=stream, ShardCount=OPEN_SHARDS - splits)
    wait_until_active(kinesis, stream)
    for shard in shards_of(kinesis, stream)[:splits]:
        first, last = hash_range(shard)
        # Not in the middle, so that no two shards need be alike.
        start = str(first + (last - first) // 3)
        kinesis.split_shard(StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=start)
    wait_until_active(kinesis, stream)
    listed = shards_of(kinesis, stream)
    assert sum(map(is_open, listed)) == OPEN_SHARDS == len(listed) - splits, listed


def records_of(kinesis, stream, shard):
    """Every Kinesis record of a shard."""
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    while iterator:
        page = kinesis.get_records(ShardIterator=iterator, Limit=1000)
        yield from page["Records"]
        if not page["Records"] and page.get("MillisBehindLatest", 0) == 0:
            return
        iterator = page.get("NextShardIterator")


def user_records_of(record):
    """Partition key and data of each user record, as AWS's consumers get them."""
    kinesis = {
        "kinesisSchemaVersion": "1.0",
        "sequenceNumber": record["SequenceNumber"],
        "approximateArrivalTimestamp": 0,
        "partitionKey": record["PartitionKey"],
        "data": base64.b64encode(record["Data"]).decode(),
    }
    for user_record in iter_deaggregate_records({"kinesis": kinesis}):
        yield user_record["kinesis"]["partitionKey"], base64.b64decode(user_record["kinesis"]["data"])


def judge(url, stream, lines_file, dump_file, figures_file=None):
    kinesis = client(url)
    figures = {"records_dropped_by_consumers": 0, "records_duplicated": 0}
    if figures_file:
        with open(figures_file, encoding="utf-8") as file:
            figures = json.load(file)
    with open(lines_file, "rb") as file:
        lines = file.read().splitlines()
    expected = collections.Counter((json.loads(line)["key"], hashlib.md5(line).digest()) for line in lines)
    marker = (MARKER[0], hashlib.md5(MARKER[1]).digest())
    expected[marker] = OPEN_SHARDS
    read, misplaced, dropped, kinesis_records, largest = collections.Counter(), 0, 0, 0, 0
    with open(dump_file, "w", encoding="utf-8") as dump:
        for shard in shards_of(kinesis, stream):
            first, last = hash_range(shard)
            for record in records_of(kinesis, stream, shard):
                kinesis_records += 1
                largest = max(largest, len(record["Data"]))
                fields = [str(first), str(last), record["PartitionKey"], base64.b64encode(record["Data"]).decode()]
                dump.write(json.dumps(fields) + "\n")
                entries = [(key, hashlib.md5(data).digest()) for key, data in user_records_of(record)]
                strays = sum(
                    not first <= int(hashlib.md5(key.encode()).hexdigest(), 16) <= last
                    for key, digest in entries
                    if (key, digest) != marker
                )
                if figures_file and strays and record["Data"].startswith(MAGIC):
                    dropped += len(entries)
                    continue
                misplaced += strays
                read.update(entries)
    missing, extra = (expected - read).total(), (read - expected).total()
    explained = extra == figures["records_duplicated"] and dropped == figures["records_dropped_by_consumers"]
    if missing or misplaced or not explained or len(lines) < 2:
        found = f"{missing} are missing, {extra} too many, {misplaced} misplaced, {dropped} dropped"
        sys.exit(f"{stream}: of {len(lines)} lines {found}")
    if dropped or extra:
        print(f"{stream}: {dropped} were dropped and sent again, {extra} are there too often; kpl-bench found the same")
    kinesis.delete_stream(StreamName=stream)
    print(f"{stream}: Python reads all {len(lines)} lines, in {kinesis_records} records of up to {largest} bytes")


{"create": create, "judge": judge}[sys.argv[1]](*sys.argv[2:])
