//! What figures must be read beside: the machine, the commit, the build; and where its threads may run.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The profile that the program was built by.
pub const PROFILE: &str = env!("KPL_BENCH_PROFILE");

/// Where and from what the figures come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As the system names it; empty where it does not.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Of the checkout that was built, if it is there still, and git too; `-dirty` if it was changed since.
    pub commit: Option<String>,
    /// What hashes side by side.
    pub lanes: String,
    /// Cargo's profile.
    pub profile: &'static str,
}

impl Machine {
    /// Asks for it all.
    pub fn read() -> Machine {
        Machine {
            cpu_model: fs::read_to_string("/proc/cpuinfo").map(|text| cpu_model(&text)).unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            commit: commit(),
            lanes: kpl::codec::lanes::kind().to_string(),
            profile: PROFILE,
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let Machine { cpu_model, cpus, lanes, profile, .. } = self;
        format!("{cpu_model}, {cpus} CPUs, {lanes} lanes; commit {commit}, profile {profile}")
    }
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':')).map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The CPUs that this thread may run on, ascending; none where the system does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

impl Cpus {
    /// Asks the system.
    pub fn allowed() -> Cpus {
        Cpus(affinity::allowed())
    }

    /// Starts something on the last CPU, with the threads and processes that it starts, and goes to `then`. With fewer than
    /// two CPUs everything stays where it is.
    pub fn start_on_last<T>(&self, then: &[usize], start: impl FnOnce() -> T) -> T {
        // Children and threads inherit where their parent may run.
        if let [_, .., last] = self.0[..] {
            affinity::keep_to(&[last]);
            let started = start();
            affinity::keep_to(then);
            return started;
        }
        start()
    }
}

#[cfg(target_os = "linux")]
mod affinity {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    pub fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
    }

    /// Keeps the calling thread to these.
    pub fn keep_to(cpus: &[usize]) {
        let mut set = CpuSet::new();
        cpus.iter()
            .filter(|cpu| **cpu < CpuSet::count())
            .for_each(|cpu| set.set(*cpu).expect("it is below their count"));
        // A sandbox may forbid it: then the scheduler places the thread, and the figures scatter more.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    pub fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub fn keep_to(_cpus: &[usize]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_from_its_line() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: A CPU: the second\nmodel name\t: other\n";
        assert_eq!(cpu_model(text), "A CPU: the second");
        assert_eq!(cpu_model("Features : fp asimd"), "");
    }

    #[test]
    fn what_is_started_apart_runs_on_the_last_cpu_and_what_follows_where_it_is_sent() {
        let all = Cpus::allowed();
        if let [first, .., last] = all.0[..] {
            assert_eq!(all.start_on_last(&[first], Cpus::allowed), Cpus(vec![last]));
            assert_eq!(Cpus::allowed(), Cpus(vec![first]));
        }
        assert_eq!(Cpus(vec![7]).start_on_last(&[7], || 3), 3);
    }
}
