//! What is asked for on the command line.
//!
//! Refuses, with a sentence, what it does not understand; the caller ends with status 2.

use crate::profile::{PROFILES, Profile};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// One seed, with its trace.
    One {
        /// The seed.
        seed: u64,
        /// Its profile, if it is not to draw one.
        profile: Option<Profile>,
    },
    /// Many seeds, and a table.
    Many {
        /// The first.
        first: u64,
        /// The end, if there is one.
        end: Option<u64>,
        /// How many virtual hours are enough.
        hours: Option<f64>,
        /// Their profile, if each is not to draw one.
        profile: Option<Profile>,
    },
    /// How it is used.
    Help,
}

/// How it is used.
pub const USAGE: &str = "simulation                       a thousand seeds
simulation --seeds FIRST..END    as many as you like
simulation --hours HOURS         seeds from 0, or from --seeds FIRST.., until so many virtual hours are simulated
simulation --seed SEED           one seed, with its trace
  --profile calm|storm|outage|pressure|reshard    for all seeds; without it each draws one";

/// Seeds of a run that says nothing of them.
pub const SEEDS: u64 = 1000;

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them.
pub fn parse(words: &[String]) -> Result<Order, String> {
    let (mut seed, mut seeds, mut hours, mut profile) = (None, None, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--help" {
            return Ok(Order::Help);
        }
        let mut value = || words.next().map(String::as_str).ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => once(word, &mut seed, number(value()?)?)?,
            "--seeds" => once(word, &mut seeds, range(value()?)?)?,
            "--hours" => once(word, &mut hours, hours_of(value()?)?)?,
            "--profile" => once(word, &mut profile, profile_of(value()?)?)?,
            _ => return Err(format!("there is no option {word}")),
        }
    }
    if let Some(seed) = seed {
        if seeds.is_some() || hours.is_some() {
            return Err("--seed is one seed, and does not go with --seeds or --hours".to_owned());
        }
        return Ok(Order::One { seed, profile });
    }
    let (first, end) = match (seeds, hours) {
        (Some((_, None)), None) => return Err("--seeds FIRST.. has no end; it goes with --hours only".to_owned()),
        (Some(seeds), _) => seeds,
        (None, Some(_)) => (0, None),
        (None, None) => (0, Some(SEEDS)),
    };
    Ok(Order::Many { first, end, hours, profile })
}

fn once<T>(word: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    if place.replace(value).is_some() {
        return Err(format!("{word} is there twice"));
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no seed: 0 to {}", u64::MAX))
}

fn range(text: &str) -> Result<(u64, Option<u64>), String> {
    let (first, end) = text.split_once("..").ok_or(format!("{text:?} is no range of seeds: FIRST..END"))?;
    let (first, end) = (number(first)?, if end.is_empty() { None } else { Some(number(end)?) });
    if end.is_some_and(|end| end <= first) {
        return Err(format!("{text:?} is an empty range"));
    }
    Ok((first, end))
}

fn hours_of(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours > 0.0);
    hours.ok_or(format!("{text:?} is no number of hours above 0"))
}

fn profile_of(text: &str) -> Result<Profile, String> {
    let names = PROFILES.map(Profile::name).join(", ");
    Profile::parse(text).ok_or(format!("there is no profile {text:?}; there are {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Order, String> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let many = |first, end, hours, profile| Ok(Order::Many { first, end, hours, profile });
        assert_eq!(parsed(""), many(0, Some(1000), None, None));
        assert_eq!(parsed("--seeds 5..9 --profile storm"), many(5, Some(9), None, Some(Profile::Storm)));
        assert_eq!(parsed("--hours 1.5"), many(0, None, Some(1.5), None));
        assert_eq!(parsed("--hours 2 --seeds 7.."), many(7, None, Some(2.0), None));
        assert_eq!(parsed("--seed 3 --profile calm"), Ok(Order::One { seed: 3, profile: Some(Profile::Calm) }));
        assert_eq!(parsed("--help"), Ok(Order::Help));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        for (text, told) in [
            ("--seed", "needs a value"),
            ("--seed x", "is no seed"),
            ("--seed 1 --seed 2", "is there twice"),
            ("--seed 1 --hours 2", "does not go with"),
            ("--seeds 7", "is no range"),
            ("--seeds 7..7", "empty"),
            ("--seeds 7..", "has no end"),
            ("--hours -1", "no number of hours"),
            ("--profile hail", "there are calm, storm, outage, pressure, reshard"),
            ("--frogs", "no option --frogs"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
