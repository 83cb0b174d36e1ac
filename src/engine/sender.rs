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
//! N1: a connection is busy exactly while one request in `requests` names it.

use crate::codec::Wire;
use crate::limits::CONNECTION_WAIT;
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
    /// The body.
    pub body: Vec<u8>,
    /// Kinesis records in it.
    pub kinesis_records: usize,
    /// User records in it.
    pub user_records: usize,
    /// Whether it is sent without a shard map.
    pub is_unmapped: bool,
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
}

/// The connections of one core.
pub struct Sender {
    slots: Vec<Slot>,
    requests_begun: u64,
}

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
        Sender { slots: (0..connections).map(|_| Slot::default()).collect(), requests_begun: 0 }
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

    /// A request leaves: in this form, after so many changes of what signs.
    pub fn begin(
        &mut self,
        now: Time,
        connection: ConnectionId,
        stream: StreamId,
        (wire, signer): (Wire, u64),
        batches: Vec<Box<Batch>>,
    ) -> RequestId {
        let slot = &mut self.slots[usize::from(connection.0)];
        assert!(slot.request.is_none(), "N1: a connection carries one request");
        self.requests_begun += 1;
        slot.open = true;
        slot.request = Some(Request { stream, began: now, wire, signer, batches, number: self.requests_begun });
        RequestId { connection, number: self.requests_begun }
    }

    /// A request ended; nothing if it had ended before.
    pub fn finish(&mut self, id: RequestId) -> Option<Request> {
        let slot = self.slots.get_mut(usize::from(id.connection.0))?;
        slot.request.take_if(|request| request.number == id.number)
    }

    /// The driver closed an idle connection, or lost a busy one.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(usize::from(connection.0)) {
            slot.open = false;
        }
    }

    /// Takes every request that is under way.
    pub fn abandon(&mut self) -> Vec<Request> {
        self.slots.iter_mut().filter_map(|slot| slot.request.take()).collect()
    }

    /// The requests under way.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter_map(|slot| slot.request.as_ref())
    }
}
