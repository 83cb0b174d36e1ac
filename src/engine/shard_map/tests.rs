//! The map against a search through all shards, and its owners through splits and merges.

use super::*;
use crate::engine::testing::Random;

fn info(id: &str, first: u128, last: u128, parents: &[&str]) -> ShardInfo {
    let parent = |place: usize| parents.get(place).map(|&id| id.into());
    ShardInfo { id: id.into(), first: HashKey(first), last: HashKey(last), parents: [parent(0), parent(1)] }
}

/// Shards that begin at 0 and at `firsts`, numbered in an order that is not that of their ranges.
fn cut_at(mut firsts: Vec<u128>) -> Vec<ShardInfo> {
    firsts.push(0);
    firsts.sort_unstable();
    firsts.dedup();
    let ends = firsts[1..].iter().map(|first| first - 1).chain([u128::MAX]);
    let count = firsts.len();
    let shards = firsts.iter().zip(ends).enumerate();
    shards
        .map(|(n, (&first, last))| info(&format!("shardId-{:012}", n * 7919 % count.max(2)), first, last, &[]))
        .collect()
}

fn even(count: u128) -> Vec<ShardInfo> {
    cut_at((1..count).map(|n| u128::MAX / count * n + n).collect())
}

fn shuffle(shards: &mut [ShardInfo], random: &mut Random) {
    for end in (1..shards.len()).rev() {
        shards.swap(end, random.below(end as u64 + 1) as usize);
    }
}

fn owner_counts(map: &ShardMap, cores: u16) -> Vec<usize> {
    (0..cores).map(|core| map.shards().iter().filter(|shard| shard.owner == CoreId(core)).count()).collect()
}

fn owner(map: &ShardMap, id: &str) -> CoreId {
    map.shard(map.find(id).expect("open")).owner
}

#[test]
fn predicts_as_a_search_through_all_shards_does() {
    let mut random = Random(1);
    let mut lists: Vec<_> = [1, 2, 3, 4, 5, 64, 100, 1000, 10_000].map(even).into();
    for count in [1, 2, 3, 10, 500] {
        // Anywhere; crowded at the bottom of the hash space; and crowded at its top.
        lists.push(cut_at((0..count).map(|_| random.key()).collect()));
        lists.push(cut_at((0..count).map(|_| random.key() >> random.below(128)).collect()));
        lists.push(cut_at((0..count).map(|_| u128::MAX - (random.key() >> random.below(128))).collect()));
    }
    for open in lists {
        let map = ShardMap::build(1, open.clone(), 4, None).expect("covers");
        assert_eq!(map.len(), open.len());
        let edges = open.iter().step_by(1 + open.len() / 50).flat_map(|shard| [shard.first.0, shard.last.0]);
        let around = edges.flat_map(|edge| [edge.wrapping_sub(1), edge, edge.wrapping_add(1)]);
        let keys: Vec<u128> = around.chain((0..50).map(|_| random.key())).collect();
        for key in keys.into_iter().map(HashKey) {
            let naive = open.iter().position(|shard| shard.first <= key && key <= shard.last).expect("covers");
            assert_eq!(map.predict(key).index(), naive, "{key} among {} shards", open.len());
            assert_eq!(map.shard(map.predict(key)).id, open[naive].id);
        }
        for shard in open.iter().step_by(1 + open.len() / 50) {
            let index = map.find(&shard.id).expect("open");
            assert_eq!(map.shard(index).range, (shard.first, shard.last));
        }
        assert_eq!(map.find("shardId-of another stream"), None);
    }
}

#[test]
fn a_fresh_map_gives_each_core_as_many_shards_give_or_take_one() {
    for count in [1, 2, 3, 7, 8, 9, 100, 10_000] {
        for cores in [1, 2, 3, 8, 64, 256] {
            let map = ShardMap::build(1, even(count), cores, None).expect("covers");
            let counts = owner_counts(&map, cores);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{count} shards on {cores} cores: {counts:?}");
        }
    }
    let map = ShardMap::build(1, even(3), 0, None).expect("no cores count as one");
    assert_eq!(owner_counts(&map, 1), [3]);
}

#[test]
fn the_order_of_the_list_changes_nothing() {
    let mut random = Random(2);
    let mut open = cut_at((0..100).map(|_| random.key()).collect());
    let map = ShardMap::build(1, open.clone(), 8, None).expect("covers");
    let removed = open[50].clone();
    let mut torn = open.clone();
    torn.remove(50);
    let error = ShardMap::build(1, torn.clone(), 8, None).expect_err("a gap");
    for _ in 0..20 {
        shuffle(&mut open, &mut random);
        assert_eq!(ShardMap::build(1, open.clone(), 8, None).as_ref(), Ok(&map));
        shuffle(&mut torn, &mut random);
        assert_eq!(ShardMap::build(1, torn.clone(), 8, None).as_ref(), Err(&error));
    }
    assert!(matches!(error, MapError::Gap { first, last, .. } if (first, last) == (removed.first, removed.last)));
}

#[test]
fn shards_keep_their_owners_and_children_stay_where_their_parents_were() {
    let quarter = 1_u128 << 126;
    let four = |id: [&str; 4], n: usize| info(id[n], quarter * n as u128, quarter * n as u128 + (quarter - 1), &[]);
    let ids = ["shardId-0", "shardId-1", "shardId-2", "shardId-3"];
    let old: Vec<ShardInfo> = (0..4).map(|n| four(ids, n)).collect();
    let before = ShardMap::build(1, old.clone(), 4, None).expect("covers");
    assert_eq!(owner_counts(&before, 4), [1, 1, 1, 1]);

    // 0 is split; 1 and 2 are merged, and the service names the upper one first.
    let split = quarter / 3;
    let new = vec![
        info("shardId-4", 0, split, &["shardId-0"]),
        info("shardId-5", split + 1, quarter - 1, &["shardId-0"]),
        info("shardId-6", quarter, 3 * quarter - 1, &["shardId-2", "shardId-1"]),
        old[3].clone(),
    ];
    let after = ShardMap::build(2, new, 4, Some(&before)).expect("covers");
    assert_eq!(after.epoch, 2);
    assert_eq!(owner(&after, "shardId-4"), owner(&before, "shardId-0"));
    assert_eq!(owner(&after, "shardId-5"), owner(&before, "shardId-0"));
    assert_eq!(owner(&after, "shardId-6"), owner(&before, "shardId-1"));
    assert_eq!(owner(&after, "shardId-3"), owner(&before, "shardId-3"));

    // Two reshards between two maps: a child of 4 and of a shard that no map ever had, merged.
    let late = vec![
        info("shardId-8", 0, quarter - 1, &["shardId-4", "shardId-7"]),
        info("shardId-9", quarter, u128::MAX, &["shardId-6", "shardId-3"]),
    ];
    let skipped = ShardMap::build(3, late, 4, Some(&before)).expect("covers");
    assert_eq!(owner(&skipped, "shardId-8"), owner(&before, "shardId-0"));
    assert_eq!(owner(&skipped, "shardId-9"), owner(&before, "shardId-1"));
}

#[test]
fn random_reshards_follow_the_rules_for_owners() {
    for seed in 0..50 {
        let mut random = Random(seed);
        let cores = 1 + random.below(6) as u16;
        let mut open = even(1 + u128::from(random.below(20)));
        let mut map = ShardMap::build(0, open.clone(), cores, None).expect("covers");
        for epoch in 1..60 {
            let at = random.below(open.len() as u64) as usize;
            let (shard, id) = (open[at].clone(), format!("new-{epoch}"));
            let (first, last) = (shard.first.0, shard.last.0);
            let (replaced, children) = if random.below(2) == 0 || at + 1 == open.len() {
                let middle = first + (last - first) / 2;
                let lower = info(&format!("{id}-lower"), first, middle, &[&shard.id]);
                (1, vec![lower, info(&format!("{id}-upper"), middle + 1, last, &[&shard.id])])
            } else {
                (2, vec![info(&id, first, open[at + 1].last.0, &[&open[at + 1].id, &shard.id])])
            };
            open.splice(at..at + replaced, children);
            let next = ShardMap::build(epoch, open.clone(), cores, Some(&map)).expect("covers");
            for new in next.shards() {
                let heir_of = map.find(&new.id).map_or_else(|| shard.id.clone(), |_| new.id.clone());
                assert_eq!(new.owner, owner(&map, &heir_of), "seed {seed}, epoch {epoch}");
            }
            map = next;
        }
    }
}

#[test]
fn shards_without_past_even_out_what_others_left() {
    // All that were there are on one core; the stream was deleted and made again with more.
    let before = ShardMap::build(1, vec![info("old", 0, u128::MAX, &[])], 1, None).expect("covers");
    let after = ShardMap::build(2, even(8), 4, Some(&before)).expect("covers");
    assert_eq!(owner_counts(&after, 4), [2, 2, 2, 2]);
    // Fewer cores than before: owners that are gone are replaced.
    let wide = ShardMap::build(1, even(64), 64, None).expect("covers");
    let narrow = ShardMap::build(2, even(64), 3, Some(&wide)).expect("covers");
    assert_eq!(owner_counts(&narrow, 3).iter().sum::<usize>(), 64);
    assert!(owner_counts(&narrow, 3).iter().all(|&count| count >= 21));
}

#[test]
fn a_list_that_is_no_map_is_refused_with_the_shards_and_the_hash_keys() {
    let build = |open: Vec<ShardInfo>| ShardMap::build(1, open, 2, None).expect_err("no map").to_string();
    let max = u128::MAX;
    assert_eq!(build(vec![]), "the stream has no open shards");
    assert_eq!(build(vec![info("a", 9, 5, &[])]), "shard a ends at 5, before its begin 9");
    let twice = build(vec![info("a", 0, 4, &[]), info("a", 5, max, &[])]);
    assert_eq!(twice, "shard a is listed twice");
    let below = build(vec![info("a", 3, max, &[])]);
    assert_eq!(below, "no shard holds the hash keys 0 to 2, between 0 and a");
    let above = build(vec![info("a", 0, max - 1, &[])]);
    assert_eq!(above, format!("no shard holds the hash keys {max} to {max}, between a and 2^128 - 1"));
    let between = build(vec![info("b", 8, max, &[]), info("a", 0, 5, &[])]);
    assert_eq!(between, "no shard holds the hash keys 6 to 7, between a and b");
    let overlap = build(vec![info("b", 5, max, &[]), info("a", 0, 5, &[])]);
    assert_eq!(overlap, "shards a and b both hold the hash keys 5 to 5");
    // A parent that is still listed beside its children: the last of the space is held twice.
    let parent = build(vec![info("p", 0, max, &[]), info("c", 0, 9, &["p"]), info("d", 10, max, &["p"])]);
    assert_eq!(parent, "shards c and p both hold the hash keys 0 to 9");
    let within = build(vec![info("p", 0, max, &[]), info("c", 4, 9, &[])]);
    assert_eq!(within, "shards p and c both hold the hash keys 4 to 9");

    let many = even(SHARDS_MAX as u128);
    assert_eq!(ShardMap::build(1, many, 2, None).expect("the bound itself").len(), SHARDS_MAX);
    let count = SHARDS_MAX + 1;
    assert_eq!(build(even(count as u128)), format!("{count} open shards, more than {SHARDS_MAX}"));
}

#[test]
fn the_core_that_a_shard_prefers_is_told_by_fnv_1a() {
    // The published values for these texts, modulo 1000.
    assert_eq!(preferred_core("a", 1000), CoreId((0xAF63_DC4C_8601_EC8C_u64 % 1000) as u16));
    assert_eq!(preferred_core("foobar", 1000), CoreId((0x8594_4171_F739_67E8_u64 % 1000) as u16));
}

#[test]
fn a_closed_shard_has_its_range_and_takes_no_record() {
    let closed = |id: &str, first, last| (Arc::from(id), (HashKey(first), HashKey(last)));
    let map = ShardMap::build(1, vec![info("open", 0, u128::MAX, &["parent"])], 1, None).expect("a map");
    let map =
        map.with_closed([closed("parent", 0, 99), closed("open", 5, 6), closed("elder", 7, 8), closed("elder", 9, 9)]);
    assert_eq!(map.range_of("parent"), Some((HashKey(0), HashKey(99))));
    assert_eq!(map.range_of("open"), Some((HashKey::MIN, HashKey::MAX)), "the open one counts");
    assert_eq!(map.range_of("elder"), Some((HashKey(7), HashKey(8))), "once");
    assert_eq!(map.range_of("nobody"), None);
    assert_eq!((map.len(), map.find("parent"), map.predict(HashKey(50))), (1, None, ShardIndex(0)));
}
