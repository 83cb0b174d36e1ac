//! What a core drains from its rings: records come in groups, so that their keys are hashed side by side.
//!
//! ```text
//!   frames ─▶ [ ticket, key, data ] x 16 or 32 ─▶ lanes ─▶ [ MD5 ] x 16 or 32 ─▶ their streams, one after the other
//! ```

use super::Core;
use super::batch::Ticket;
use crate::codec::Framed;
use crate::codec::lanes::{self, Fill, LANES_MAX, hash_keys};
use crate::record::HashKey;
use crate::time::Time;

impl Core {
    /// Records from one of this core's rings, in order. A record of a stream that was not told of is settled as abandoned.
    pub fn handle_records<'a>(&mut self, now: Time, records: impl IntoIterator<Item = (Ticket, Framed<'a>)>) {
        let mut records = records.into_iter();
        let together = lanes::together().min(LANES_MAX);
        // Apart, so that a record is read where it lies, while its ticket moves on.
        let (mut tickets, mut held) = ([const { None }; LANES_MAX], [None; LANES_MAX]);
        let (mut keys, mut hashes) = ([&[][..]; LANES_MAX], [HashKey::MIN; LANES_MAX]);
        loop {
            let mut count = 0;
            while count < together
                && let Some((ticket, framed)) = records.next()
            {
                keys[count] = framed.key;
                tickets[count] = Some(ticket);
                held[count] = Some(framed);
                count += 1;
            }
            self.key_fill += hash_keys(&keys[..count], &mut hashes[..count]);
            self.expect(&held[..count], &hashes[..count]);
            for at in 0..count {
                let (Some(ticket), Some(framed)) = (tickets[at].take(), &held[at]) else { continue };
                if let Some((stream, common)) = self.stream(framed.stream) {
                    stream.accept(now, ticket, framed, hashes[at], common);
                }
            }
            if count < together {
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
