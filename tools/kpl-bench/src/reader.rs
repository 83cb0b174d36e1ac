//! Reads the stream back, as a consumer would: every shard, from the beginning to its end.
//!
//! ```text
//!  shards ──▶ up to 8 GetRecords under way, one a shard ──▶ page ──▶ de-aggregate ──▶ user records to the ledger
//!                       ▲────── next iterator ───────────────┘
//! ```
//!
//! A shard that came of others is begun when they are at their end, as consumers do it, so that the records of a key are
//! read in the order in which they were stored.
//!
//! A closed shard ends where its iterators end. An open one ends at an empty page that is not behind the tip; a real
//! stream may show a record a little after it acknowledged it, so a remote one is asked again for some seconds while
//! fewer user records were read than were delivered.
//!
//! Memory: eight pages of about 4 MiB, since each shard's page size follows the size of its records.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::deaggregate::{Contents, HashRange, deaggregate};
use crate::stream::{Marks, Shard, StreamFault, shards};

/// Shards that are read at once.
const SHARDS_AT_ONCE: usize = 8;
/// Most records that may be asked for. Service.
const LIMIT_MAX: i32 = 10_000;
/// Records that are asked for first: 32 MiB if they are as large as can be.
const LIMIT_FIRST: i32 = 32;
/// What a page should hold.
const PAGE_BYTES: usize = 4 << 20;
/// How long a remote stream may take to show what it acknowledged.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile: the service allows five reads a second and shard.
const TIP_POLL: Duration = Duration::from_millis(500);

/// What to read.
#[derive(Clone)]
pub struct Reader {
    pub client: Client,
    pub stream: String,
    /// Where to begin in shards that were there before.
    pub marks: Arc<Marks>,
    /// Whether what was acknowledged may show late.
    pub remote: bool,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    pub kinesis_records: u64,
    /// Of these, aggregates.
    pub aggregates: u64,
    /// User records that a consumer sees.
    pub user_records: u64,
    /// User records that no consumer sees, since a member of their aggregate is in the wrong shard.
    pub dropped: u64,
    /// Members that cannot be read.
    pub unreadable: u64,
    /// Records that stand alone in a shard to which their partition key does not belong.
    pub misplaced: u64,
}

/// Whether a user record is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By consumers too.
    Seen,
    /// By nobody: consumers drop its aggregate.
    Dropped,
}

/// A shard that is being read.
struct Cursor {
    shard_id: String,
    /// Shards that are to be read first.
    parents: Vec<String>,
    range: HashRange,
    /// The sequence number after which to begin.
    after: Option<String>,
    /// Where to go on.
    iterator: Option<String>,
    limit: i32,
    /// It was at its tip, so the next page is not asked for at once.
    at_tip: bool,
}

impl Reader {
    /// Reads everything, and tells `on_record` key and data of every user record, in the order of its shard, and whether
    /// consumers see it.
    /// `expected` is how many there should be; `progress` is told how many there are so far.
    ///
    /// # Errors
    /// The stream cannot be read, after several tries.
    pub async fn read(
        &self,
        expected: u64,
        progress: &dyn Fn(u64),
        on_record: &mut dyn FnMut(Found, &str, &[u8]),
    ) -> Result<ReadCounts, StreamFault> {
        let mut counts = ReadCounts::default();
        let mut waiting: VecDeque<Cursor> = VecDeque::new();
        // Shards that are not at their end yet.
        let mut unread = HashSet::new();
        for Shard { id, range, parents, .. } in shards(&self.client, &self.stream).await? {
            let after = match self.marks.get(&id) {
                // Closed before the run: nothing of ours is in it.
                Some(None) => continue,
                Some(after) => after.clone(),
                None => None,
            };
            unread.insert(id.clone());
            let limit = LIMIT_FIRST;
            waiting.push_back(Cursor { shard_id: id, parents, range, after, iterator: None, limit, at_tip: false });
        }
        let mut fetches = JoinSet::new();
        // Runs from when a shard was first found at its tip before enough was read.
        let mut grace: Option<Clock> = None;
        loop {
            let ready = |cursor: &Cursor| !cursor.parents.iter().any(|parent| unread.contains(parent));
            while fetches.len() < SHARDS_AT_ONCE
                && let Some(place) = waiting.iter().position(ready)
                && let Some(cursor) = waiting.remove(place)
            {
                fetches.spawn(fetch(self.clone(), cursor));
            }
            let Some(fetched) = fetches.join_next().await else { return Ok(counts) };
            let fetched = fetched.map_err(|error| StreamFault::new("reading", &self.stream, error))?;
            let (mut cursor, page) = fetched?;
            take_page(&mut cursor, &page, &mut counts, on_record);
            progress(counts.user_records);
            if cursor.iterator.is_none() {
                unread.remove(&cursor.shard_id);
                continue;
            }
            cursor.at_tip = page.records().is_empty() && page.millis_behind_latest().unwrap_or(0) == 0;
            let complete = counts.user_records >= expected || !self.remote;
            if cursor.at_tip && (complete || grace.get_or_insert_with(Clock::start).elapsed() > GRACE) {
                unread.remove(&cursor.shard_id);
                continue;
            }
            waiting.push_back(cursor);
        }
    }
}

/// Asks for the next page of a shard.
async fn fetch(reader: Reader, mut cursor: Cursor) -> Result<(Cursor, GetRecordsOutput), StreamFault> {
    if cursor.at_tip {
        tokio::time::sleep(TIP_POLL).await;
    }
    let iterator = match cursor.iterator.take() {
        Some(iterator) => Some(iterator),
        None => first_iterator(&reader, &cursor).await?,
    };
    let request = reader.client.get_records().set_shard_iterator(iterator).limit(cursor.limit);
    let page = request.send().await.map_err(|error| StreamFault::of_client("reading", &reader.stream, error))?;
    cursor.iterator = page.next_shard_iterator.clone();
    Ok((cursor, page))
}

async fn first_iterator(reader: &Reader, cursor: &Cursor) -> Result<Option<String>, StreamFault> {
    let request = reader.client.get_shard_iterator().stream_name(&reader.stream).shard_id(&cursor.shard_id);
    let request = match &cursor.after {
        None => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        Some(number) => {
            request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number)
        }
    };
    let answer = request.send().await.map_err(|error| StreamFault::of_client("reading", &reader.stream, error))?;
    Ok(answer.shard_iterator)
}

/// Takes a page apart, and asks for more or for less the next time.
fn take_page(
    cursor: &mut Cursor,
    page: &GetRecordsOutput,
    counts: &mut ReadCounts,
    on_record: &mut dyn FnMut(Found, &str, &[u8]),
) {
    let mut bytes = 0;
    for record in page.records() {
        let data = record.data().as_ref();
        bytes += data.len();
        counts.kinesis_records += 1;
        match deaggregate(data, cursor.range) {
            Contents::Raw => {
                counts.user_records += 1;
                // Only a record that was put without a key has none, and none of ours was.
                let key = record.partition_key().unwrap_or_default();
                counts.misplaced += u64::from(!cursor.range.holds(key));
                on_record(Found::Seen, key, data);
            }
            Contents::Members { members, unreadable } => {
                counts.aggregates += 1;
                counts.user_records += members.len() as u64;
                counts.unreadable += unreadable;
                members.iter().for_each(|member| on_record(Found::Seen, member.key, member.data));
            }
            Contents::Dropped { members, unreadable } => {
                counts.aggregates += 1;
                counts.dropped += members.len() as u64 + unreadable;
                members.iter().for_each(|member| on_record(Found::Dropped, member.key, member.data));
            }
        }
    }
    let full = page.records().len() >= cursor.limit as usize;
    if bytes > 2 * PAGE_BYTES {
        cursor.limit = (cursor.limit / 2).max(1);
    } else if full && bytes < PAGE_BYTES / 2 {
        cursor.limit = (cursor.limit * 2).min(LIMIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::Record;

    use super::*;

    fn page(sizes: &[usize]) -> GetRecordsOutput {
        let record = |size: &usize| {
            let record = Record::builder().sequence_number("1").partition_key("k").data(Blob::new(vec![7; *size]));
            record.build().unwrap()
        };
        GetRecordsOutput::builder().set_records(Some(sizes.iter().map(record).collect())).build().unwrap()
    }

    fn cursor(limit: i32) -> Cursor {
        let range = HashRange { first: 0, last: u128::MAX };
        let (shard_id, parents) = ("shardId-000000000000".to_owned(), Vec::new());
        Cursor { shard_id, parents, range, after: None, iterator: None, limit, at_tip: false }
    }

    #[test]
    fn pages_grow_while_records_are_small_and_shrink_where_they_are_large() {
        let mut counts = ReadCounts::default();
        let mut seen = Vec::new();
        let mut on_record = |_: Found, key: &str, data: &[u8]| seen.push((key.to_owned(), data.len()));
        let mut cursor = cursor(4);
        take_page(&mut cursor, &page(&[10; 4]), &mut counts, &mut on_record);
        assert_eq!(cursor.limit, 8, "a full page of small records");
        take_page(&mut cursor, &page(&[10; 4]), &mut counts, &mut on_record);
        assert_eq!(cursor.limit, 8, "a page that was not full");
        take_page(&mut cursor, &page(&[2 << 20; 5]), &mut counts, &mut on_record);
        assert_eq!(cursor.limit, 4, "a page of large records");
        assert_eq!((counts.kinesis_records, counts.user_records, seen.len()), (13, 13, 13));
        assert_eq!(seen[0], ("k".to_owned(), 10));
    }
}
