//! The service as the oracle has it: reads requests, stores what it likes, and says what it likes about it.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::codec::{EntryResult, RequestError, Wire};
use crate::engine::{ShardMap, TransportFailure};
use crate::outcome::ErrorCode;
use crate::record::HashKey;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Everything is stored where it belongs.
    Stored,
    /// Each entry has a fate of its own, drawn from this.
    Mixed(u8),
    /// Everything is stored, and the answer has an entry too few, or too many.
    Miscounted(bool),
    /// It is refused with one of [`REFUSALS`]; the top bit tells whether it was applied, if that can be.
    Refused(u8),
    /// There is no answer, for one of [`FAILURES`]; the top bit as above.
    Unanswered(u8),
}

impl Fate {
    /// The fate that these stand for.
    pub fn decode(kind: u8, draw: u8) -> Fate {
        match kind {
            0 => Fate::Stored,
            1 => Fate::Mixed(draw),
            2 => Fate::Refused(draw),
            _ if draw.is_multiple_of(16) => Fate::Miscounted(draw >= 128),
            _ => Fate::Unanswered(draw),
        }
    }
}

/// Status and code; no code is an answer that cannot be read.
const REFUSALS: [(u16, &str); 22] = [
    (400, "ProvisionedThroughputExceededException"),
    (400, "LimitExceededException"),
    (400, "KMSThrottlingException"),
    (400, "UnrecognizedClientException"),
    (400, "ExpiredTokenException"),
    (400, "AccessDeniedException"),
    (400, "KMSAccessDeniedException"),
    (403, "InvalidSignatureException"),
    (403, "RequestExpired"),
    (400, "ResourceNotFoundException"),
    (400, "ValidationException"),
    (400, "InvalidArgumentException"),
    (400, "SerializationException"),
    (415, "UnsupportedMediaTypeException"),
    (400, "SomethingNew"),
    (500, "InternalFailure"),
    (503, "ServiceUnavailable"),
    (200, ""),
    (404, ""),
    (413, ""),
    (500, ""),
    (502, ""),
];

const FAILURES: [(ErrorCode, bool); 7] = [
    (ErrorCode::Dns, false),
    (ErrorCode::Connect, false),
    (ErrorCode::Tls, false),
    (ErrorCode::Reset, false),
    (ErrorCode::Reset, true),
    (ErrorCode::Timeout, true),
    (ErrorCode::UnreadableAnswer, true),
];

/// One Kinesis record of a request, as consumers will see it.
#[derive(Clone)]
pub struct Entry {
    pub key: String,
    pub data: Vec<u8>,
    pub explicit: HashKey,
    /// The records in it, by number.
    pub members: Vec<usize>,
}

impl Entry {
    /// Bytes that count against the service's limits.
    pub fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// A Kinesis record that is stored.
pub struct Stored {
    pub shard: Arc<str>,
    pub members: Vec<usize>,
}

/// What a core hears of a request.
pub enum Answer {
    Entries(Vec<EntryResult>),
    Refused(RequestError),
    Nothing(TransportFailure),
}

#[derive(Default)]
pub struct Service {
    /// By sequence number.
    pub stored: HashMap<Arc<str>, Stored>,
    /// How often each record is stored, by number.
    copies: HashMap<usize, usize>,
}

impl Service {
    pub fn copies(&self, record: usize) -> usize {
        self.copies.get(&record).copied().unwrap_or(0)
    }

    fn store(&mut self, entry: &Entry, shard: Arc<str>) -> EntryResult {
        let sequence_number: Arc<str> = format!("{}", 1000 + self.stored.len()).into();
        for member in &entry.members {
            *self.copies.entry(*member).or_default() += 1;
        }
        let stored = Stored { shard: Arc::clone(&shard), members: entry.members.clone() };
        self.stored.insert(Arc::clone(&sequence_number), stored);
        EntryResult::Stored { shard_id: shard, sequence_number }
    }

    fn store_all(&mut self, entries: &[Entry], maps: &[Arc<ShardMap>]) -> Vec<EntryResult> {
        entries.iter().map(|entry| self.store(entry, holder(maps.last(), entry))).collect()
    }

    /// Ends a request. `maps` are all there ever were; the service goes by the latest.
    pub fn end(&mut self, entries: &[Entry], fate: Fate, maps: &[Arc<ShardMap>]) -> Answer {
        match fate {
            Fate::Stored => Answer::Entries(self.store_all(entries, maps)),
            Fate::Mixed(draw) => {
                let draws = (0..entries.len()).map(|index| draw.wrapping_add((index * 37) as u8));
                Answer::Entries(entries.iter().zip(draws).map(|(entry, draw)| self.mixed(entry, draw, maps)).collect())
            }
            Fate::Miscounted(more) => {
                let mut results = self.store_all(entries, maps);
                if more {
                    results.push(results[0].clone())
                } else {
                    results.truncate(entries.len() - 1)
                }
                Answer::Entries(results)
            }
            Fate::Refused(draw) => {
                let (status, name) = REFUSALS[usize::from(draw & 127) % REFUSALS.len()];
                if draw >= 128 && !(300..500).contains(&status) {
                    self.store_all(entries, maps);
                }
                let code = if name.is_empty() { ErrorCode::UnreadableAnswer } else { ErrorCode::Service(name.into()) };
                Answer::Refused(RequestError { status, code, message: "refused".into() })
            }
            Fate::Unanswered(draw) => {
                let (code, bytes_sent) = FAILURES[usize::from(draw & 127) % FAILURES.len()].clone();
                if draw >= 128 && bytes_sent {
                    self.store_all(entries, maps);
                }
                Answer::Nothing(TransportFailure { code, message: "no answer".into(), bytes_sent })
            }
        }
    }

    fn mixed(&mut self, entry: &Entry, draw: u8, maps: &[Arc<ShardMap>]) -> EntryResult {
        let latest = maps.last();
        let any = |from: &[Arc<ShardMap>]| from.get(usize::from(draw / 16) % from.len().max(1)).cloned();
        let failed = |code: &str| EntryResult::Failed { code: code.into(), message: "refused".into() };
        match draw % 16 {
            0..6 => self.store(entry, holder(latest, entry)),
            6 => self.store(entry, holder(any(maps).as_ref(), entry)),
            7 => {
                let shards = latest.map_or(&[][..], |map| map.shards());
                let shard = shards.get(usize::from(draw / 16) % shards.len().max(1));
                self.store(entry, shard.map_or_else(|| "shardId-0".into(), |shard| Arc::clone(&shard.id)))
            }
            8 => self.store(entry, "shardId-nobody-knows".into()),
            9..12 => failed("ProvisionedThroughputExceededException"),
            12 => failed("InternalFailure"),
            13 => {
                self.store(entry, holder(latest, entry));
                failed("InternalFailure")
            }
            14 => failed("ServiceUnavailable"),
            _ => {
                self.store(entry, holder(latest, entry));
                failed("SomethingNew")
            }
        }
    }
}

/// The shard of `map` that an entry's hash key belongs to. Before there is a map there is one shard.
fn holder(map: Option<&Arc<ShardMap>>, entry: &Entry) -> Arc<str> {
    map.map_or_else(|| "shardId-0".into(), |map| Arc::clone(&map.shard(map.predict(entry.explicit)).id))
}

/// A request as it was read: the stream's name; key, hash key and data of each entry.
pub type Read = (String, Vec<(String, HashKey, Vec<u8>)>);

/// Reads a request, with a reader that is not the writer's.
pub fn read(wire: Wire, body: &[u8]) -> Read {
    match wire {
        Wire::Json => read_json(body),
        Wire::Cbor => read_cbor(body).expect("the request is CBOR"),
    }
}

fn read_json(body: &[u8]) -> Read {
    let document: serde_json::Value = serde_json::from_slice(body).expect("the request is JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let records = document["Records"].as_array().expect("entries").iter().map(|entry| {
        let hash = text(&entry["ExplicitHashKey"]).parse().expect("a hash key");
        (text(&entry["PartitionKey"]), hash, STANDARD.decode(text(&entry["Data"])).expect("base64"))
    });
    (text(&document["StreamName"]), records.collect())
}

fn read_cbor(body: &[u8]) -> Result<Read, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(body);
    let (mut name, mut entries) = (String::new(), Vec::new());
    decoder.map()?;
    while decoder.datatype()? != minicbor::data::Type::Break {
        match decoder.str()? {
            "StreamName" => decoder.str()?.clone_into(&mut name),
            field => {
                assert_eq!(field, "Records");
                decoder.array()?;
                while decoder.datatype()? != minicbor::data::Type::Break {
                    entries.push(read_cbor_entry(&mut decoder)?);
                }
                decoder.skip()?;
            }
        }
    }
    decoder.skip()?;
    assert_eq!(decoder.position(), body.len(), "the request ends where it ends");
    Ok((name, entries))
}

fn read_cbor_entry(decoder: &mut minicbor::Decoder<'_>) -> Result<(String, HashKey, Vec<u8>), minicbor::decode::Error> {
    let (mut key, mut hash, mut data) = (None, None, None);
    decoder.map()?;
    while decoder.datatype()? != minicbor::data::Type::Break {
        match decoder.str()? {
            "PartitionKey" => key = Some(decoder.str()?.to_owned()),
            "ExplicitHashKey" => hash = Some(decoder.str()?.parse().expect("a hash key")),
            field => {
                assert_eq!(field, "Data");
                data = Some(decoder.bytes()?.to_vec());
            }
        }
    }
    decoder.skip()?;
    Ok((key.expect("a key"), hash.expect("a hash key"), data.expect("data")))
}
