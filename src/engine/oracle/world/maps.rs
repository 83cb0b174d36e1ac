//! Reshards, and which core hears of them.

use super::*;

impl World {
    pub(super) fn reshard(&mut self, shards: u8, cores: u8, follows: bool) {
        let previous = self.maps.last().filter(|_| follows);
        let (epoch, count) = (self.maps.len() as u64 + 1, u128::from(shards));
        let width = u128::MAX / count;
        let infos = (0..count).map(|number| ShardInfo {
            // A shard's range never changes: of as many shards, or of others.
            id: match follows || count % 2 == 1 {
                true => format!("shardId-{number}-of-{shards}").into(),
                false => format!("shardId-{number}-of-{shards}-anew-{epoch}").into(),
            },
            first: HashKey(width * number),
            last: HashKey(if number + 1 == count { u128::MAX } else { width * (number + 1) - 1 }),
            parents: [previous.map(|_| "a parent".into()), None],
        });
        let cores = u16::from(cores).min(self.plan.cores);
        let map = ShardMap::build(epoch, infos.collect(), cores, previous.map(|map| &**map)).expect("even shards");
        self.maps.push(Arc::new(map));
        self.settled_at = None;
    }

    pub(super) fn tell_map(&mut self, at: usize, stream: u32, age: usize) {
        let Some(index) = self.maps.len().checked_sub(age + 1) else { return };
        if self.closed[at] {
            return;
        }
        let Some(core) = &mut self.cores[at] else { return };
        core.handle_map(self.now, StreamId(stream), Arc::clone(&self.maps[index]));
        let told = &mut self.told[at][stream as usize];
        *told = (*told).max(index + 1);
        if self.maps.len() == 1 && self.settled_at.is_none() && self.told.iter().flatten().all(|told| *told == 1) {
            self.settled_at = Some(self.now);
        }
    }
}
