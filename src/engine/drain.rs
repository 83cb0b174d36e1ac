//! What a core drains from its rings: records come in groups, so that their keys are hashed side by side.
//!
//! ```text
//!   frames ─▶ [ ticket, key, data ] x 16 ─▶ lanes ─▶ [ MD5 ] x 16 ─▶ their streams, one after the other
//! ```

use super::Core;
use super::batch::Ticket;
use crate::codec::Framed;
use crate::codec::lanes::{Fill, hash_keys};
use crate::record::HashKey;
use crate::time::Time;

/// Keys that are hashed side by side: as many as the widest lanes take.
const KEYS_AT_ONCE: usize = 16;

impl Core {
    /// Records from one of this core's rings, in order. A record of a stream that was not told of is settled as abandoned.
    pub fn handle_records<'a>(&mut self, now: Time, records: impl IntoIterator<Item = (Ticket, Framed<'a>)>) {
        let mut records = records.into_iter();
        loop {
            // Apart, so that a record is read where it lies, while its ticket moves on.
            let (mut tickets, mut held) = ([const { None }; KEYS_AT_ONCE], [None; KEYS_AT_ONCE]);
            let (mut keys, mut hashes) = ([&[][..]; KEYS_AT_ONCE], [HashKey::MIN; KEYS_AT_ONCE]);
            let mut count = 0;
            while count < KEYS_AT_ONCE
                && let Some((ticket, framed)) = records.next()
            {
                keys[count] = framed.key;
                tickets[count] = Some(ticket);
                held[count] = Some(framed);
                count += 1;
            }
            self.key_fill += hash_keys(&keys[..count], &mut hashes[..count]);
            self.expect(&held, &hashes);
            for at in 0..count {
                let (Some(ticket), Some(framed)) = (tickets[at].take(), &held[at]) else { continue };
                if let Some((stream, common)) = self.stream(framed.stream) {
                    stream.accept(now, ticket, framed, hashes[at], common);
                }
            }
            if count < KEYS_AT_ONCE {
                return;
            }
        }
    }

    /// A record by itself: see [`Core::handle_records`].
    pub fn handle_record(&mut self, now: Time, ticket: Ticket, framed: &Framed<'_>) {
        self.handle_records(now, [(ticket, *framed)]);
    }

    /// How full the lanes were that hashed partition keys, since the last call.
    pub fn take_key_fill(&mut self) -> Fill {
        std::mem::take(&mut self.key_fill)
    }
}
