//! The emulator stores what was put, over the socket and behind its back.

use super::*;

#[test]
fn signed_records_in_both_wires_are_read_back_over_the_socket() {
    let (endpoint, mut client) = emulator();
    let first = [Record { data: b"\x00\xff one", key: "a", hash: Some("0") }];
    let answer = client.send(&Call::new("PutRecords", CBOR, cbor_body("s", &first)).signed()).unwrap();
    assert_eq!((answer.status, &read_cbor(&answer)["Records"][0]["ShardId"]), (200, &json!("shardId-000000000000")));
    let second = [Record { data: b"two", key: "b", hash: Some("340282366920938463463374607431768211455") }];
    let answer = client.send(&Call::new("PutRecords", JSON, json_body("s", &second)).signed()).unwrap();
    assert_eq!((answer.status, &answer.json()["Records"][0]["ShardId"]), (200, &json!("shardId-000000000001")));

    for (shard, data) in [("shardId-000000000000", "AP8gb25l"), ("shardId-000000000001", "dHdv")] {
        let start = json!({ "StreamName": "s", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
        let answer = client.send(&Call::new("GetShardIterator", JSON, start.to_string()).signed()).unwrap();
        let from = json!({ "ShardIterator": answer.json()["ShardIterator"] });
        let answer = client.send(&Call::new("GetRecords", JSON, from.to_string()).signed()).unwrap();
        assert_eq!(answer.json()["Records"][0]["Data"], data);
    }
    let stored = endpoint.read_stream("s").unwrap();
    assert_eq!(stored.iter().map(|record| &record.data[..]).collect::<Vec<_>>(), [b"\x00\xff one", &b"two"[..]]);
    let stats: Value = client.get("/stats").unwrap().json();
    assert_eq!((&stats["records"], &stats["bytes"], &stats["put_requests"]), (&json!(2), &json!(11), &json!(2)));
}

#[test]
fn bodies_near_the_emulators_bound_pass() {
    let (endpoint, mut client) = emulator();
    let data = vec![7; 1024 * 1024 - 1];
    let records: Vec<_> = ["0", "1", "2", "3"].map(|key| Record { data: &data, key, hash: None }).into();
    for call in [
        Call::new("PutRecords", CBOR, cbor_body("s", &records)),
        Call::new("PutRecords", JSON, json_body("s", &records)),
    ] {
        assert_eq!(client.send(&call.signed()).unwrap().status, 200);
    }
    assert_eq!(endpoint.stats().records, 8);
}

#[test]
fn a_shard_can_be_split_behind_its_back() {
    let (endpoint, _) = emulator();
    let split = json!({ "StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000" });
    endpoint.call("SplitShard", &split).unwrap();
    endpoint.wait_until_active("s").unwrap();
    assert_eq!(
        endpoint.call("ListShards", &json!({ "StreamName": "s" })).unwrap()["Shards"].as_array().unwrap().len(),
        4
    );
    assert!(endpoint.call("SplitShard", &json!({ "StreamName": "absent" })).is_err());
}

#[test]
fn throttled_records_are_not_counted_as_stored() {
    let kind = endpoint::Kind::Emulator(endpoint::EmulatorOptions { enforce_limits: true, ..Default::default() });
    let mut config = EndpointConfig::new(kind);
    config.streams.push(("s".to_owned(), 1));
    let (endpoint, mut client) = start(config);
    let data = vec![0; 700 * 1024];
    let records = [Record { data: &data, key: "k", hash: None }, Record { data: &data, key: "k", hash: None }];
    for wire in [CBOR, JSON] {
        let body = if wire == CBOR { cbor_body("s", &records) } else { json_body("s", &records) };
        assert_eq!(client.send(&Call::new("PutRecords", wire, body).signed()).unwrap().status, 200);
    }
    let stored = endpoint.read_stream("s").unwrap().len() as u64;
    assert!(stored < 4, "at most one of two fits a second");
    assert_eq!(endpoint.stats().records, stored);
}

#[test]
fn shards_are_listed_in_pages_by_arn_and_without_closed_ones() {
    let mut config = EndpointConfig::emulator();
    config.streams.push(("s".to_owned(), 5));
    let (endpoint, mut client) = start(config);
    let split = json!({ "StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000" });
    endpoint.call("SplitShard", &split).unwrap();
    endpoint.wait_until_active("s").unwrap();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let summary = Call::new("DescribeStreamSummary", JSON, json!({ "StreamARN": arn }).to_string()).signed();
    let summary = client.send(&summary).unwrap().json();
    assert_eq!(summary["StreamDescriptionSummary"]["StreamARN"], arn);

    for (filter, expected) in [(json!(null), 7), (json!({ "Type": "AT_LATEST" }), 6)] {
        let mut request = json!({ "StreamARN": arn, "MaxResults": 2, "ShardFilter": filter });
        let mut ids = Vec::new();
        loop {
            let page = client.send(&Call::new("ListShards", JSON, request.to_string()).signed()).unwrap().json();
            ids.extend(page["Shards"].as_array().unwrap().iter().map(|shard| shard["ShardId"].to_string()));
            if page["NextToken"].is_null() {
                break;
            }
            request = json!({ "NextToken": page["NextToken"] });
        }
        assert_eq!(ids.len(), expected);
        assert!(ids.is_sorted_by(|left, right| left < right));
    }
    let both = json!({ "StreamName": "s", "NextToken": "{}" });
    let refused = client.send(&Call::new("ListShards", JSON, both.to_string()).signed()).unwrap();
    assert_eq!(refused.code(), "InvalidArgumentException");
}
