//! What must hold of a world at any time, and once its cores have done everything that they can at one moment.

use super::*;
use crate::engine::oracle::ledger::ARRIVAL_UNIT;

impl World {
    /// What must hold at any time.
    pub fn look(&mut self) {
        self.take_outcomes();
        for core in self.cores.iter_mut().flatten() {
            let Released { records, bytes, delivered, failed, held } = core.released();
            assert_eq!((delivered + failed, held), (records, 0));
            self.released.records += records;
            self.released.bytes += bytes;
            self.released.delivered += delivered;
            self.unheard += core.unheard().drain(..).map(|unheard| unheard.records).sum::<u64>();
        }
        let Ledger { told, told_bytes, told_delivered, .. } = self.ledger;
        if self.ledger.reasons.core_failed {
            // What it had released and not said is lost with it.
            return;
        }
        let Released { records, bytes, delivered, .. } = self.released;
        if self.plan.detaches {
            assert!(records >= told && bytes >= told_bytes && delivered >= told_delivered);
            assert_eq!(records - delivered, told - told_delivered + self.unheard, "failures that nobody heard of");
        } else {
            assert_eq!((records, bytes, delivered), (told, told_bytes, told_delivered), "O2");
            self.look_at_oldest();
        }
    }

    fn look_at_oldest(&mut self) {
        let [Some(core)] = &mut self.cores[..] else { return };
        let in_ring = self.rings[0].front().map_or(usize::MAX, |(_, number)| *number);
        let oldest = self.ledger.waiting.first().filter(|number| **number < in_ring);
        let oldest = oldest.map(|number| self.ledger.puts[*number].arrival);
        let (said, expected) = (core.oldest(), oldest.unwrap_or(Time::NEVER));
        assert_eq!(said.is_some(), oldest.is_some());
        let said = said.unwrap_or(Time::NEVER);
        assert!(
            said <= expected && expected.since(said) < ARRIVAL_UNIT,
            "{said:?} is said, {expected:?} is the oldest"
        );
    }

    /// What must hold once every core has done everything that it can at this moment (O6, O8).
    pub(super) fn look_at_rest(&mut self) {
        self.look();
        for flush in self.flushes.iter_mut().filter(|flush| !flush.heard) {
            flush.heard = true;
            for put in self.ledger.puts[..flush.puts].iter_mut().filter(|put| put.stream == flush.stream) {
                put.leave_by = put.leave_by.min(self.now);
            }
        }
        let (config, now) = (&self.plan.config, self.now);
        for &number in &self.ledger.waiting {
            let put = &self.ledger.puts[number];
            let expired = put.arrival + config.record_ttl + SLACK <= now;
            assert!(put.in_flight || !expired, "record {number} is still here at {now:?}, put at {:?}", put.arrival);
            let Some(since) = self.settled_at.filter(|_| self.calm && put.sent == 0) else { continue };
            if put.leave_by.max(since) + CONNECTION_WAIT + SLACK > now {
                continue;
            }
            let (map, Some(hash)) = (&self.maps[0], put.hash) else { continue };
            let owner = map.shard(map.predict(hash)).owner;
            let busy = self.requests.iter().filter(|request| request.core == owner.index()).count();
            assert!(busy == config.max_connections_per_core, "record {number} is late at {now:?}: {:?}", put.leave_by);
        }
    }
}
