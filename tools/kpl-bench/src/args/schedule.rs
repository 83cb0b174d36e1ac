//! Options that say when something is to happen: `--reshard` and `--kill`.

use std::time::Duration;

use super::{ArgsError, DURATION_MAX, refuse, time};
use crate::timeline::{Change, Event};

/// Most changes of a run: each may double the shards.
const CHANGES_MAX: usize = 100;
/// How long an endpoint may stay away. The time to live of records is 30 s or more.
const DOWN_MAX: Duration = Duration::from_secs(20);

/// `2s:split,5s:merge`, in the order of time.
pub fn reshards(text: &str) -> Result<Vec<(Duration, Event)>, ArgsError> {
    let parsed: Option<Vec<_>> = text.split(',').map(reshard).collect();
    match parsed {
        Some(mut events) if events.len() <= CHANGES_MAX => {
            events.sort_by_key(|(at, _)| *at);
            Ok(events)
        }
        _ => refuse("--reshard", text, "TIME:split, merge, double or halve, several by commas: 2s:split,5s:merge"),
    }
}

fn reshard(text: &str) -> Option<(Duration, Event)> {
    let (at, change) = text.split_once(':')?;
    let change = Change::ALL.into_iter().find(|known| known.name() == change)?;
    Some((moment(at)?, Event::Reshard(change)))
}

/// `3s:1s`: when it is killed, and for how long.
pub fn kill(text: &str) -> Result<(Duration, Event), ArgsError> {
    let parsed = text.split_once(':').and_then(|(at, down)| Some((moment(at)?, moment(down)?)));
    match parsed {
        Some((at, down)) if down <= DOWN_MAX => Ok((at, Event::Kill(down))),
        _ => refuse("--kill", text, "TIME:TIME, when and for how long, which is at most 20s: 3s:1s"),
    }
}

fn moment(text: &str) -> Option<Duration> {
    time(text).filter(|time| *time <= DURATION_MAX && !text.ends_with("us"))
}
