"""Makes a stream, and judges what was delivered to it, with AWS's SDK and AWS's de-aggregator.

    judge.py create URL STREAM SPLITS     makes a stream with four open shards, and a closed one if SPLITS is 1, not 0
    judge.py judge URL STREAM LINES DUMP  reads the stream, holds it against the lines, writes what it read as DUMP for
                                          judge.mjs, and deletes the stream

What must hold: the stream has the lines and nothing else, each as often as it stands in the file, each under its own
partition key, and each in the shard whose hash range holds the MD5 of that key. Besides, the stream has kpl-bench's
marker, once in every open shard.
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


def judge(url, stream, lines_file, dump_file):
    kinesis = client(url)
    with open(lines_file, "rb") as file:
        lines = file.read().splitlines()
    expected = collections.Counter((json.loads(line)["key"], hashlib.md5(line).digest()) for line in lines)
    marker = (MARKER[0], hashlib.md5(MARKER[1]).digest())
    expected[marker] = OPEN_SHARDS
    read, misplaced, kinesis_records, largest = collections.Counter(), 0, 0, 0
    with open(dump_file, "w", encoding="utf-8") as dump:
        for shard in shards_of(kinesis, stream):
            first, last = hash_range(shard)
            for record in records_of(kinesis, stream, shard):
                kinesis_records += 1
                largest = max(largest, len(record["Data"]))
                fields = [str(first), str(last), record["PartitionKey"], base64.b64encode(record["Data"]).decode()]
                dump.write(json.dumps(fields) + "\n")
                for key, data in user_records_of(record):
                    entry = (key, hashlib.md5(data).digest())
                    read[entry] += 1
                    in_range = first <= int(hashlib.md5(key.encode()).hexdigest(), 16) <= last
                    misplaced += not in_range and entry != marker
    missing, extra = (expected - read).total(), (read - expected).total()
    if missing or extra or misplaced or len(lines) < 2:
        sys.exit(f"{stream}: of {len(lines)} lines {missing} are missing, {extra} too many, {misplaced} misplaced")
    kinesis.delete_stream(StreamName=stream)
    print(f"{stream}: Python reads all {len(lines)} lines, in {kinesis_records} records of up to {largest} bytes")


{"create": create, "judge": judge}[sys.argv[1]](*sys.argv[2:])
