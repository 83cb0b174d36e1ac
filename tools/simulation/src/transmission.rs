//! A request's way through the world: it leaves its core, reaches the service or not, and ends for its core.
//!
//! ```text
//!   poll_transmit ─▶ transmit: read, inspected, its fate drawn ─▶ arrive: applied ─▶ end: an answer or a failure
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kpl::engine::Transmit;

use crate::consumer;
use crate::driver::Input;
use crate::faults::{Canary, Kind};
use crate::inspect::{Answer, Departure};
use crate::kinesis::ServiceStream;
use crate::network::{End, Fate, Sending, draw_fate, end_of, fate_without_stream, shuffle};
use crate::promise::Promise;
use crate::source::number_of;
use crate::wire::{self, Entry, Told};
use crate::world::{Event, World};
use kpl::codec::Wire;
use kpl::engine::RequestId;

/// A request under way.
pub struct Request {
    /// Whose.
    core: usize,
    /// How its core names it.
    id: RequestId,
    /// Its stream.
    stream: usize,
    /// Its form.
    wire: Wire,
    /// What is in it.
    entries: Rc<Vec<Entry>>,
    /// What happens to it.
    fate: Fate,
    /// What the service said.
    told: Vec<Told>,
    /// Whether a consumer may drop an aggregate of it, as it is not in its shard.
    misplaced: bool,
    /// The epoch of the map that its core sent it by; 0, if it knew no shards.
    map_epoch: u64,
    /// Whether the service placed its entries by chance.
    auto: bool,
    /// Sequence numbers of what is misplaced, though it was sent by a map of a stream that was deleted.
    strays: Vec<String>,
    /// Places of poison records.
    poisoned: Vec<usize>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Kinesis records in them.
    pub kinesis_records: u64,
    /// User records in those.
    pub user_records: u64,
}

impl World {
    /// A request leaves a core.
    pub(crate) fn transmit(&mut self, core: usize, transmit: Transmit) {
        let (now, stream) = (self.now, transmit.stream.index());
        let departure = self.depart(core, &transmit);
        let fresh = self.nodes[core].occupy(usize::from(transmit.connection.0), now, &mut self.checker);
        let entries = match wire::read_request(transmit.wire, &transmit.body.to_vec()) {
            Ok((name, entries)) if name == self.plan.streams[stream].name => entries,
            Ok((name, _)) => {
                return self.checker.breaks(Promise::I8, format!("a request of stream {stream} names {name}"));
            }
            Err(error) => return self.checker.breaks(Promise::I8, format!("a request cannot be read: {error}")),
        };
        self.inspector.request(&departure, &entries, &mut self.checker);
        if self.plan.outage.is_some_and(|outage| outage.covers(now)) {
            self.checker.watch.sent += 1;
        }
        let poisoned = self.poisoned(stream, &entries);
        let refused = self.refusal_of(core, transmit.body.len(), &poisoned);
        let sending = Sending { now, fresh, wire: transmit.wire, refused };
        let fate = draw_fate(&sending, &self.plan, &mut self.faults);
        self.note_refusal((core, stream), fate.fault, &entries, &poisoned);
        let index = self.requests.len();
        let (kinesis, user) = (transmit.kinesis_records, transmit.user_records);
        self.trace.say(now, format_args!("core {core} sends request {index}: {kinesis} of {user} records, {fate:?}"));
        self.count(&transmit, &entries);
        let (id, wire) = (transmit.request, transmit.wire);
        let entries = Rc::new(entries);
        self.requests.push(Request {
            core,
            id,
            stream,
            wire,
            entries,
            fate,
            told: Vec::new(),
            misplaced: false,
            map_epoch: transmit.map_epoch,
            auto: false,
            strays: Vec::new(),
            poisoned,
        });
        if let Some(applied) = fate.applied {
            self.schedule(applied, Event::Arrive(index));
        }
        self.schedule(fate.ended, Event::End(index));
    }

    fn depart(&self, core: usize, transmit: &Transmit) -> Departure {
        let lateness = self.plan.judges_lateness();
        let lateness = lateness.then_some(if self.plan.dead_shard { Promise::I16 } else { Promise::I12 });
        let busy = self.nodes[core].last_busy(self.now);
        let stream = transmit.stream.index();
        let dead = (self.plan.dead_shard && stream == 0)
            .then(|| self.streams[0].shards.first())
            .flatten()
            .map(|shard| shard.range);
        let connection = usize::from(transmit.connection.0);
        Departure { now: self.now, core, connection, stream, busy, lateness, dead, map_epoch: transmit.map_epoch }
    }

    /// I19: what the engine says of a request is what is in it.
    fn count(&mut self, transmit: &Transmit, entries: &[Entry]) {
        self.traffic.requests += 1;
        self.traffic.kinesis_records += transmit.kinesis_records as u64;
        self.traffic.user_records += transmit.user_records as u64;
        let aggregates = self.checker.configs[transmit.stream.index()].aggregation_enabled;
        let members = |entry: &Entry| members_of(entry, aggregates).len();
        let (kinesis, user) = (entries.len(), entries.iter().map(members).sum::<usize>());
        let right = (kinesis, user) == (transmit.kinesis_records, transmit.user_records);
        self.checker.holds(Promise::I19, right, || {
            let told = (transmit.kinesis_records, transmit.user_records);
            format!("a request of {kinesis} Kinesis records and {user} user records is counted as {told:?}")
        });
    }

    /// A request is applied.
    pub(crate) fn arrive(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let (entries, stream) = (Rc::clone(&request.entries), &mut self.streams[request.stream]);
        if !stream.is_there() {
            self.faults.note(Kind::StreamGone);
            request.fate.fault = fate_without_stream(request.fate.fault);
            return self.trace.say(self.now, format_args!("request {index} finds no stream"));
        }
        if self.faults.planted(Canary::AppliesTwice, 5) {
            stream.put_records(self.now, &entries, &mut self.faults);
        }
        let auto = stream.auto.is_some();
        request.auto = auto;
        let aggregates = self.checker.configs[request.stream].aggregation_enabled;
        if auto && request.map_epoch == 0 {
            let wrapped = entries.iter().filter(|entry| consumer::members(&entry.data).is_some());
            for number in wrapped.flat_map(|entry| members_of(entry, aggregates)).flatten() {
                if let Some(record) = self.checker.records.get_mut(&number) {
                    record.unjudgeable = aggregates;
                }
            }
        }
        request.told = stream.put_records(self.now, &entries, &mut self.faults);
        let created =
            request.map_epoch.checked_sub(1).map(|epoch| self.listings[request.stream].created[epoch as usize]);
        let of_deleted = created.is_some_and(|created| created != stream.created);
        if of_deleted || request.fate.fault == Some(Kind::WrongOrder) {
            let stored = entries.iter().zip(&request.told);
            let strays = stored.filter(|(entry, told)| is_misplaced(stream, entry, told));
            let strays = strays.filter_map(|(_, told)| match told {
                Told::Stored(_, sequence) => Some(sequence.clone()),
                Told::Refused(..) => None,
            });
            request.strays = strays.collect();
            request.misplaced = auto || !request.strays.is_empty();
            request.strays.retain(|_| of_deleted);
        }
        self.trace.say(self.now, format_args!("request {index} is applied"));
    }

    /// A core hears of the end of a request.
    pub(crate) fn end(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let (core, id, wire) = (request.core, request.id, request.wire);
        let mut told = std::mem::take(&mut request.told);
        // Such an answer could hide an aggregate that nobody can read.
        let shuffled = request.fate.fault == Some(Kind::WrongOrder) && !request.misplaced;
        if shuffled && shuffle(&mut told, self.faults.rng()) {
            let aggregates = self.checker.configs[request.stream].aggregation_enabled;
            for number in request.entries.iter().flat_map(|entry| members_of(entry, aggregates)).flatten() {
                if let Some(record) = self.checker.records.get_mut(&number) {
                    record.misnamed = true;
                }
            }
        }
        let poisoned = std::mem::take(&mut request.poisoned);
        if matches!(request.fate.fault, Some(Kind::StaleConnection | Kind::FormRefused)) {
            let aggregates = self.checker.configs[request.stream].aggregation_enabled;
            for number in request.entries.iter().flat_map(|entry| members_of(entry, aggregates)).flatten() {
                if let Some(record) = self.checker.records.get_mut(&number) {
                    record.excused += 1;
                }
            }
        }
        let plain = matches!(request.fate.fault, None | Some(Kind::Slow)) && request.auto && self.closed.is_none();
        // Who was told that there is no stream takes no shard for the same.
        let gone = [Kind::NotFound, Kind::StreamGone].map(|kind| self.faults.counts[kind as usize]);
        let plain = plain && gone == [0, 0];
        let answer = Answer {
            throttled: throttled_places(&request.fate, &told, request.entries.len()),
            stored: if plain { evidence(&request.entries, &told) } else { Vec::new() },
            finds_no_stream: matches!(request.fate.fault, Some(Kind::NotFound | Kind::StreamGone)),
            strays: std::mem::take(&mut request.strays),
        };
        self.inspector.answered(core, usize::from(id.connection.0), answer);
        let end = end_of(&request.fate, wire, (told, &poisoned), &mut self.faults);
        // What it held is the service's now, or nobody's.
        if request.fate.applied.is_none_or(|applied| applied <= self.now) {
            request.entries = Rc::default();
        }
        let connection = usize::from(id.connection.0);
        self.nodes[core].vacate(connection, self.now, matches!(end, End::Answer(..)));
        self.trace.say(self.now, format_args!("request {index} ends"));
        match end {
            End::Answer(status, header, body) => self.tell(core, Input::Answer(id, status, header, body)),
            End::Failure(failure) => self.tell(core, Input::Failure(id, failure)),
        }
    }

    /// The longest that something may be under way that was sent before the faults healed.
    pub(crate) fn longest_request(&self) -> Duration {
        self.plan.config.connect_timeout + self.plan.config.request_timeout
    }
}

/// Whether an entry is an aggregate that was stored where some member does not belong.
fn is_misplaced(stream: &ServiceStream, entry: &Entry, told: &Told) -> bool {
    let Told::Stored(shard, _) = told else { return false };
    let (Some(members), Some((first, last))) = (consumer::members(&entry.data), stream.range_of(shard)) else {
        return false;
    };
    members.iter().any(|member| !(first..=last).contains(&member.hash()))
}

/// Where the service says to have stored what was sent by which hash key.
fn evidence(entries: &[Entry], told: &[Told]) -> Vec<(Arc<str>, u128)> {
    let stored = entries.iter().zip(told).filter_map(|(entry, told)| match told {
        Told::Stored(shard, _) => Some((shard.as_str().into(), entry.explicit?)),
        Told::Refused(..) => None,
    });
    stored.collect()
}

/// The places of the records that an answer calls throttled.
fn throttled_places(fate: &Fate, told: &[Told], entries: usize) -> Vec<usize> {
    match fate.fault {
        Some(Kind::RequestThrottled) => (0..entries).collect(),
        None | Some(Kind::Slow | Kind::WrongOrder) => {
            let throttled = |place: &usize| matches!(told[*place], Told::Refused(code, _) if code != "InternalFailure");
            (0..told.len()).filter(throttled).collect()
        }
        Some(_) => Vec::new(),
    }
}

/// The numbers of the records in an entry, as far as they can be told.
pub fn members_of(entry: &Entry, aggregates: bool) -> Vec<Option<u64>> {
    match consumer::members(&entry.data) {
        Some(members) if aggregates => members.iter().map(|member| number_of(member.key, member.data)).collect(),
        _ => vec![number_of(&entry.key, &entry.data)],
    }
}
