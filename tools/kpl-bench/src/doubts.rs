//! Doubts: the records whose outcome admits that they may be in the stream more often than it tells.
//!
//! An attempt that is *ambiguous* may have stored its record although it was tried again. So a record may have a copy too
//! many for each such attempt, and no more. Kept are these records alone, each by its tag with the codes of up to sixteen
//! such attempts, so memory goes by what went wrong: some 60 bytes a record. What has more attempts is judged by its
//! first sixteen.

use std::collections::HashMap;

/// Codes that are told apart: a byte, of which 0 is none.
const CODES_MAX: usize = 255;

/// Ambiguous attempts by the tag of their record.
#[derive(Debug, Default)]
pub struct Doubts {
    codes: Vec<String>,
    /// A byte an attempt: the number of its code, from 1.
    by_tag: HashMap<u64, [u8; 16]>,
}

impl Doubts {
    /// A record had an ambiguous attempt that failed with this code.
    pub fn note(&mut self, tag: u64, code: &str) {
        let known = self.codes.iter().position(|known| known == code);
        let number = known.unwrap_or_else(|| {
            self.codes.push(code.to_owned());
            self.codes.len() - 1
        });
        let attempts = self.by_tag.entry(tag).or_default();
        if let Some(free) = attempts.iter_mut().find(|attempt| **attempt == 0)
            && number < CODES_MAX
        {
            *free = number as u8 + 1;
        }
    }

    /// How many attempts of a record may have stored a copy, of those whose code `explains` takes.
    pub fn explained(&self, tag: u64, explains: &dyn Fn(&str) -> bool) -> u64 {
        let Some(attempts) = self.by_tag.get(&tag) else { return 0 };
        let codes = attempts.iter().filter(|attempt| **attempt > 0).map(|attempt| &self.codes[*attempt as usize - 1]);
        codes.filter(|code| explains(code)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_record_if_their_code_is_explained() {
        let mut doubts = Doubts::default();
        for (tag, code) in [(7, "Reset"), (7, "Timeout"), (7, "Reset"), (8, "Timeout")] {
            doubts.note(tag, code);
        }
        let explained = |tag, code: &'static str| doubts.explained(tag, &|known| known == code);
        assert_eq!((explained(7, "Reset"), explained(7, "Timeout"), explained(8, "Reset")), (2, 1, 0));
        assert_eq!(doubts.explained(9, &|_| true), 0);
        (0..100).for_each(|_| doubts.note(8, "Reset"));
        assert_eq!(doubts.explained(8, &|_| true), 16);
    }
}
