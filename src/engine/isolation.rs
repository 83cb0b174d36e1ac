//! Isolation: which record of a request is it that the service calls the whole request invalid for?
//!
//! ```text
//!   refused as invalid ──▶ the message names records ──▶ each of them apart, and the others together
//!                      └─▶ it names none ─────────────▶ two halves, apart        (and so on with what is refused)
//!
//!   refused alone ──▶ poison: it fails               all first parts refused alike ──▶ the request is at fault: all fail
//! ```
//!
//! What is under *suspicion* goes in requests of its own, one group a request, so that a request with a poison record
//! does not drag the others along. What a message names is tried alone before it fails: it costs one request, and no
//! record fails for another's fault, however the service counts. Only the first parts can tell that the request is at
//! fault: once one of them was taken, what is refused alike has several poison records.
//!
//! One inquiry may cost [`ISOLATION_REQUESTS_MAX`] further requests: bisecting 500 records for a single poison one takes
//! 18. What is then still under suspicion fails.
//!
//! P1: the groups of a split are parts of what was refused, and smaller; so every inquiry ends.

use std::collections::VecDeque;
use std::sync::Arc;

use super::planted::{Mistake, planted};
use crate::limits::ISOLATION_REQUESTS_MAX;
use crate::outcome::ErrorCode;

/// The code and the message of a refusal.
pub type Refusal = (ErrorCode, Arc<str>);

/// The group of an inquiry that a batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    inquiry: u32,
    group: u8,
}

/// What a refusal says about the batches of the refused request.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// There was one batch: it is at fault.
    Poison,
    /// They fail, and so does what [`Isolation::is_condemned`]: the request is at fault, or the search costs too much.
    Hopeless,
    /// Each is to be tried in its group, by place in the request.
    Split(Vec<Suspicion>),
}

/// The inquiries of one stream on one core.
#[derive(Default)]
pub struct Isolation {
    /// The oldest first, at most [`INQUIRIES_MAX`]. One that was forgotten begins anew with the next refusal.
    inquiries: VecDeque<Inquiry>,
    begun: u32,
}

/// More at once would need more refused requests than a core has connections, again and again.
const INQUIRIES_MAX: usize = 64;

struct Inquiry {
    id: u32,
    /// Requests of suspects that were judged.
    judged: usize,
    /// What is known of each group.
    groups: Vec<Verdict>,
    /// How many of the groups, the first ones, are parts of the first request.
    first_parts: usize,
    /// Whether the first request itself is at fault.
    condemned: bool,
}

#[derive(Clone, PartialEq)]
enum Verdict {
    Pending,
    Passed,
    Refused(Refusal),
}

impl Isolation {
    /// A request of `count` batches, all under the suspicion `of`, was refused as invalid.
    pub fn refused(&mut self, of: Option<Suspicion>, count: usize, reason: &Refusal) -> Finding {
        let known = of.and_then(|of| Some((self.find(of.inquiry)?, of.group)));
        if let Some((inquiry, group)) = known {
            let inquiry = &mut self.inquiries[inquiry];
            inquiry.judged += 1;
            inquiry.groups[usize::from(group)] = Verdict::Refused(reason.clone());
            // Where the message names records, the same words speak of others.
            if count > 1 && named_places(&reason.1, count).is_empty() && inquiry.is_at_fault(reason) {
                inquiry.condemned = true;
                return Finding::Hopeless;
            }
        }
        if count == 1 {
            return Finding::Poison;
        }
        match known {
            Some((inquiry, _)) => self.inquiries[inquiry].split(count, reason),
            None => {
                if self.inquiries.len() == INQUIRIES_MAX {
                    self.inquiries.pop_front();
                }
                self.begun = self.begun.wrapping_add(1);
                let mut inquiry =
                    Inquiry { id: self.begun, judged: 0, groups: Vec::new(), first_parts: 0, condemned: false };
                let finding = inquiry.split(count, reason);
                inquiry.first_parts = inquiry.groups.len();
                self.inquiries.push_back(inquiry);
                finding
            }
        }
    }

    /// A request of batches under the suspicion `of` was taken, whatever became of each.
    pub fn passed(&mut self, of: Suspicion) {
        let Some(place) = self.find(of.inquiry) else { return };
        let inquiry = &mut self.inquiries[place];
        inquiry.judged += 1;
        inquiry.groups[usize::from(of.group)] = Verdict::Passed;
        if inquiry.pending() == 0 {
            self.inquiries.remove(place);
        }
    }

    /// Whether what is under the suspicion `of` fails with the request that it was a part of.
    pub fn is_condemned(&self, of: Suspicion) -> bool {
        self.find(of.inquiry).is_some_and(|place| self.inquiries[place].condemned)
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.inquiries.iter().position(|inquiry| inquiry.id == id)
    }
}

impl Inquiry {
    fn pending(&self) -> usize {
        self.groups.iter().filter(|verdict| **verdict == Verdict::Pending).count()
    }

    /// Whether every part of the first request was refused for the same `reason`.
    fn is_at_fault(&self, reason: &Refusal) -> bool {
        let alike = |verdict: &Verdict| matches!(verdict, Verdict::Refused(other) if other == reason);
        let parts = &self.groups[..self.first_parts];
        if planted(Mistake::IsolationCondemns) { parts.iter().any(alike) } else { parts.iter().all(alike) }
    }

    fn split(&mut self, count: usize, reason: &Refusal) -> Finding {
        let parts = parts_of(count, &named_places(&reason.1, count));
        let more = parts.iter().max().map_or(0, |last| last + 1);
        if self.judged + self.pending() + more > ISOLATION_REQUESTS_MAX {
            return Finding::Hopeless;
        }
        let (inquiry, first) = (self.id, self.groups.len());
        self.groups.resize(first + more, Verdict::Pending);
        // ISOLATION_REQUESTS_MAX groups at most.
        Finding::Split(parts.into_iter().map(|part| Suspicion { inquiry, group: (first + part) as u8 }).collect())
    }
}

/// In which part each of `count` batches is tried, by place: those at the places `named` each in its own and the others
/// together, or, if none or every one is named, in halves.
fn parts_of(count: usize, named: &[usize]) -> Vec<usize> {
    if named.is_empty() || named.len() == count {
        let half = if planted(Mistake::IsolationSplitsNothing) { count } else { count / 2 };
        return (0..count).map(|place| usize::from(place >= half)).collect();
    }
    (0..count).map(|place| named.iter().position(|&name| name == place).unwrap_or(named.len())).collect()
}

/// The places that a message of the service names as `records.N`, N from 1 to `count`: ascending, each once, and no more
/// than may be tried.
fn named_places(message: &str, count: usize) -> Vec<usize> {
    let numbers = message.split("records.").skip(1).filter_map(|rest| {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<usize>().ok()
    });
    let mut places: Vec<usize> =
        numbers.filter(|number| (1..=count).contains(number)).map(|number| number - 1).collect();
    places.sort_unstable();
    places.dedup();
    places.truncate(ISOLATION_REQUESTS_MAX / 2);
    places
}

#[cfg(test)]
mod tests;
