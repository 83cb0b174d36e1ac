//! stub
use kpl::engine::{Mistake, plant};
use crate::profile::Profile;
use crate::trace::Trace;
use crate::world::World;

#[test]
fn survey() {
    let only = std::env::var("ONLY").ok();
    let most: u64 = std::env::var("MOST").ok().and_then(|t| t.parse().ok()).unwrap_or(100);
    for mistake in Mistake::ALL {
        let name = format!("{mistake:?}");
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| name == o)) { continue; }
        plant(Some(*mistake));
        let start = std::time::Instant::now();
        let mut found = Vec::new();
        let mut seeds = 0;
        for seed in 0..most {
            seeds += 1;
            let r = std::panic::catch_unwind(|| World::new(seed, Profile::drawn(seed), None, Trace::default()).run().broken);
            let b = match r { Ok(b) => b.into_iter().next(), Err(p) => Some(format!("panic: {:?}", p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|t| (*t).to_owned())))) };
            if let Some(b) = b { let mut c: String = b.chars().take(110).collect(); c.push('.'); found.push((seed, c)); if found.len() == 2 { break; } }
        }
        plant(None);
        eprintln!("== {name} {} of {seeds} in {:?}", found.len(), start.elapsed());
        for f in &found { eprintln!("     {f:?}"); }
    }
}
