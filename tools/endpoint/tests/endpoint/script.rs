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
