//! Sender: connections and the requests that are on them.
//!
//! ```text
//!   connection:  closed ──open──▶ idle ──pull──▶ busy ──answer or failure──▶ idle or closed
//! ```
//!
//! One request at a time per connection. A core works with one connection and opens more, up to
//! `max_connections_per_core`, when sealed data has waited for [`CONNECTION_WAIT`]. The engine knows connections by
//! number; opening, timing out and closing them is the driver's work.
//!
//! The driver has the body of a request while it is sent, and the sender too, so that it can take it back for the next one:
//! at the end of the request nobody else has it any more, as a rule. What the driver still holds then is its own.
//!
//! N1: a connection is busy exactly while one request in `requests` names it.

use std::sync::Arc;

use crate::codec::lanes::Fill;
use crate::codec::{Body, Wire};
use crate::limits::{COLLECTION_BYTES_AIM, CONNECTION_WAIT};
use crate::record::StreamId;
use crate::time::Time;

use super::batch::Batch;
use super::planted::{Mistake, planted};

/// A connection of a core, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u16);

/// A request under way: its connection, and a number so that a late event for an older request is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The connection it is on.
    pub connection: ConnectionId,
    number: u64,
}

/// A request to send.
#[derive(Debug)]
pub struct Transmit {
    /// Names the request in the event that ends it.
    pub request: RequestId,
    /// The connection to send it on; the driver opens it if need be.
    pub connection: ConnectionId,
    /// The stream it writes to.
    pub stream: StreamId,
    /// The body's form.
    pub wire: Wire,
    /// The body. It refers to the buffers of the aggregates in it, and is to be dropped when it is sent.
    pub body: Arc<Body>,
    /// How full the lanes were that hashed its aggregates.
    pub digested: Fill,
    /// Kinesis records in it.
    pub kinesis_records: usize,
    /// User records in it.
    pub user_records: usize,
    /// The epoch of the shard map by which it is sent; 0 without one.
    pub map_epoch: u64,
}

impl Transmit {
    /// Whether it is sent without a shard map.
    pub fn is_unmapped(&self) -> bool {
        self.map_epoch == 0
    }
}

/// A request under way.
pub struct Request {
    /// The stream it writes to.
    pub stream: StreamId,
    /// When it was handed to its connection.
    pub began: Time,
    /// The form it is written in.
    pub wire: Wire,
    /// How often what signs requests had changed when it was handed over.
    pub signer: u64,
    /// Its Kinesis records, in order.
    pub batches: Vec<Box<Batch>>,
    number: u64,
}

#[derive(Default)]
struct Slot {
    open: bool,
    request: Option<Request>,
    /// The request's.
    body: Option<Arc<Body>>,
}

/// The connections of one core.
pub struct Sender {
    slots: Vec<Slot>,
    requests_begun: u64,
    /// Bodies of requests that have ended: never more than there are connections.
    bodies: Vec<Arc<Body>>,
}

/// A body whose buffer grew past this is not kept: room for a request of the usual size in JSON.
const BODY_BYTES_KEPT: usize = 2 * COLLECTION_BYTES_AIM;

/// Whether a request may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// On this connection; `spare` tells whether another could take the next one.
    Now {
        /// The connection.
        connection: ConnectionId,
        /// Whether a further connection is free or may be opened.
        spare: bool,
    },
    /// At that moment a further connection may be opened.
    At(Time),
    /// When a connection is free.
    WhenFree,
}

impl Sender {
    /// `connections` closed connections.
    pub fn new(connections: usize) -> Sender {
        let slots = (0..connections).map(|_| Slot::default()).collect();
        Sender { slots, requests_begun: 0, bodies: Vec::new() }
    }

    /// On which connection may data leave that has been due since `due`?
    pub fn pull(&self, now: Time, due: Time) -> Pull {
        let free = |open: bool| {
            let mut matching = self.slots.iter().enumerate().filter(move |(_, slot)| slot.open == open);
            matching.find(|(_, slot)| slot.request.is_none()).map(|(index, _)| ConnectionId(index as u16))
        };
        let spare = self.slots.iter().filter(|slot| slot.request.is_none()).count() > 1;
        if let Some(connection) = free(true) {
            return Pull::Now { connection, spare };
        }
        let Some(connection) = free(false) else { return Pull::WhenFree };
        let none_open = !self.slots.iter().any(|slot| slot.open);
        let widen = due + CONNECTION_WAIT;
        let widens = widen <= now && !planted(Mistake::ConnectionsOne);
        if none_open || widens { Pull::Now { connection, spare } } else { Pull::At(widen) }
    }

    /// A body to write a request into. Nobody else has it.
    pub fn body(&mut self) -> Arc<Body> {
        self.bodies.pop().unwrap_or_default()
    }

    /// A request leaves: in this form, after so many changes of what signs.
    pub fn begin(
        &mut self,
        now: Time,
        connection: ConnectionId,
        stream: StreamId,
        (wire, signer): (Wire, u64),
        batches: Vec<Box<Batch>>,
        body: &Arc<Body>,
    ) -> RequestId {
        let slot = &mut self.slots[usize::from(connection.0)];
        assert!(slot.request.is_none(), "N1: a connection carries one request");
        self.requests_begun += 1;
        slot.open = true;
        slot.body = Some(Arc::clone(body));
        slot.request = Some(Request { stream, began: now, wire, signer, batches, number: self.requests_begun });
        RequestId { connection, number: self.requests_begun }
    }

    /// A request ended; nothing if it had ended before.
    pub fn finish(&mut self, id: RequestId) -> Option<Request> {
        let slot = self.slots.get_mut(usize::from(id.connection.0))?;
        let request = slot.request.take_if(|request| request.number == id.number)?;
        let body = slot.body.take();
        body.into_iter().for_each(|body| self.keep(body));
        Some(request)
    }

    /// Keeps the body of a request that has ended for the next, unless it is still being sent. What it shared is its
    /// aggregates' alone afterwards.
    fn keep(&mut self, mut body: Arc<Body>) {
        if let Some(own) = Arc::get_mut(&mut body) {
            own.clear();
            if own.capacity() <= BODY_BYTES_KEPT {
                self.bodies.push(body);
            }
        }
    }

    /// The driver closed an idle connection, or lost a busy one.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(usize::from(connection.0)) {
            slot.open = false;
        }
    }

    /// Takes every request that is under way.
    pub fn abandon(&mut self) -> Vec<Request> {
        let forgotten = planted(Mistake::CloseForgetsRequests);
        for slot in &mut self.slots {
            slot.body = None;
        }
        self.slots.iter_mut().filter_map(|slot| slot.request.take_if(|_| !forgotten)).collect()
    }

    /// The requests under way.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter_map(|slot| slot.request.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;
    use crate::codec::{RequestEncoder, StreamRef};

    /// A connection as a list of what happened to it tells it: whether it is open, and the request that is on it.
    type Naive = (bool, Option<RequestId>);

    fn check_pull(sender: &Sender, naive: &[Naive], now: Time, due: Time) {
        let first = |open: bool| naive.iter().position(|slot| *slot == (open, None));
        let connection = |index: usize| ConnectionId(index as u16);
        let spare = naive.iter().filter(|(_, request)| request.is_none()).count() >= 2;
        let expected = match (first(true), first(false)) {
            (Some(index), _) => Pull::Now { connection: connection(index), spare },
            (None, None) => Pull::WhenFree,
            (None, Some(index)) => {
                let waited = now.as_nanos() >= due.as_nanos() + CONNECTION_WAIT.as_nanos() as u64;
                let alone = naive.iter().all(|(open, _)| !open);
                if waited || alone {
                    Pull::Now { connection: connection(index), spare }
                } else {
                    Pull::At(due + CONNECTION_WAIT)
                }
            }
        };
        assert_eq!(sender.pull(now, due), expected);
    }

    #[test]
    fn connections_are_as_a_list_of_what_happened_to_them_tells() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let connections = 1 + random.below(4) as usize;
            let mut sender = Sender::new(connections);
            let mut naive: Vec<Naive> = vec![(false, None); connections];
            let mut all: Vec<RequestId> = Vec::new();
            for step in 0..100 {
                let now = Time::from_nanos(1_000_000_000 + random.below(20_000_000));
                check_pull(&sender, &naive, now, Time::from_nanos(1_000_000_000 + random.below(10_000_000)));
                let index = random.below(connections as u64) as usize;
                let connection = ConnectionId(index as u16);
                match random.below(8) {
                    0..4 => {
                        let Pull::Now { connection, .. } = sender.pull(now, Time::ZERO) else { continue };
                        let stream = StreamId(step);
                        let wire = (Wire::Json, u64::from(step));
                        let id = sender.begin(now, connection, stream, wire, Vec::new(), &Arc::default());
                        assert_eq!(id.connection, connection);
                        naive[usize::from(connection.0)] = (true, Some(id));
                        all.push(id);
                    }
                    // Of all requests that ever were; most have ended.
                    4..6 if !all.is_empty() => {
                        let id = all[all.len() - 1 - random.below(all.len().min(6) as u64) as usize];
                        let slot = &mut naive[usize::from(id.connection.0)].1;
                        let ends = *slot == Some(id);
                        let finished = sender.finish(id);
                        assert_eq!(finished.as_ref().map(|request| request.number), ends.then_some(id.number));
                        slot.take_if(|_| ends);
                    }
                    6 => {
                        sender.disconnected(connection);
                        naive[index].0 = false;
                    }
                    _ if random.once_in(10) => {
                        let numbers: Vec<u64> = sender.abandon().iter().map(|request| request.number).collect();
                        let expected: Vec<u64> = naive.iter().filter_map(|(_, id)| Some((*id)?.number)).collect();
                        assert_eq!(numbers, expected);
                        naive.iter_mut().for_each(|(_, id)| *id = None);
                    }
                    _ => {}
                }
                let under_way: Vec<u64> = sender.requests().map(|request| request.number).collect();
                let expected: Vec<u64> = naive.iter().filter_map(|(_, id)| Some((*id)?.number)).collect();
                assert_eq!(under_way, expected, "N1");
            }
        }
    }

    #[test]
    fn a_request_keeps_what_it_began_with_and_a_connection_that_there_is_not_ends_none() {
        let mut sender = Sender::new(1);
        let now = Time::from_nanos(7);
        let id = sender.begin(now, ConnectionId(0), StreamId(3), (Wire::Json, 5), Vec::new(), &Arc::default());
        sender.disconnected(ConnectionId(9));
        assert!(sender.finish(RequestId { connection: ConnectionId(9), ..id }).is_none());
        let request = sender.finish(id).expect("it is under way");
        assert_eq!((request.began, request.stream, request.wire, request.signer), (now, StreamId(3), Wire::Json, 5));
        assert!(sender.finish(id).is_none(), "it has ended");
    }

    #[test]
    fn a_body_that_was_sent_is_used_again_and_one_that_is_still_held_is_not() {
        let mut sender = Sender::new(1);
        let mut sent = |held: bool| {
            let mut body = sender.body();
            let fresh = Arc::get_mut(&mut body).expect("nobody else has it");
            let had_room = fresh.capacity() > 0;
            assert!(fresh.is_empty());
            let encoder = RequestEncoder::reuse(Wire::Cbor, StreamRef::Name("s"), std::mem::take(fresh));
            *fresh = encoder.finish();
            let id = sender.begin(Time::ZERO, ConnectionId(0), StreamId(0), (Wire::Cbor, 0), Vec::new(), &body);
            let held = held.then(|| Arc::clone(&body));
            drop(body);
            sender.finish(id).expect("it is under way");
            if let Some(held) = held {
                assert!(!held.is_empty(), "whoever holds it can go on reading");
            }
            had_room
        };
        assert_eq!([false, true, false, false].map(&mut sent), [false, true, false, true]);
        assert_eq!([true, false].map(&mut sent), [true, false]);
    }

    #[test]
    #[should_panic(expected = "N1")]
    fn a_connection_does_not_carry_two_requests() {
        let mut sender = Sender::new(2);
        for _ in 0..2 {
            sender.begin(Time::ZERO, ConnectionId(1), StreamId(0), (Wire::Cbor, 0), Vec::new(), &Arc::default());
        }
    }
}
