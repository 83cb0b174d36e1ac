//! How requests share the buffers of a sealed aggregate, so that none of its bytes is copied on the way out.
//!
//! ```text
//!   open:     Aggregate ──▶ keys, explicit keys, records            plain: an append pays for no counter
//!   shared:   Aggregate ──▶ Arc ──▶ keys, explicit keys, records ◀── Body, of each request that it goes in
//!   cleared:  Aggregate ──▶ keys, …                                 taken back, if nobody else has them any more
//! ```
//!
//! What nobody shares any more when the aggregate is cleared is used again, the shell too. What is still held then (a
//! request that failed while it was being written) belongs to its last holder, and the aggregate begins with new buffers.

use std::sync::Arc;

use super::{AGGREGATE_MAGIC, Aggregate};
use crate::codec::body::{Buffers, Part, SHARED_BYTES_MIN};

impl Aggregate {
    /// Has requests share what they send of it from now on, if anything of it is worth that. No member is appended until it
    /// is cleared.
    pub fn share(&mut self) {
        if self.shared || self.len < SHARED_BYTES_MIN {
            return;
        }
        self.shared = true;
        let buffers = [&mut self.keys, &mut self.explicit_keys, &mut self.records].map(std::mem::take);
        let mut shell = self.shell.take().unwrap_or_default();
        match Arc::get_mut(&mut shell) {
            Some(own) => own.0 = buffers,
            None => shell = Arc::new(Buffers(buffers)),
        }
        self.shell = Some(shell);
    }

    /// Keys, explicit hash keys and records, each in wire form.
    pub(super) fn tables(&self) -> [&[u8]; 3] {
        match &self.shell {
            Some(shared) if self.shared => shared.0.each_ref().map(Vec::as_slice),
            _ => [&self.keys, &self.explicit_keys, &self.records],
        }
    }

    /// The wire form but for the digest at its end, to be shared where it is.
    pub fn body_parts(&self) -> [Part<'_>; 4] {
        let part = |buffer| self.part(buffer, 0);
        [Part::copied(&AGGREGATE_MAGIC), part(0), part(1), part(2)]
    }

    /// The data of its only member.
    pub fn only_data(&self) -> Option<Part<'_>> {
        // A member's data is the last of its fields, and so the last of a table of one.
        let data = self.first()?.data.len();
        Some(self.part(2, self.tables()[2].len() - data))
    }

    fn part(&self, buffer: usize, from: usize) -> Part<'_> {
        match &self.shell {
            Some(shared) if self.shared => Part::of(shared, buffer, from),
            _ => Part::copied(&self.tables()[buffer][from..]),
        }
    }

    /// Bytes that the shared buffers occupy.
    pub(super) fn shared_capacity(&self) -> usize {
        self.shell.iter().flat_map(|shared| &shared.0).map(Vec::capacity).sum()
    }

    /// Takes the buffers back, if nobody else has them.
    pub(super) fn unshare(&mut self) {
        if !std::mem::take(&mut self.shared) {
            return;
        }
        match self.shell.as_mut().and_then(Arc::get_mut) {
            Some(shared) => [self.keys, self.explicit_keys, self.records] = std::mem::take(&mut shared.0),
            None => self.shell = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Body, Member};

    fn member(data: &[u8]) -> Member<'_> {
        Member { partition_key: b"customer", key_tag: 7, explicit_hash_key: None, data }
    }

    fn body_of(aggregate: &Aggregate) -> Body {
        let mut body = Body::default();
        aggregate.body_parts().iter().for_each(|part| body.push(part));
        body
    }

    #[test]
    fn a_shared_aggregate_reads_as_before_and_gives_away_its_own_bytes() {
        let data = [1; SHARED_BYTES_MIN];
        let mut aggregate = Aggregate::new();
        (0..3).for_each(|_| aggregate.append(member(&data)));
        let (size, wire) = (aggregate.size(), aggregate.parts().concat());
        let (digest, address) = (aggregate.digest(), aggregate.parts()[3].as_ptr());
        assert_eq!(body_of(&aggregate).shared_bytes(), 0);
        aggregate.share();
        aggregate.share();
        assert_eq!((aggregate.size(), aggregate.parts().concat(), aggregate.digest()), (size, wire.clone(), digest));
        assert!(aggregate.members().map(|written| written.data).eq([&data; 3]));
        assert_eq!(aggregate.first().map(|first| first.partition_key), Some("customer"));
        let body = body_of(&aggregate);
        assert_eq!(body.to_vec(), wire);
        assert_eq!(body.shared_bytes(), aggregate.parts()[3].len());
        assert!(body.chunks().any(|chunk| chunk.as_ptr() == address), "not a copy");
    }

    #[test]
    fn what_nobody_holds_any_more_is_used_again_and_what_somebody_holds_does_not_change() {
        let mut aggregate = Aggregate::new();
        let large = [2; SHARED_BYTES_MIN];
        aggregate.append(member(&large));
        aggregate.share();
        let (body, capacity) = (body_of(&aggregate), aggregate.capacity());
        let wire = body.to_vec();
        drop(body);
        let address = aggregate.parts()[3].as_ptr();
        aggregate.clear();
        assert_eq!((aggregate.size(), aggregate.count(), aggregate.capacity()), (20, 0, capacity));
        aggregate.append(member(&large));
        assert_eq!(aggregate.parts()[3].as_ptr(), address);

        aggregate.share();
        let held = body_of(&aggregate);
        aggregate.clear();
        assert_eq!((aggregate.size(), aggregate.capacity()), (20, 0));
        aggregate.append(member(b"other"));
        aggregate.share();
        assert_eq!(held.to_vec(), wire);
        assert!(aggregate.members().map(|written| written.data).eq([b"other"]));
    }

    #[test]
    fn the_data_of_an_only_member_is_the_end_of_its_buffer() {
        for data in [&b""[..], b"data", &[3; 2 * SHARED_BYTES_MIN]] {
            for explicit_hash_key in [None, Some(crate::record::HashKey(77))] {
                let mut aggregate = Aggregate::new();
                aggregate.append(Member { explicit_hash_key, ..member(data) });
                assert_eq!(aggregate.only_data().map(|part| part.bytes()), Some(data));
                aggregate.share();
                assert_eq!(aggregate.only_data().map(|part| part.bytes()), Some(data));
            }
        }
        assert!(Aggregate::new().only_data().is_none());
    }

    #[test]
    #[should_panic(expected = "takes no member")]
    fn a_shared_aggregate_takes_no_member() {
        let mut aggregate = Aggregate::new();
        aggregate.append(member(&[4; SHARED_BYTES_MIN]));
        let _ = aggregate.seal();
        aggregate.share();
        aggregate.append(member(b"more"));
    }
}
