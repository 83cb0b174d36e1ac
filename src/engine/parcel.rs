//! Records in transit, in one buffer: to the core that owns their shard, or waiting for the first map.
//!
//! ```text
//!   bytes     key_len+flags u16 │ data_len u32 │ hash 16, if it is kept │ key │ data │ …
//!   tickets   one each;   arrivals   in runs;   prior   where there were attempts
//! ```
//!
//! A hash key that the key tells is kept for another core, which then need not hash, and not while a record waits: that
//! may be long, and is once in a stream's life. So a record costs 14 bytes beyond its own here while it waits, 30 on its
//! way to a core, and what its arrival takes.

use std::sync::Arc;

use super::arrivals::Arrivals;
use super::batch::{Removed, Routed, Ticket, key_tag, trim};
use super::planted::{Mistake, planted};
use crate::codec::hash_key;
use crate::limits::PARTITION_KEY_BYTES_MAX;
use crate::outcome::Attempt;
use crate::record::HashKey;
use crate::time::Time;

/// See the essay. Records come out in the order in which they went in.
#[derive(Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    tickets: Vec<Ticket>,
    arrivals: Arrivals,
    /// By place, ascending.
    prior: Vec<(u32, Arc<[Attempt]>)>,
}

/// Flags in the bits that the length of a key leaves free.
const EXPLICIT: u16 = 1 << 15;
const HAS_HASH: u16 = 1 << 14;
const FRESH: u16 = 1 << 13;
const KEY_LEN: u16 = FRESH - 1;
const _: () = assert!(PARTITION_KEY_BYTES_MAX <= KEY_LEN as usize);

/// Bytes at which a list of parcels goes on with another, so that no buffer has to be moved when it grows large.
const PARCEL_BYTES_AIM: usize = 64 * 1024;

impl Parcel {
    /// Adds a copy of `record` at the end. `keeps_hash` spares the hashing when it is taken out.
    pub fn push(&mut self, ticket: Ticket, record: &Routed<'_>, keeps_hash: bool) {
        let has_hash = keeps_hash || record.explicit;
        let explicit = record.explicit && !planted(Mistake::ParcelForgetsExplicit);
        let mut head = record.key.len() as u16; // at most KEY_LEN
        for (holds, flag) in [(explicit, EXPLICIT), (has_hash, HAS_HASH), (record.fresh, FRESH)] {
            head |= if holds { flag } else { 0 };
        }
        self.bytes.extend_from_slice(&head.to_le_bytes());
        self.bytes.extend_from_slice(&(record.data.len() as u32).to_le_bytes()); // 10 MiB at most: RECORD_BYTES_MAX
        if has_hash {
            self.bytes.extend_from_slice(&record.hash.0.to_le_bytes());
        }
        self.bytes.extend_from_slice(record.key);
        self.bytes.extend_from_slice(record.data);
        if let Some(prior) = record.prior
            && !planted(Mistake::ParcelForgetsAttempts)
        {
            self.prior.push((self.tickets.len() as u32, Arc::clone(prior)));
        }
        self.arrivals.push(record.arrival, record.generation);
        self.tickets.push(ticket);
    }

    /// Adds a copy of `record` to the last of `parcels`, or to a further one.
    pub fn push_last(parcels: &mut Vec<Parcel>, ticket: Ticket, record: &Routed<'_>) {
        if let Some(last) = parcels.last_mut() {
            if last.bytes.len() < PARCEL_BYTES_AIM {
                return last.push(ticket, record, false);
            }
            last.seal();
        }
        let mut parcel = Parcel::default();
        parcel.push(ticket, record, false);
        parcels.push(parcel);
    }

    /// Gives back the room that it does not need any more.
    fn seal(&mut self) {
        trim(&mut self.bytes);
        trim(&mut self.tickets);
        self.arrivals.trim();
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Bytes that its buffers occupy.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.tickets.capacity() * size_of::<Ticket>()
    }

    /// Takes every record out, in order. The room is kept.
    pub fn unpack(&mut self, mut take: impl FnMut(Ticket, &Routed<'_>)) {
        let mut prior = self.prior.drain(..).peekable();
        let mut rest = Reader(&self.bytes);
        let records = self.tickets.drain(..).zip(self.arrivals.iter());
        for (place, (ticket, (arrival, generation))) in records.enumerate() {
            let head = u16::from_le_bytes(rest.array());
            let data_len = u32::from_le_bytes(rest.array()) as usize;
            let kept = (head & HAS_HASH != 0).then(|| HashKey(u128::from_le_bytes(rest.array())));
            let key = rest.bytes(usize::from(head & KEY_LEN));
            let data = rest.bytes(data_len);
            let size = (key.len() + data_len) as u32; // at most 10 MiB: limits::RECORD_BYTES_MAX
            let (hash, explicit) = (kept.unwrap_or_else(|| hash_key(key)), head & EXPLICIT != 0);
            let attempts = prior.next_if(|(at, _)| *at as usize == place).map(|(_, attempts)| attempts);
            let record = Routed {
                arrival,
                size,
                generation,
                hash,
                tag: key_tag(key, hash, explicit),
                explicit,
                fresh: head & FRESH != 0,
                key,
                data,
                prior: attempts.as_ref(),
            };
            take(ticket, &record);
        }
        drop(prior);
        self.bytes.clear();
        self.arrivals.clear();
    }

    /// Takes out the records that `gone` names; the others stay, in order. `keeps` says whether failed ones are kept.
    pub fn remove(&mut self, gone: impl Fn(Time) -> bool, keeps: bool) -> Vec<Removed> {
        if !self.arrivals.runs().any(|(arrival, ..)| gone(arrival)) {
            return Vec::new();
        }
        let mut removed = Vec::new();
        let mut kept = Parcel::default();
        self.unpack(|ticket, record| {
            if gone(record.arrival) {
                removed.push(Removed::of(ticket, record, keeps));
            } else {
                kept.push(ticket, record, true);
            }
        });
        *self = kept;
        removed
    }

    /// The earliest arrival among its records.
    pub fn oldest(&self) -> Option<Time> {
        (!self.is_empty()).then(|| self.arrivals.oldest())
    }
}

/// Reads what `push` wrote.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.0.split_first_chunk().expect("push wrote its records whole");
        self.0 = rest;
        *array
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Generation;
    use super::*;
    use crate::ring::{Ledger, Slots};

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        let attempts: Arc<[Attempt]> = Vec::new().into();
        let mut parcel = Parcel::default();
        let long = "k".repeat(PARTITION_KEY_BYTES_MAX);
        let records = [
            ("key", None, true, &b"data"[..], false),
            ("ключ", Some(HashKey(7)), false, &b""[..], true),
            (long.as_str(), None, false, &[7; 1000][..], false),
            ("key", None, true, &b"x"[..], true),
        ];
        for keeps_hash in [false, true] {
            for (number, (key, explicit, fresh, data, attempted)) in records.into_iter().enumerate() {
                let arrival = Time::from_nanos(number as u64) + std::time::Duration::from_secs(1);
                let generation = Generation::of_round(number as u64);
                let size = (key.len() + data.len()) as u32;
                let hash = explicit.unwrap_or_else(|| hash_key(key));
                let prior = attempted.then_some(&attempts);
                let (explicit, key) = (explicit.is_some(), key.as_bytes());
                let tag = key_tag(key, hash, explicit);
                let record = Routed { arrival, size, generation, hash, tag, explicit, fresh, key, data, prior };
                parcel.push(slots.take_lone(), &record, keeps_hash);
            }
            assert_eq!((parcel.len(), parcel.oldest()), (4, Some(Time::from_nanos(1_000_000_000))));
            let mut number = 0;
            parcel.unpack(|_, record| {
                let (key, explicit, fresh, data, attempted) = records[number];
                assert_eq!((record.key, record.data, record.fresh), (key.as_bytes(), data, fresh));
                assert_eq!(record.hash, explicit.unwrap_or_else(|| hash_key(key)));
                assert_eq!((record.explicit, record.prior.is_some()), (explicit.is_some(), attempted));
                assert_eq!(record.tag, hash_key(key).0 as u64);
                assert_eq!(record.size as usize, key.len() + data.len());
                assert_eq!(record.generation, Generation::of_round(number as u64));
                number += 1;
            });
            assert_eq!((number, parcel.is_empty(), parcel.oldest()), (4, true, None));
        }
    }

    #[test]
    fn a_list_of_parcels_goes_on_with_another_and_keeps_the_order() {
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        let mut parcels = Vec::new();
        for number in 0..1000u32 {
            let data = [number.to_le_bytes().as_slice(), &[0; 496]].concat();
            let record = Routed {
                arrival: Time::from_nanos(u64::from(number)),
                size: 503,
                generation: Generation::default(),
                hash: hash_key("key"),
                tag: hash_key("key").0 as u64,
                explicit: false,
                fresh: true,
                key: b"key",
                data: &data,
                prior: None,
            };
            Parcel::push_last(&mut parcels, slots.take_lone(), &record);
        }
        // Some 520 KB in all.
        assert!((8..=9).contains(&parcels.len()), "{}", parcels.len());
        let mut expected = 0..1000u32;
        for mut parcel in parcels {
            parcel.unpack(|_, record| assert_eq!(record.data[..4], expected.next().expect("no more").to_le_bytes()));
        }
        assert_eq!(expected.next(), None);
    }
}
