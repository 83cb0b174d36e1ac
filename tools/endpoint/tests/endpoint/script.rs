//! Each action of a script does what it says.

use super::*;

#[test]
fn an_error_is_answered_in_place_of_service() {
    let (endpoint, mut client) = scripted(|request| match (request.operation, request.index) {
        ("PutRecords", 1) => Action::error(400, "ExpiredTokenException", "old"),
        _ => Action::Pass,
    });
    let statuses: Vec<u16> = (0..3).map(|_| client.send(&put()).unwrap().status).collect();
    assert_eq!(statuses, [200, 400, 200]);
    assert_eq!((endpoint.stats().requests, endpoint.stats().put_requests), (3, 2));
}

#[test]
fn a_closed_connection_ends_and_a_reset_one_breaks() {
    let (endpoint, mut client) = scripted(|_| Action::CloseConnection);
    assert_eq!(client.send(&put()).err().unwrap().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(endpoint.stats().put_requests, 0);
    let (endpoint, mut client) = scripted(|_| Action::ResetConnection);
    assert_eq!(client.send(&put()).err().unwrap().kind(), ErrorKind::ConnectionReset);
    assert_eq!(endpoint.stats().put_requests, 0);
}

#[test]
fn a_lost_answer_was_served() {
    let (endpoint, mut client) = scripted(|_| Action::ServeThenClose);
    assert_eq!(client.send(&put()).err().unwrap().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(endpoint.stats().put_requests, 1);
}

#[test]
fn a_truncated_answer_ends_within_its_body() {
    let (endpoint, mut client) = scripted(|_| Action::TruncateBody);
    let error = client.send(&put()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(client.received > 150, "the head and half of the body came: {}", client.received);
    assert_eq!(endpoint.stats().put_requests, 1);
}

#[test]
fn a_delayed_request_is_served_later() {
    let (_endpoint, mut client) = scripted(|_| Action::Delay(Duration::from_millis(20)));
    let before = std::time::Instant::now();
    assert_eq!(client.send(&put()).unwrap().status, 200);
    assert!(before.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_script_sees_the_body() {
    let (_endpoint, mut client) = scripted(|request| {
        let poisoned = request.body.windows(4).any(|window| window == b"data");
        if poisoned { Action::error(400, "ValidationException", "poison") } else { Action::Pass }
    });
    assert_eq!(client.send(&put()).unwrap().code(), "ValidationException");
}

#[test]
fn some_records_fail_and_the_others_are_stored() {
    let script = |request: &RequestInfo<'_>| match request.operation {
        "PutRecords" if request.index < 2 => {
            Action::FailRecords { indexes: vec![0, 2], code: "ProvisionedThroughputExceededException" }
        }
        "PutRecords" => Action::FailRecords { indexes: vec![0, 1, 2, 3], code: "InternalFailure" },
        _ => Action::Pass,
    };
    let mut config = EndpointConfig::emulator();
    config.streams.push(("s".to_owned(), 1));
    config.script = Some(Box::new(script));
    let (endpoint, mut client) = start(config);
    let records = [b"0", b"1", b"2", b"3"].map(|data| Record { data, key: "k", hash: None });
    let in_json = client.send(&Call::new("PutRecords", JSON, json_body("s", &records)).signed()).unwrap().json();
    let in_cbor = read_cbor(&client.send(&Call::new("PutRecords", CBOR, cbor_body("s", &records)).signed()).unwrap());
    for answer in [in_json, in_cbor] {
        assert_eq!(answer["FailedRecordCount"], 2);
        for index in 0..4 {
            let failed = answer["Records"][index]["ErrorCode"] == "ProvisionedThroughputExceededException";
            let stored = answer["Records"][index]["ShardId"] == "shardId-000000000000";
            assert_eq!((failed, stored), (index % 2 == 0, index % 2 == 1));
        }
    }
    let none = client.send(&Call::new("PutRecords", JSON, json_body("s", &records)).signed()).unwrap().json();
    assert_eq!((&none["FailedRecordCount"], &none["Records"][3]["ErrorCode"]), (&4.into(), &"InternalFailure".into()));
    let stored: Vec<_> = endpoint.read_stream("s").unwrap().into_iter().map(|record| record.data).collect();
    assert_eq!(stored, [b"1", b"3", b"1", b"3"]);
    assert_eq!(endpoint.stats().records, 4);
}
