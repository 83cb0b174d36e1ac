//! The checker's eye on the wire: every request, as it leaves a core.
//!
//! Checks I8 to I12, I16, A1, A2 and E2, and I24 with `order`. A shard's place is computed from the map that the sending core was last told, since what a core
//! sends belongs to the shards of that map.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kpl::config::{Config, OuterPartitionKey, RateLimit, RecordDistribution, ShardMapPolicy};
use kpl::engine::ShardMap;
use kpl::time::Time;

use crate::checker::Checker;
use crate::consumer::{self, md5_hash};
use crate::order::UnderWay;
use crate::pace::Pace;
use crate::promise::Promise;
use crate::source::number_of;
use crate::transmission::members_of;
use crate::wire::Entry;

/// Bytes of one request that may go to one shard.
const SHARD_BYTES_MAX: usize = 256 * 1024;
/// What timers and a cycle may add to a deadline in calm: a few ticks of the wheel and the way over the mesh.
const LATENESS: Duration = Duration::from_micros(500);
/// What a flush takes in calm until the last aggregate is sealed: three ways over the mesh.
const FLUSH: Duration = Duration::from_millis(1);
/// How long a core waits before it opens a further connection.
const WIDEN: Duration = Duration::from_millis(5);

/// Whence and when a request leaves.
pub struct Departure {
    /// Now.
    pub now: Time,
    /// The core, and its connection.
    pub core: usize,
    /// See `core`.
    pub connection: usize,
    /// The stream.
    pub stream: usize,
    /// When a connection of the core was last busy, and when all were.
    pub busy: (Time, Time),
    /// What lateness breaks, if it is to be judged.
    pub lateness: Option<Promise>,
    /// The hash keys of the shard that takes nothing, if the stream has one.
    pub dead: Option<(u128, u128)>,
    /// The epoch of the map that it leaves by, 0 without one.
    pub map_epoch: u64,
}

impl Departure {
    fn is_unmapped(&self) -> bool {
        self.map_epoch == 0
    }
}

/// A map that a core was told.
struct Told {
    epoch: u64,
    /// First hash key, id and owner of each shard, ascending.
    shards: Vec<(u128, Arc<str>, usize)>,
    /// The ranges of those that the core owns, by id.
    own: BTreeMap<Arc<str>, (u128, u128)>,
    /// Whether the core goes by it that the service distributes the records, and how often that has changed until then.
    managed: bool,
    /// See `managed`.
    changes: u64,
    /// What all shards together are called, as long as that does not change.
    all: Arc<str>,
}

impl Told {
    /// `before` is the one that the core was told before.
    fn new(core: usize, map: &ShardMap, managed: bool, before: Option<&Told>) -> Told {
        let (was, changes) = before.map_or((false, 0), |before| (before.managed, before.changes));
        let changes = changes + u64::from(was != managed);
        let shards = map.shards().iter().map(|shard| (shard.range.0.0, Arc::clone(&shard.id), shard.owner.index()));
        let own = map.shards().iter().filter(|shard| shard.owner.index() == core);
        let own = own.map(|shard| (Arc::clone(&shard.id), (shard.range.0.0, shard.range.1.0)));
        let all = format!("all shards, change {changes}").into();
        Told { epoch: map.epoch, shards: shards.collect(), own: own.collect(), managed, changes, all }
    }

    /// Whether a hash key is outside of the range of an open shard.
    fn excludes(&self, id: &str, hash: u128) -> bool {
        let Some(place) = self.shards.iter().position(|shard| *shard.1 == *id) else { return false };
        let next = self.shards.get(place + 1).map_or(u128::MAX, |next| next.0 - 1);
        !(self.shards[place].0..=next).contains(&hash)
    }
}

/// A request under way.
struct Sent {
    stream: usize,
    began: Time,
    /// The shard of each record, and the number of its pace.
    shards: Vec<(Arc<str>, u64)>,
    /// How often it had changed who distributes the records.
    changes: u64,
    /// How it ended, if it was answered.
    answer: Answer,
}

/// What an answer tells a core.
#[derive(Default)]
pub struct Answer {
    /// Places of the records that were throttled.
    pub throttled: Vec<usize>,
    /// Shards in which the service has stored something, and the hash keys by which it was sent.
    pub stored: Vec<(Arc<str>, u128)>,
    /// Whether there is no such stream.
    pub finds_no_stream: bool,
    /// Sequence numbers of aggregates that no consumer sees, sent by the map of a stream that was deleted.
    pub strays: Vec<String>,
}

/// What the wire's watcher remembers.
#[derive(Default)]
pub struct Inspector {
    cores: u16,
    /// By core and stream: the map that it is known to send by, and those that it was told since.
    maps: BTreeMap<(usize, usize), VecDeque<Told>>,
    /// Streams of which some core was told a second map: the order of puts is no longer promised there.
    changed: BTreeSet<usize>,
    /// By core, stream and shard.
    paces: BTreeMap<(usize, usize, Arc<str>), (u64, Pace)>,
    /// Paces so far: a shard that comes back to a core has a new one.
    paced: u64,
    /// By core and connection.
    sent: BTreeMap<(usize, usize), Sent>,
    /// By submitter, stream and shard: the last record that was sent first.
    last_first: BTreeMap<(usize, usize, Arc<str>), u64>,
    /// By submitter and shard: the last record of the request at hand.
    last_here: BTreeMap<(usize, Arc<str>), u64>,
    /// Of ordered streams.
    under_way: UnderWay,
    /// Core and stream: who has seen this moment that the service stores records elsewhere than by hash key.
    evident: BTreeSet<(usize, usize)>,
    /// Cores and streams that were said not to be there since that core was told its newest map.
    doubted: BTreeSet<(usize, usize)>,
}

impl Inspector {
    /// The watcher of a producer of so many cores.
    pub fn new(cores: u16) -> Inspector {
        Inspector { cores, ..Inspector::default() }
    }

    /// A core is told a map, after it may have done without one (`stood_in`).
    pub fn map(&mut self, now: Time, (core, stream): (usize, usize), map: &ShardMap, stood_in: bool, config: &Config) {
        let told = self.maps.entry((core, stream)).or_default();
        if told.back().is_some_and(|told| map.epoch <= told.epoch) {
            return;
        }
        let managed = match config.record_distribution {
            RecordDistribution::Detect => map.is_service_managed(),
            RecordDistribution::UserKey => false,
            RecordDistribution::Auto => true,
        };
        told.push_back(Told::new(core, map, managed, told.back()));
        if managed {
            self.evident.remove(&(core, stream));
            let all = told.back().map(|told| Arc::clone(&told.all));
            let pace = all.and_then(|all| self.paces.get_mut(&(core, stream, all)));
            if let (Some((_, pace)), RateLimit::Percent(percent)) = (pace, config.rate_limit) {
                pace.reshape(now, percent, (map.len(), self.cores));
            }
        }
        self.doubted.remove(&(core, stream));
        if map.epoch > 1 || stood_in || managed {
            // Even if it is this core's first: others had an older one, and have routed by it.
            self.changed.insert(stream);
        }
    }

    /// A core sends by the map of an epoch: it has adopted those before it, one after the other.
    fn sends_by(&mut self, departure: &Departure, ordered: bool, checker: &mut Checker) {
        let (core, stream, epoch) = (departure.core, departure.stream, departure.map_epoch);
        let Some(told) = self.maps.get_mut(&(core, stream)) else { return };
        let newest = told.back().map_or(0, |told| told.epoch);
        // In ordered mode a map waits for its turn.
        checker.holds(Promise::E2, epoch == newest || ordered, || {
            format!("core {core} sends by map {epoch} of stream {stream}, though it has map {newest}")
        });
        while let [old, new, ..] = told.make_contiguous()
            && old.epoch < epoch
        {
            // A shard that a core does not keep, range and all, gets a new limiter.
            let kept = |id: &Arc<str>| {
                (*id == old.all && *id == new.all)
                    || (!new.managed && old.own.get(id).is_some_and(|range| new.own.get(id) == Some(range)))
            };
            self.paces.retain(|(at, of, id), _| (*at, *of) != (core, stream) || kept(id));
            told.pop_front();
        }
    }

    /// A request leaves.
    pub fn request(&mut self, departure: &Departure, entries: &[Entry], checker: &mut Checker) {
        let config = checker.configs[departure.stream].clone();
        check_size(&config, entries, checker);
        let mut per_shard: BTreeMap<Arc<str>, (usize, usize)> = BTreeMap::new();
        self.check_unmapped(departure, &config, checker);
        self.sends_by(departure, config.ordered, checker);
        self.last_here.clear();
        let front = self.maps.get(&(departure.core, departure.stream)).and_then(VecDeque::front);
        let front = front.filter(|_| !departure.is_unmapped());
        let changes = front.map_or(0, |told| told.changes);
        let managed = config.record_distribution == RecordDistribution::Auto || front.is_some_and(|told| told.managed);
        if managed {
            self.changed.insert(departure.stream);
        }
        let mut shards = Vec::new();
        for entry in entries {
            let size = entry.data.len() + entry.key.len();
            let hash = entry.explicit.unwrap_or_else(|| md5_hash(&entry.key));
            let Some(shard) = self.shard_of(departure, hash, checker) else { return };
            let sum = per_shard.entry(Arc::clone(&shard)).or_default();
            (sum.0, sum.1) = (sum.0 + 1, sum.1 + size);
            let alone = sum.0 == 1 || managed;
            if managed {
                check_managed(&config, entry, checker);
            }
            checker.holds(Promise::I8, alone || sum.1 <= SHARD_BYTES_MAX, || {
                format!("{} bytes of one request go to {shard}", sum.1)
            });
            let pace = self.take_tokens(departure, &config, &shard, size, checker);
            shards.push((Arc::clone(&shard), pace));
            if config.ordered {
                let numbers = members_of(entry, config.aggregation_enabled);
                self.under_way.leaves(departure, &shard, numbers.into_iter().flatten(), checker);
            }
            self.members(departure, &config, entry, &shard, checker);
        }
        let (began, answer) = (departure.now, Answer::default());
        let sent = Sent { stream: departure.stream, began, shards, changes, answer };
        self.sent.insert((departure.core, departure.connection), sent);
    }

    /// E2: without a map a core sends only if it may, and has waited as long as it is to.
    fn check_unmapped(&mut self, departure: &Departure, config: &Config, checker: &mut Checker) {
        if !departure.is_unmapped() {
            return;
        }
        let (core, stream, now) = (departure.core, departure.stream, departure.now);
        let mapped = self.maps.contains_key(&(core, stream)) && !config.ordered;
        let first_put = checker.first_put.get(&stream).copied().unwrap_or(Time::NEVER);
        let allowed = match config.shard_map {
            ShardMapPolicy::Degrade { after } => first_put + after <= now,
            ShardMapPolicy::Required => false,
            ShardMapPolicy::Unknown => true,
        };
        checker.holds(Promise::E2, allowed && !mapped, || {
            format!("core {core} sends without a map, under {:?}, first put at {first_put:?}", config.shard_map)
        });
    }

    /// The shard that a core sends a hash key to, by the map that it was told; without one, a range that it serves.
    fn shard_of(&self, departure: &Departure, hash: u128, checker: &mut Checker) -> Option<Arc<str>> {
        let (core, stream) = (departure.core, departure.stream);
        if departure.is_unmapped() {
            return Some(format!("range {} of core {core}", range_of(hash)).into());
        }
        let told = self.maps.get(&(core, stream)).and_then(VecDeque::front);
        let Some(told) = told.filter(|told| told.epoch == departure.map_epoch) else {
            checker.breaks(
                Promise::E2,
                format!("core {core} sends by a map that it was not told, {}", departure.map_epoch),
            );
            return None;
        };
        if told.managed {
            return Some(Arc::clone(&told.all));
        }
        let shards = &told.shards;
        let (_, shard, owner) = &shards[shards.partition_point(|shard| shard.0 <= hash) - 1];
        let owner = *owner;
        checker.holds(Promise::E2, owner == core, || format!("core {core} sends to {shard}, which core {owner} owns"));
        Some(Arc::clone(shard))
    }

    /// I9: no more than its pace allows. Answers the number of that.
    fn take_tokens(
        &mut self,
        departure: &Departure,
        config: &Config,
        shard: &Arc<str>,
        size: usize,
        checker: &mut Checker,
    ) -> u64 {
        let RateLimit::Percent(percent) = config.rate_limit else { return 0 };
        if departure.is_unmapped() {
            return 0;
        }
        let key = (departure.core, departure.stream, Arc::clone(shard));
        let told = self.maps.get(&(departure.core, departure.stream)).and_then(VecDeque::front);
        let shape = told.filter(|told| told.managed).map(|told| (told.shards.len(), self.cores));
        let (number, pace) = self.paces.entry(key).or_insert_with(|| {
            self.paced += 1;
            let pace = match shape {
                Some(shape) => Pace::of_stream(departure.now, percent, shape),
                None => Pace::new(departure.now, percent),
            };
            (self.paced, pace)
        });
        let taken = pace.take(departure.now, size);
        checker.holds(Promise::I9, taken.is_ok(), || {
            let (records, bytes) = taken.err().unwrap_or_default();
            format!("{size} bytes are sent to {shard}, {records:.2} records and {bytes:.0} bytes are allowed")
        });
        *number
    }

    /// A core hears that there is no such stream.
    pub fn missing(&mut self, core: usize, stream: usize) {
        self.doubted.insert((core, stream));
    }

    /// A core is about to hear the answer to the request on a connection.
    pub fn answered(&mut self, core: usize, connection: usize, answer: Answer) {
        if let Some(sent) = self.sent.get_mut(&(core, connection)) {
            sent.answer = answer;
        }
    }

    /// A2: a core has seen what it has seen, and has told of these streams.
    pub fn check_suspected(&mut self, core: usize, suspected: &[usize], checker: &mut Checker) {
        while let Some(&(of, stream)) = self.evident.range((core, 0)..(core + 1, 0)).next() {
            self.evident.remove(&(of, stream));
            let detects = checker.configs[stream].record_distribution == RecordDistribution::Detect;
            checker.holds(Promise::A2, !detects || suspected.contains(&stream), || {
                format!(
                    "core {core} is told that a record of stream {stream} is where it does not belong, and wonders not"
                )
            });
        }
    }

    /// A core hears how the request on a connection has ended.
    pub fn heard(&mut self, now: Time, core: usize, connection: usize, checker: &mut Checker) {
        self.under_way.ended(core, connection);
        let Some(sent) = self.sent.remove(&(core, connection)) else { return };
        let Answer { throttled, stored, finds_no_stream, strays } = sent.answer;
        let told = self.maps.get(&(core, sent.stream)).and_then(VecDeque::back);
        if let Some(told) = told.filter(|told| !told.managed && told.changes == sent.changes)
            && stored.iter().any(|(shard, hash)| told.excludes(shard, *hash))
        {
            self.evident.insert((core, sent.stream));
        }
        if finds_no_stream {
            self.missing(core, sent.stream);
        }
        // Who has never heard that the stream was not there cannot know that a shard of the same id is another.
        if !self.doubted.contains(&(core, sent.stream)) {
            checker.excused.extend(strays.into_iter().map(|sequence| (sent.stream, sequence)));
        }
        for place in throttled {
            let (shard, number) = &sent.shards[place];
            if let Some((present, pace)) = self.paces.get_mut(&(core, sent.stream, Arc::clone(shard)))
                && present == number
            {
                pace.throttled(now, sent.began);
            }
        }
    }

    fn members(
        &mut self,
        departure: &Departure,
        config: &Config,
        entry: &Entry,
        shard: &Arc<str>,
        checker: &mut Checker,
    ) {
        let hash = entry.explicit.unwrap_or_else(|| md5_hash(&entry.key));
        let dead = departure.dead.is_some_and(|(first, last)| {
            // Without a map a core cannot tell the dead shard's records from others of their range.
            let alike = |of: u128| if departure.is_unmapped() { range_of(of) } else { of };
            alike(first) <= alike(hash) && alike(hash) <= alike(last)
        });
        let Some(members) = consumer::members(&entry.data) else {
            return self.member(departure, config, (&entry.key, &entry.data), (shard, dead), checker);
        };
        // Without aggregation what a caller made is not ours to look into; with it, ours is around it.
        if !config.aggregation_enabled {
            return self.member(departure, config, (&entry.key, &entry.data), (shard, dead), checker);
        }
        let (count, size) = (members.len(), entry.data.len());
        let fits = count == 1 || (size <= config.aggregation_max_size && count <= config.aggregation_max_count);
        checker.holds(Promise::I8, fits, || format!("an aggregate has {count} members and {size} bytes"));
        let explicit = members.iter().filter(|member| member.explicit.is_some()).count();
        checker.holds(Promise::I8, explicit == 0 || explicit == count, || "an aggregate mixes hash keys".to_owned());
        checker.holds(Promise::I8, entry.explicit == Some(members[0].hash()), || {
            "an aggregate is not placed as its first member".to_owned()
        });
        let outer = match config.outer_partition_key {
            OuterPartitionKey::A => "a",
            OuterPartitionKey::FirstMember => members[0].key,
        };
        checker.holds(Promise::I8, entry.key == outer, || format!("an aggregate has the key {:?}", entry.key));
        checker.holds(Promise::E2, count == 1 || !departure.is_unmapped(), || {
            format!("an aggregate of {count} members is sent without a map")
        });
        for member in members {
            self.member(departure, config, (member.key, member.data), (shard, dead), checker);
        }
    }

    fn member(
        &mut self,
        at: &Departure,
        config: &Config,
        (key, data): (&str, &[u8]),
        (shard, dead): (&Arc<str>, bool),
        checker: &mut Checker,
    ) {
        let now = at.now;
        let number = number_of(key, data).unwrap_or(u64::MAX);
        let Some(record) = checker.records.get_mut(&number) else {
            return checker.breaks(Promise::I3, format!("a record with key {key:?} is sent that nobody put"));
        };
        let same = record.draft.key == key && record.draft.data == data && record.draft.stream == at.stream;
        let settled = record.outcome.is_some();
        let (arrival, submitter, flushed) = (record.arrival, record.submitter, record.flushed);
        let first = record.first_sent.is_none();
        record.first_sent.get_or_insert(now);
        record.sent += 1;
        checker.holds(Promise::I3, same, || format!("record {number} is sent, but not as it was put"));
        checker.holds(Promise::I1, !settled, || format!("record {number} is sent after it was settled"));
        let expiration = arrival + config.record_ttl;
        checker.holds(Promise::I10, now < expiration, || {
            format!("record {number} is sent at {now:?}, expired at {expiration:?}")
        });
        let ordered = !self.changed.contains(&at.stream);
        if ordered {
            let last = self.last_here.insert((submitter, Arc::clone(shard)), number);
            checker.holds(Promise::I11, last.is_none_or(|last| last < number), || {
                format!("record {number} of submitter {submitter} is behind {last:?} in one request to {shard}")
            });
        }
        if !first {
            return;
        }
        if ordered {
            let last = self.last_first.insert((submitter, at.stream, Arc::clone(shard)), number);
            checker.holds(Promise::I11, last.is_none_or(|last| last < number), || {
                format!("record {number} of submitter {submitter} is sent to {shard} after {last:?}")
            });
        }
        let deadline = arrival + config.record_max_buffered_time;
        // A flush skips the linger.
        let deadline = flushed.map_or(deadline, |flushed| deadline.min(flushed + FLUSH));
        let (busy, full) = at.busy;
        // A shard that takes nothing holds its own records up, and nobody else's; in ordered mode what is under way does.
        if let Some(promise) = at.lateness.filter(|_| !dead && !config.ordered)
            && config.rate_limit == RateLimit::Off
            && full + WIDEN < deadline
        {
            let widen = if busy + WIDEN < deadline { Duration::ZERO } else { WIDEN };
            let latest = deadline + LATENESS + widen;
            checker.holds(promise, now <= latest, || {
                format!("record {number} is first sent at {now:?}, due {deadline:?}")
            });
        }
    }
}

/// The range of the hash space that a core without a map serves as a shard, of 64.
fn range_of(hash: u128) -> u128 {
    (hash / (u128::MAX / 64)).min(63)
}

/// A1: what is sent where the service distributes records.
fn check_managed(config: &Config, entry: &Entry, checker: &mut Checker) {
    let members = consumer::members(&entry.data).filter(|_| config.aggregation_enabled);
    // What is an aggregate itself is wrapped, and keeps its hash key in case the service goes by them again.
    let (count, is_bare) = members.map_or((1, entry.explicit.is_none()), |members| (members.len(), true));
    checker.holds(Promise::A1, count == 1 && is_bare, || {
        format!(
            "{count} records with hash key {:?} are sent as one, though the service distributes them",
            entry.explicit
        )
    });
}

/// I8: what a request may weigh.
fn check_size(config: &Config, entries: &[Entry], checker: &mut Checker) {
    let sizes = entries.iter().map(|entry| entry.data.len() + entry.key.len());
    let (count, bytes, largest) = (entries.len(), sizes.clone().sum::<usize>(), sizes.max().unwrap_or(0));
    let count_max = config.collection_max_count.min(500);
    checker.holds(Promise::I8, (1..=count_max).contains(&count), || format!("a request has {count} records"));
    let light = bytes <= config.collection_max_size || count == 1;
    checker.holds(Promise::I8, light, || format!("a request of {count} records has {bytes} bytes"));
    let max = config.max_record_size;
    checker.holds(Promise::I8, largest <= max, || format!("a Kinesis record has {largest} bytes, at most {max}"));
}
