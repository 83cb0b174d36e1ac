//! Which CPU each core's thread runs on.
//!
//! ```text
//!   configuration, allowed CPUs, the machine's CPUs, offset ──▶ plan ──▶ a Place each ──▶ pinned, on the core's thread
//! ```
//!
//! | asked | whole machine allowed | a smaller set allowed |
//! |---|---|---|
//! | `cpus` | those, in their order | the same |
//! | `Auto` | the scheduler places | one CPU each, if there are enough |
//! | `On` | one CPU each, in turn if there are too few | the same |
//! | `Off` | the scheduler places | the same |
//!
//! Who counts from CPU 0 puts the first core of every container of a host on that CPU. What is not named therefore
//! begins at an offset, which is drawn for each producer.
//!
//! Allowed is what the thread may run on that builds the producer, since its threads would inherit that. What can be
//! known there to be impossible is a fault of the configuration. A pin that fails later (a cpuset can shrink, a sandbox
//! can refuse the call) leaves the core to the scheduler, and the producer says so if pinning was asked for.

use std::fmt::Write;

use crate::config::{Config, Pinning};
use crate::error::ConfigFault;
use crate::record::CoreId;

/// Where the threads of all cores run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// By [`CoreId`]; empty if the scheduler places them.
    cpus: Vec<usize>,
    /// Pinning was asked for, so that its failure is worth a warning.
    asked: bool,
    why: &'static str,
}

/// Where the thread of one core runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    cpu: Option<usize>,
    asked: bool,
}

/// What the system says of its CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The CPUs that the current thread may run on, ascending.
    allowed: Vec<usize>,
    /// How many the machine has; nothing if it does not say.
    cpus: Option<usize>,
}

impl Machine {
    /// Asks the system.
    ///
    /// # Errors
    /// Why it does not tell, in words.
    pub(crate) fn read() -> Result<Machine, String> {
        Ok(Machine { allowed: system::allowed()?, cpus: system::online() })
    }
}

impl Plan {
    /// The plan for a configuration whose own relations hold. Pure; `offset` says with which CPU to begin where none is
    /// named.
    ///
    /// # Errors
    /// Explicit CPUs or `On` cannot be had on this machine.
    pub(crate) fn new(config: &Config, machine: Result<Machine, String>, offset: u64) -> Result<Plan, ConfigFault> {
        if let Some(cpus) = &config.cpus {
            let fault = |bound| ConfigFault { field: "cpus", value: format!("{cpus:?}"), bound };
            let machine = machine.map_err(|reason| fault(format!("unset: {reason}")))?;
            let absent: Vec<_> = cpus.iter().copied().filter(|cpu| !machine.allowed.contains(cpu)).collect();
            if !absent.is_empty() {
                let (allowed, absent) = (listed(&machine.allowed), listed(&absent));
                return Err(fault(format!("of those that this process may run on, {allowed}: {absent} is not")));
            }
            return Ok(Plan { cpus: cpus.clone(), asked: true, why: "cpus names them" });
        }
        let free = |why| Plan { cpus: Vec::new(), asked: false, why };
        match (config.pinning, machine) {
            (Pinning::Off, _) => Ok(free("pinning is Off")),
            (Pinning::On, Ok(machine)) => {
                Ok(Plan { cpus: machine.spread(config.cores, offset), asked: true, why: "pinning is On" })
            }
            (Pinning::On, Err(reason)) => {
                Err(ConfigFault { field: "pinning", value: "On".to_owned(), bound: format!("Auto or Off: {reason}") })
            }
            (Pinning::Auto, Err(_)) => Ok(free("the system does not tell which CPUs there are")),
            (Pinning::Auto, Ok(machine)) if machine.cpus.is_none_or(|cpus| machine.allowed.len() >= cpus) => {
                Ok(free("the whole machine is allowed"))
            }
            (Pinning::Auto, Ok(machine)) if machine.allowed.len() < config.cores => {
                Ok(free("there are fewer CPUs allowed than cores"))
            }
            (Pinning::Auto, Ok(machine)) => {
                let cpus = machine.spread(config.cores, offset);
                Ok(Plan { cpus, asked: false, why: "fewer CPUs are allowed than the machine has" })
            }
        }
    }

    /// The place of a core.
    pub(crate) fn place(&self, core: CoreId) -> Place {
        Place { cpu: self.cpus.get(core.index()).copied(), asked: self.asked }
    }

    /// Says it in the log, once a producer.
    pub(crate) fn log(&self) {
        match self.cpus.as_slice() {
            [] => tracing::info!(why = self.why, "cores run where the scheduler places them"),
            cpus => tracing::info!(?cpus, why = self.why, "cores are pinned"),
        }
    }
}

impl Machine {
    /// A CPU for each core, in turn, beginning at the offset.
    fn spread(&self, cores: usize, offset: u64) -> Vec<usize> {
        let Some(first) = offset.checked_rem(self.allowed.len() as u64) else { return Vec::new() };
        self.allowed.iter().copied().cycle().skip(first as usize).take(cores).collect()
    }
}

impl Place {
    /// Pins the current thread, if that is planned.
    ///
    /// # Errors
    /// What to tell the producer's owner: pinning was asked for, and the system refused it.
    pub(crate) fn take(self) -> Result<(), String> {
        let Some(cpu) = self.cpu else { return Ok(()) };
        match system::pin(cpu) {
            Ok(()) => Ok(()),
            Err(error) if self.asked => {
                tracing::warn!(cpu, error, "a core cannot be pinned; it runs where the scheduler places it");
                Err(format!("a core cannot be pinned to CPU {cpu}: {error}"))
            }
            Err(error) => {
                tracing::debug!(cpu, error, "a core cannot be pinned; it runs where the scheduler places it");
                Ok(())
            }
        }
    }
}

/// Ascending CPUs as Linux writes them: `0-3,8`.
fn listed(cpus: &[usize]) -> String {
    let mut text = String::new();
    for run in cpus.chunk_by(|one, next| one + 1 == *next) {
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = match run {
            [first, .., last] => write!(text, "{separator}{first}-{last}"),
            [only] => write!(text, "{separator}{only}"),
            [] => Ok(()),
        };
    }
    text
}

/// How many CPUs a list as Linux writes it names.
#[cfg(any(target_os = "linux", test))]
fn count(list: &str) -> Option<usize> {
    list.trim().split(',').try_fold(0_usize, |sum, run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> Result<Vec<usize>, String> {
        let set = sched_getaffinity(None).map_err(|error| format!("the allowed CPUs cannot be read: {error}"))?;
        Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    pub(super) fn online() -> Option<usize> {
        super::count(&std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
    }

    pub(super) fn pin(cpu: usize) -> Result<(), String> {
        if cpu >= CpuSet::MAX_CPU {
            return Err(format!("the last that can be named is {}", CpuSet::MAX_CPU - 1));
        }
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| error.to_string())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    const NOT_HERE: &str = "threads can be pinned on Linux only";

    pub(super) fn allowed() -> Result<Vec<usize>, String> {
        Err(NOT_HERE.to_owned())
    }

    pub(super) fn online() -> Option<usize> {
        None
    }

    pub(super) fn pin(_cpu: usize) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(allowed: &[usize], cpus: usize) -> Result<Machine, String> {
        Ok(Machine { allowed: allowed.to_vec(), cpus: Some(cpus) })
    }

    fn config(pinning: Pinning, cpus: Option<&[usize]>, cores: usize) -> Config {
        Config { pinning, cpus: cpus.map(<[usize]>::to_vec), cores, ..Config::default() }
    }

    #[test]
    fn cpus_follow_from_what_is_asked_and_what_is_allowed() {
        use Pinning::{Auto, Off, On};
        let whole: &[usize] = &[0, 1, 2, 3];
        let part: &[usize] = &[4, 5, 9];
        // Asked, named, cores, allowed, of how many, offset: the CPUs, and whether a failure is told.
        for (pinning, named, cores, allowed, of, offset, cpus, asked) in [
            (Auto, Some([3, 1].as_slice()), 1, whole, 4, 7, [3, 1].as_slice(), true),
            (On, Some(&[2]), 1, whole, 4, 7, &[2], true),
            (Auto, Some(&[9]), 1, part, 16, 1, &[9], true),
            (Auto, None, 2, whole, 4, 1, &[], false),
            (Auto, None, 2, part, 16, 0, &[4, 5], false),
            (Auto, None, 2, part, 16, 2, &[9, 4], false),
            (Auto, None, 3, part, 16, u64::MAX, &[4, 5, 9], false),
            (Auto, None, 4, part, 16, 0, &[], false),
            (On, None, 2, whole, 4, 0, &[0, 1], true),
            (On, None, 2, whole, 4, 7, &[3, 0], true),
            (On, None, 5, part, 16, 1, &[5, 9, 4, 5, 9], true),
            (Off, None, 2, part, 16, 1, &[], false),
        ] {
            let config = config(pinning, named, cores);
            let plan = Plan::new(&config, machine(allowed, of), offset).expect("a plan");
            assert_eq!((plan.cpus.as_slice(), plan.asked), (cpus, asked), "{pinning:?} {named:?} {cores} {offset}");
        }
    }

    #[test]
    fn containers_of_one_host_do_not_all_begin_at_one_cpu() {
        let allowed: Vec<usize> = (0..64).collect();
        let first = |offset| {
            let plan = Plan::new(&config(Pinning::On, None, 1), machine(&allowed, 64), offset).expect("a plan");
            plan.place(CoreId(0)).cpu.expect("it is pinned")
        };
        let mut begun: Vec<_> = (100..164).map(first).collect();
        begun.sort_unstable();
        assert_eq!(begun, allowed);
    }

    #[test]
    fn a_cpu_that_is_not_allowed_is_a_fault_that_names_it_and_the_allowed() {
        let config = config(Pinning::Auto, Some(&[0, 6]), 1);
        let fault = Plan::new(&config, machine(&[0, 1, 2, 8], 16), 0).expect_err("6 is not there");
        assert_eq!(
            fault.to_string(),
            "cpus is [0, 6], but must be of those that this process may run on, 0-2,8: 6 is not"
        );
    }

    #[test]
    fn what_the_system_does_not_tell_fails_only_who_asked_for_it() {
        let unknown = || Err::<Machine, _>("no idea".to_owned());
        for pinning in [Pinning::Auto, Pinning::Off] {
            assert!(Plan::new(&config(pinning, None, 1), unknown(), 5).expect("a plan").cpus.is_empty());
        }
        let fault = |config: Config| Plan::new(&config, unknown(), 5).expect_err("it was asked for").to_string();
        assert_eq!(fault(config(Pinning::On, None, 1)), "pinning is On, but must be Auto or Off: no idea");
        assert_eq!(fault(config(Pinning::Auto, Some(&[1]), 1)), "cpus is [1], but must be unset: no idea");
        // How many CPUs the machine has is not told everywhere: nobody is pinned on a guess.
        let machine = Ok(Machine { allowed: vec![1], cpus: None });
        assert!(Plan::new(&config(Pinning::Auto, None, 1), machine, 5).expect("a plan").cpus.is_empty());
    }

    #[test]
    fn a_pin_that_fails_is_told_to_who_asked_for_it() {
        for cpu in [1_000_000, usize::MAX] {
            assert_eq!(Place { cpu: Some(cpu), asked: false }.take(), Ok(()));
            let told = Place { cpu: Some(cpu), asked: true }.take().expect_err("there is no such CPU");
            assert!(told.contains(&format!("CPU {cpu}: ")), "{told}");
        }
    }

    #[test]
    fn lists_of_cpus_are_written_and_counted_as_linux_does() {
        for (cpus, list) in
            [(vec![0], "0"), (vec![0, 1, 2, 3], "0-3"), (vec![0, 2, 3, 8], "0,2-3,8"), ((0..256).collect(), "0-255")]
        {
            assert_eq!((listed(&cpus).as_str(), count(&format!("{list}\n"))), (list, Some(cpus.len())));
        }
        for list in ["", "\n", "a", "3-1", "1-", "0-18446744073709551615", "0,,1", "-1"] {
            assert_eq!(count(list), None, "{list:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_its_cpus() {
        let machine = Machine::read().expect("Linux tells");
        assert!(!machine.allowed.is_empty());
        assert!(machine.cpus.is_none_or(|cpus| machine.allowed.len() <= cpus), "{machine:?}");
    }
}
