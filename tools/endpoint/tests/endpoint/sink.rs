//! The sink answers consistently and refuses what the service refuses.

use super::*;

/// The shard that ListShards says holds a hash.
fn shard_of(shards: &Value, hash: u128) -> Value {
    let bound = |shard: &Value, name: &str| shard["HashKeyRange"][name].as_str().unwrap().parse::<u128>().unwrap();
    let holds = |shard: &&Value| (bound(shard, "StartingHashKey")..=bound(shard, "EndingHashKey")).contains(&hash);
    shards["Shards"].as_array().unwrap().iter().find(holds).unwrap()["ShardId"].clone()
}

#[test]
fn shard_ids_agree_with_the_listed_ranges_in_both_wires() {
    let (endpoint, mut client) = sink(7);
    let shards = client.send(&Call::new("ListShards", JSON, r#"{"StreamName":"s"}"#)).unwrap().json();
    let hashes: Vec<u128> = (0..100).map(|index| u128::MAX / 99 * index).collect();
    let texts: Vec<String> = hashes.iter().map(u128::to_string).collect();
    let records: Vec<_> = texts.iter().map(|hash| Record { data: b"x", key: "k", hash: Some(hash) }).collect();
    let json = client.send(&Call::new("PutRecords", JSON, json_body("s", &records))).unwrap().json();
    let cbor = read_cbor(&client.send(&Call::new("PutRecords", CBOR, cbor_body("s", &records))).unwrap());
    let mut last: std::collections::HashMap<String, String> = Default::default();
    for answer in [json, cbor] {
        assert_eq!(answer["FailedRecordCount"], 0);
        assert_eq!(answer["Records"].as_array().unwrap().len(), 100);
        for (entry, hash) in answer["Records"].as_array().unwrap().iter().zip(&hashes) {
            assert_eq!(entry["ShardId"], shard_of(&shards, *hash));
            let sequence = entry["SequenceNumber"].as_str().unwrap().to_owned();
            let before = last.insert(entry["ShardId"].as_str().unwrap().to_owned(), sequence.clone());
            assert!(before.is_none_or(|before| before < sequence && before.len() == sequence.len()));
        }
    }
    assert_eq!((endpoint.stats().records, endpoint.stats().bytes), (200, 400));
}

#[test]
fn a_key_without_a_hash_goes_by_its_md5() {
    let (_endpoint, mut client) = sink(256);
    // The MD5 of "a" begins with 0c, that of "key" with 3c.
    let records = [Record { data: b"", key: "a", hash: None }, Record { data: b"", key: "key", hash: None }];
    let answer = client.send(&Call::new("PutRecords", JSON, json_body("s", &records))).unwrap().json();
    assert_eq!(answer["Records"][0]["ShardId"], "shardId-000000000012");
    assert_eq!(answer["Records"][1]["ShardId"], "shardId-000000000060");
}

#[test]
fn what_the_service_refuses_is_refused() {
    let (endpoint, mut client) = sink(1);
    let record = |key, hash| Record { data: b"x", key, hash };
    let long = "k".repeat(257);
    let big = vec![0; 10 * 1024 * 1024];
    let half = vec![0; 5 * 1024 * 1024];
    let cases: [(Vec<Record<'_>>, &str, &str); 9] = [
        ((0..501).map(|_| record("k", None)).collect(), "ValidationException", "less than or equal to 500"),
        (vec![], "ValidationException", "greater than or equal to 1"),
        (vec![record("k", None), record("", None)], "ValidationException", "records.2.member.partitionKey"),
        (vec![record(&long, None)], "ValidationException", "records.1.member.partitionKey"),
        (vec![record("k", Some("340282366920938463463374607431768211456"))], "ValidationException", "explicitHashKey"),
        (vec![record("k", Some("01"))], "ValidationException", "explicitHashKey"),
        (vec![record("k", Some("+1"))], "ValidationException", "explicitHashKey"),
        (vec![Record { data: &big, key: "k", hash: None }], "ValidationException", "records.1.member.data"),
        (
            vec![Record { data: &half, key: "k", hash: None }, Record { data: &half, key: "k", hash: None }],
            "InvalidArgumentException",
            "10 MB",
        ),
    ];
    for (records, code, message) in &cases {
        let mut calls = vec![Call::new("PutRecords", CBOR, cbor_body("s", records))];
        // The bounds on bytes are the same code for both wires, and 10 MiB of JSON take an unoptimised build seconds.
        if calls[0].body.len() < 1 << 20 {
            calls.push(Call::new("PutRecords", JSON, json_body("s", records)));
        }
        for call in calls {
            let answer = client.send(&call).unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (400, *code));
            assert!(answer.json()["message"].as_str().unwrap().contains(message), "{}", answer.json());
        }
    }
    assert_eq!(endpoint.stats().records, 0);
}

#[test]
fn the_largest_record_and_request_pass() {
    let (endpoint, mut client) = sink(1);
    let data = vec![1; 10 * 1024 * 1024 - 1];
    let records = [Record { data: &data, key: "k", hash: None }];
    for call in [
        Call::new("PutRecords", CBOR, cbor_body("s", &records)),
        Call::new("PutRecords", JSON, json_body("s", &records)),
    ] {
        assert_eq!(client.send(&call).unwrap().status, 200);
    }
    assert_eq!(endpoint.stats().bytes, 20 * 1024 * 1024);
}

#[test]
fn malformed_bodies_and_unknown_operations_are_named() {
    let (_endpoint, mut client) = sink(1);
    for (operation, wire, body, code) in [
        ("PutRecords", CBOR, &b"\xa1"[..], "SerializationException"),
        ("PutRecords", JSON, b"{\"Records\":[", "SerializationException"),
        (
            "PutRecords",
            JSON,
            b"{\"StreamName\":\"s\",\"Records\":[{\"Data\":\"?\",\"PartitionKey\":\"k\"}]}",
            "SerializationException",
        ),
        ("ListShards", JSON, b"[]", "SerializationException"),
        ("Nonsense", JSON, b"{}", "UnknownOperationException"),
        ("PutRecords", "text/plain", b"{}", "UnknownOperationException"),
    ] {
        assert_eq!(client.send(&Call::new(operation, wire, body)).unwrap().code(), code, "{operation} {body:?}");
    }
}

#[test]
fn pages_of_shards_join_up_by_their_token_alone() {
    let (_endpoint, mut client) = sink(2500);
    let mut ids = Vec::new();
    let mut request = json!({ "StreamName": "s" });
    loop {
        let page = client.send(&Call::new("ListShards", JSON, request.to_string())).unwrap().json();
        ids.extend(page["Shards"].as_array().unwrap().iter().map(|shard| shard["ShardId"].clone()));
        if page["NextToken"].is_null() {
            break;
        }
        let both = json!({ "StreamName": "s", "NextToken": page["NextToken"] });
        let refused = client.send(&Call::new("ListShards", JSON, both.to_string())).unwrap();
        assert_eq!(refused.code(), "InvalidArgumentException");
        request = json!({ "NextToken": page["NextToken"] });
    }
    let expected: Vec<Value> = (0..2500).map(|shard| json!(format!("shardId-{shard:012}"))).collect();
    assert_eq!(ids, expected);
}

#[test]
fn control_requests_in_cbor_are_answered_in_cbor() {
    let (_endpoint, mut client) = sink(3);
    let mut body = Vec::new();
    ciborium::into_writer(&json!({ "StreamName": "s" }), &mut body).unwrap();
    let shards = read_cbor(&client.send(&Call::new("ListShards", CBOR, body.clone())).unwrap());
    assert_eq!(shards["Shards"].as_array().unwrap().len(), 3);
    let summary = read_cbor(&client.send(&Call::new("DescribeStreamSummary", CBOR, body)).unwrap());
    assert_eq!(summary["StreamDescriptionSummary"]["OpenShardCount"], 3);
}
