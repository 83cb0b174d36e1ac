//! The aggregator beside a naive one: a list of records that is encoded by prost to see how large it is.

use prost::Message;

use super::super::batch::Wraps;
use super::super::testing::{Put, Random, Source};
use super::*;
use crate::config::OuterPartitionKey;
use crate::limits::AGGREGATE_MAGIC;
use crate::record::HashKey;
use crate::time::Time;

#[derive(Clone, PartialEq, Message)]
struct Aggregated {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Member>,
}

/// Required fields are written even where they are 0 or empty, which prost does for what is optional and there.
#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(uint64, optional, tag = "1")]
    key: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_key: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

fn place(table: &mut Vec<String>, text: &str) -> u64 {
    let found = table.iter().position(|known| known == text);
    found.unwrap_or_else(|| {
        table.push(text.to_owned());
        table.len() - 1
    }) as u64
}

/// The protobuf message of these records.
fn encode(puts: &[Put]) -> Vec<u8> {
    let mut message = Aggregated::default();
    let is_explicit = puts[0].explicit.is_some();
    for put in puts {
        let key = place(&mut message.keys, &put.key);
        let explicit_key = is_explicit.then(|| place(&mut message.explicit_keys, &put.hash().0.to_string()));
        message.records.push(Member { key: Some(key), explicit_key, data: Some(put.data.clone()) });
    }
    message.encode_to_vec()
}

/// Bytes of an aggregate of these records: magic, message, digest.
fn size(puts: &[Put]) -> usize {
    4 + encode(puts).len() + 16
}

/// The naive aggregator.
#[derive(Default)]
struct Oracle {
    open: Vec<Put>,
    sealed: Vec<Vec<Put>>,
}

impl Oracle {
    fn push(&mut self, put: Put, bounds: &Bounds) {
        if let Some(first) = self.open.first() {
            let with_it = [&self.open[..], std::slice::from_ref(&put)].concat();
            if (put.explicit.is_some() && first.explicit.is_none()) || size(&with_it) > bounds.max_size {
                self.seal();
            }
        }
        self.open.push(put);
        if !bounds.aggregates || size(&self.open) > bounds.max_size || self.open.len() >= bounds.max_count {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(std::mem::take(&mut self.open));
        }
    }
}

fn check(batch: &Batch, puts: &[Put], bounds: &Bounds) {
    let first = &puts[0];
    assert_eq!(batch.tickets.len(), puts.len());
    assert_eq!(batch.body.parts().concat()[4..], encode(puts));
    assert_eq!((batch.first_hash, batch.explicit), (first.hash(), first.explicit.is_some()));
    assert_eq!(batch.record_bytes as usize, puts.iter().map(Put::size).sum::<usize>());
    let arrival = puts.iter().map(|put| put.arrival).min().expect("a member");
    assert_eq!((batch.deadline, batch.expiration), (arrival + bounds.buffered_time, arrival + bounds.ttl));
    assert_eq!(batch.arrivals.oldest(), arrival);
    let outer = if bounds.outer == OuterPartitionKey::A { "a" } else { &first.key };
    let fits = size(&puts[..1]) + outer.len() <= bounds.max_record;
    let wrapped = bounds.aggregates && fits && first.data.starts_with(&AGGREGATE_MAGIC);
    assert_eq!(batch.is_aggregate(), puts.len() > 1 || wrapped);
    let aggregate = size(puts) + outer.len();
    assert_eq!(batch.outer_partition_key(), outer);
    assert_eq!(batch.size(), if batch.is_aggregate() { aggregate } else { first.size() });
    assert!(batch.hashes().eq(puts.iter().map(Put::hash)));
}

fn random_put(random: &mut Random, max_size: usize) -> Put {
    let key = ["a", "key", "другой", "another-key"][random.below(4) as usize].to_owned();
    let len = if random.once_in(9) { max_size + 40 } else { max_size / 3 };
    let len = random.below(len as u64 + 1) as usize;
    let mut data = vec![random.below(256) as u8; len];
    if random.once_in(4) {
        data.splice(..0, AGGREGATE_MAGIC);
    }
    let explicit = random.once_in(5).then(|| HashKey(u128::from(random.next()) << random.below(65)));
    Put { explicit, arrival: Time::from_nanos(random.below(1 << 40)), ..Put::new(&key, &data) }
}

#[test]
fn what_is_sealed_and_when_is_what_encoding_and_weighing_would_seal() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let max_size = 64 + random.below(400) as usize;
        let aggregates = !random.once_in(6);
        let bounds = Bounds {
            aggregates,
            wraps: if aggregates { Wraps::Magic } else { Wraps::None },
            max_size,
            // Of those that are larger than an aggregate, some could not be wrapped.
            max_record: max_size + 1 + random.below(40) as usize,
            max_count: if random.once_in(2) { 1 + random.below(5) as usize } else { usize::MAX },
            outer: if random.once_in(2) { OuterPartitionKey::FirstMember } else { OuterPartitionKey::A },
            ..super::super::testing::bounds()
        };
        let (mut source, mut pool) = (Source::new(), Pool::default());
        let (mut aggregator, mut oracle) = (Aggregator::default(), Oracle::default());
        for _ in 0..40 {
            let put = random_put(&mut random, max_size);
            let mut sealed: Vec<Box<Batch>> = Vec::new();
            if random.once_in(12) {
                oracle.seal();
                sealed.extend(aggregator.seal(&mut pool));
            } else {
                let (ticket, record) = source.lone(&put);
                sealed.extend(aggregator.push(ticket, &record, &bounds, &mut pool).into_iter().flatten());
                oracle.push(put, &bounds);
            }
            assert_eq!(sealed.len(), oracle.sealed.len(), "seed {seed}");
            for (mut batch, puts) in sealed.into_iter().zip(oracle.sealed.drain(..)) {
                check(&batch, &puts, &bounds);
                assert_eq!(batch.body.digest(), super::super::testing::digest(&encode(&puts)));
                batch.dissolve(|_, _| ());
                pool.give(batch);
            }
            match aggregator.open() {
                Some(open) => check(open, &oracle.open, &bounds),
                None => assert!(oracle.open.is_empty(), "seed {seed}"),
            }
        }
    }
}
