//! Ordered mode: what is under way at a time (I24), and in which order consumers see what was delivered (I23).
//!
//! ```text
//!   puts of one submitter and hash key    1 2 3 4      3 has failed: a gap, which says nothing
//!   first copies that a consumer sees     1 2   4      ascending, whatever was sent twice, and wherever it came to lie
//! ```
//!
//! Sequence numbers ascend over all shards of a stream, and over its deletion, so that places can be compared across splits
//! and merges. What an aggregate shows nobody, as some member of it is out of its shard's range, is not seen.
//!
//! What is under way is told from outside: from its request to the moment at which the core hears how that ended. Which
//! shard a core means is known from the map that it was told; two requests are compared only if the same core sent them by
//! the same map. A submitter's hash key is compared across maps and cores, and so are handovers of shards watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checker::Checker;
use crate::inspect::Departure;
use crate::promise::Promise;
use crate::verdict::Places;

/// A shard as a core means it: core, stream, epoch of the map, shard.
type Meant = (usize, usize, u64, Arc<str>);
/// Stream, submitter and hash key.
type Line = (usize, usize, u128);

/// What is under way of ordered streams.
#[derive(Default)]
pub struct UnderWay {
    shards: BTreeMap<Meant, u64>,
    lines: BTreeMap<Line, u64>,
    /// By core and connection, what its request has of both.
    sent: BTreeMap<(usize, usize), (Vec<Meant>, Vec<Line>)>,
    /// Kinesis records so far.
    count: u64,
}

impl UnderWay {
    /// A Kinesis record leaves, meant for `shard`, with these user records in it.
    pub fn leaves(
        &mut self,
        at: &Departure,
        shard: &Arc<str>,
        numbers: impl Iterator<Item = u64>,
        checker: &mut Checker,
    ) {
        self.count += 1;
        let meant = (at.core, at.stream, at.map_epoch, Arc::clone(shard));
        let (shards, lines) = self.sent.entry((at.core, at.connection)).or_default();
        let other = self.shards.insert(meant.clone(), self.count);
        shards.push(meant);
        checker.holds(Promise::I24, other.is_none(), || format!("two Kinesis records are under way to {shard}"));
        for number in numbers {
            let Some(record) = checker.records.get(&number) else { continue };
            let (submitter, Some(hash)) = (record.submitter, record.draft.hash()) else { continue };
            let line = (at.stream, submitter, hash);
            let other = self.lines.insert(line, self.count);
            lines.push(line);
            checker.holds(Promise::I24, other.is_none_or(|other| other == self.count), || {
                format!("record {number} is sent to {shard} while another of its submitter and hash key is under way")
            });
        }
    }

    /// A core hears how the request on a connection has ended.
    pub fn ended(&mut self, core: usize, connection: usize) {
        let (shards, lines) = self.sent.remove(&(core, connection)).unwrap_or_default();
        for meant in shards {
            self.shards.remove(&meant);
        }
        for line in lines {
            self.lines.remove(&line);
        }
    }
}

/// I23: compares the first visible copies of what was delivered.
pub fn judge(places: &Places, checker: &mut Checker) {
    let mut last: BTreeMap<Line, (u64, usize, u64)> = BTreeMap::new();
    let mut disorder = Vec::new();
    for (number, record) in &checker.records {
        let draft = &record.draft;
        let delivered = matches!(record.outcome, Some(Ok(_)));
        let Some(hash) = draft.hash().filter(|_| delivered && checker.configs[draft.stream].ordered) else { continue };
        let visible = places.get(number).into_iter().flatten().filter(|place| place.hidden.is_none());
        let Some((sequence, member)) = visible.map(|place| (place.sequence, place.member)).min() else { continue };
        let before = last.insert((draft.stream, record.submitter, hash), (sequence, member, *number));
        let Some((sequence_before, member_before, earlier)) = before else { continue };
        checker.checked.note(Promise::I23);
        if (sequence, member) < (sequence_before, member_before) {
            disorder.push(format!("record {number} is seen at {sequence}, before {earlier} at {sequence_before}"));
        }
    }
    if let Some(text) = disorder.into_iter().next() {
        checker.breaks(Promise::I23, text);
    }
}
