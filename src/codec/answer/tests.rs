//! Answers as the service, proxies and a hostile endpoint give them. CBOR is made by `ciborium` or by hand.

use ciborium::{Value as Cbor, cbor};

use super::*;

fn cbor_bytes(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn stored(shard_id: &str, sequence_number: &str) -> EntryResult {
    EntryResult::Stored { shard_id: shard_id.into(), sequence_number: sequence_number.into() }
}

fn failed(code: &str, message: &str) -> EntryResult {
    EntryResult::Failed { code: code.into(), message: message.into() }
}

fn error_of(status: u16, header: Option<&str>, body: &[u8]) -> (String, String) {
    let error = parse_answer(status, Some("text/plain"), header, body).unwrap_err();
    assert_eq!(error.status, status);
    (error.code.to_string(), error.message.to_string())
}

fn assert_unreadable(status: u16, body: &[u8]) {
    let error = parse_answer(status, None, None, body).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnreadableAnswer, "{}", error.message);
}

#[test]
fn results_come_in_the_order_of_the_entries_in_both_forms() {
    let expected = vec![
        stored("shardId-0", "49"),
        failed("ProvisionedThroughputExceededException", "Rate exceeded"),
        stored("shardId-1", "50"),
        failed("InternalFailure", ""),
    ];
    let document = cbor!({
        "FailedRecordCount" => 2,
        "EncryptionType" => "KMS",
        "Records" => [
            { "SequenceNumber" => "49", "ShardId" => "shardId-0", "ErrorCode" => null, "ErrorMessage" => null },
            { "ErrorCode" => "ProvisionedThroughputExceededException", "ErrorMessage" => "Rate exceeded" },
            { "ShardId" => "shardId-1", "SequenceNumber" => "50", "Unknown" => [1, { "a" => 1.5 }] },
            { "ErrorCode" => "InternalFailure", "ShardId" => null },
        ],
    })
    .unwrap();
    assert_eq!(parse_answer(200, None, None, &cbor_bytes(&document)).unwrap(), expected);
    let json = serde_json::to_vec(&document).unwrap();
    assert_eq!(parse_answer(200, None, None, &json).unwrap(), expected);
    let spaced = [b" \r\n", &json[..], b"\n"].concat();
    assert_eq!(parse_answer(200, None, None, &spaced).unwrap(), expected);
}

#[test]
fn equal_shard_ids_are_shared() {
    let json = br#"{"Records":[{"ShardId":"s","SequenceNumber":"1"},{"ShardId":"s","SequenceNumber":"2"}]}"#;
    let results = parse_answer(200, None, None, json).unwrap();
    let [EntryResult::Stored { shard_id: first, .. }, EntryResult::Stored { shard_id: second, .. }] = &results[..]
    else {
        panic!("both are stored");
    };
    assert!(Arc::ptr_eq(first, second));
}

#[test]
fn cbor_of_indefinite_length_with_tags_is_read() {
    let body = b"\xD9\xD9\xF7\xBF\x7F\x63Rec\x64ords\xFF\xC1\x9F\
        \xBF\x67ShardId\x7F\x61s\x611\xFF\x6ESequenceNumber\xC1\x62\x39\x39\x64Skip\x9F\x5F\x41a\xFF\xC2\x41b\xFF\xFF\
        \xFF\xFF";
    let mut body = body.to_vec();
    assert_eq!(parse_answer(200, None, None, &body).unwrap(), vec![stored("s1", "99")]);
    body.push(0xF6);
    assert_unreadable(200, &body);
}

#[test]
fn a_service_error_is_read_in_either_form_whatever_was_asked_for() {
    let name = "com.amazonaws.kinesis.v20131202#ResourceNotFoundException";
    let expected = ("ResourceNotFoundException".to_string(), "Stream s not found".to_string());
    let cbor = cbor_bytes(&cbor!({ "__type" => name, "message" => "Stream s not found" }).unwrap());
    assert_eq!(error_of(400, None, &cbor), expected);
    let json = format!(r#"{{"__type":"{name}","Message":"Stream s not found"}}"#);
    assert_eq!(error_of(400, None, json.as_bytes()), expected);
    let json = br#"{"code":"ResourceNotFoundException:http://internal/","message":"Stream s not found"}"#;
    assert_eq!(error_of(400, None, json), expected);
}

#[test]
fn the_header_goes_before_the_body_and_suffices_alone() {
    let header = Some("aws.kinesis#ExpiredTokenException:http://internal.amazon.com/coral/");
    let body = br#"{"__type":"Other","message":"m"}"#;
    assert_eq!(error_of(400, header, body), ("ExpiredTokenException".into(), "m".into()));
    assert_eq!(error_of(400, header, b""), ("ExpiredTokenException".into(), String::new()));
    assert_eq!(error_of(400, Some(""), body), ("Other".into(), "m".into()));
}

#[test]
fn an_unreadable_answer_shows_its_beginning() {
    let html = format!("<html>\n{}", "é".repeat(1000));
    let (code, message) = error_of(503, None, html.as_bytes());
    assert_eq!(code, "Unreadable Answer");
    assert!(message.starts_with("status 503, text/plain, 2007 bytes: <html> éé"), "{message}");
    assert!(message.chars().count() < 300);
    for body in [&b""[..], b"  ", b"[]", b"null", b"{}", b"{\"Records\":null}", b"\xA0", b"\xFF", b"\xD9\xD9"] {
        assert_unreadable(200, body);
        assert_unreadable(500, body);
    }
}

#[test]
fn an_answer_cut_short_is_unreadable() {
    let json = br#"{"Records":[{"ShardId":"s","SequenceNumber":"1"},{"ErrorCode":"E","ErrorMessage":"m"}]}"#;
    let document: Cbor = serde_json::from_slice(json).unwrap();
    for whole in [json.to_vec(), cbor_bytes(&document)] {
        assert_eq!(parse_answer(200, None, None, &whole).unwrap().len(), 2);
        (0..whole.len()).for_each(|end| assert_unreadable(200, &whole[..end]));
    }
}

#[test]
fn an_entry_that_is_neither_stored_nor_failed_is_unreadable() {
    for entry in ["{}", r#"{"ShardId":"s"}"#, r#"{"SequenceNumber":"1"}"#, "7", "null", r#"{"ErrorCode":""}"#] {
        assert_unreadable(200, format!(r#"{{"Records":[{entry}]}}"#).as_bytes());
    }
    assert_unreadable(200, br#"{"Records":[{"ShardId":1,"SequenceNumber":"1"}]}"#);
}

#[test]
fn more_entries_than_a_request_has_are_unreadable() {
    let document = |count: usize| {
        let entry = cbor!({ "ShardId" => "s", "SequenceNumber" => "1" }).unwrap();
        cbor!({ "Records" => vec![entry; count] }).unwrap()
    };
    for (count, readable) in [(500, true), (501, false)] {
        let cbor = cbor_bytes(&document(count));
        let json = serde_json::to_vec(&document(count)).unwrap();
        assert_eq!(parse_answer(200, None, None, &cbor).is_ok(), readable);
        assert_eq!(parse_answer(200, None, None, &json).is_ok(), readable);
    }
}

#[test]
fn nesting_and_false_lengths_are_survived() {
    let deep = 1_000_000;
    for opener in [0x81, 0x9F, 0xC1] {
        assert_unreadable(200, &[b"\xBF\x61x", &vec![opener; deep][..]].concat());
    }
    let false_length = [0xFF; 8];
    for head in [0x9B, 0xBB, 0x5B, 0x7B] {
        assert_unreadable(200, &[b"\xBF\x61x", &[head][..], &false_length, b"\xF6\xF6"].concat());
        assert_unreadable(200, &[b"\xBF\x67Records", &[head][..], &false_length, b"\xF6\xF6"].concat());
    }
    assert_unreadable(200, &[b"\xBB", &false_length[..], b"\x61x\xF6"].concat());
    assert_unreadable(200, &[br#"{"x":"#, &vec![b'['; deep][..]].concat());
    assert_unreadable(200, &[br#"{"Records":"#, &vec![b'['; deep][..]].concat());
}

#[test]
fn a_success_with_an_error_in_it_is_that_error() {
    assert_eq!(error_of(200, None, br#"{"__type":"InternalFailure"}"#), ("InternalFailure".into(), String::new()));
    let records = br#"{"Records":[{"ShardId":"s","SequenceNumber":"1"}]}"#;
    assert_eq!(error_of(500, None, records).0, "Unreadable Answer");
}

#[test]
fn a_code_is_short_and_printable() {
    assert_eq!(bare_code("a#B:c"), Some("B"));
    assert_eq!(bare_code(" B "), Some("B"));
    for none in ["", "#", "a#", ":x", "two words", "\u{e9}", &"x".repeat(129)] {
        assert_eq!(bare_code(none), None);
    }
    let message = "é".repeat(2000);
    assert_eq!(kept_message(&message).chars().count(), 1024);
}
