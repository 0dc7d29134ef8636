//! Whether this kernel lets a router run at all, and which newer features it has.

use std::time::Duration;

use clasp_rt_ring::probe::{self, ClockState, Feature};

use super::{CAP_SYS_ADMIN, Finding, Machine, Verdict};

/// The oldest Linux whose io_uring has what a ring of ours asks for.
const OLDEST: (u32, u32) = (6, 1);

/// A clock that may be further off than this is of no use to timed bundles.
const CLOCK_ERROR_MAX: Duration = Duration::from_millis(100);

/// What the kernel itself was asked, because no file tells.
#[derive(Debug)]
pub struct Asked {
    pub features: Vec<Feature>,
    /// `None` where the kernel does not say.
    pub clock: Option<ClockState>,
}

impl Asked {
    pub fn now() -> Self {
        Self { features: probe::features(), clock: probe::clock_state().ok() }
    }

    pub fn findings(&self) -> Vec<Finding> {
        vec![rings(&self.features), busy_poll(&self.features), time(self.clock)]
    }
}

/// Whether a router can run here; why not, otherwise, and what to do.
pub fn usable(findings: &[Finding]) -> Result<(), String> {
    let needed = [VERSION, IO_URING, RINGS];
    let mut lacking = findings.iter().filter(|f| f.verdict == Verdict::Lacks);
    match lacking.find(|finding| needed.contains(&finding.topic)) {
        None => Ok(()),
        Some(finding) => Err(format!("no router can run here: {}; {}", finding.found, finding.fix)),
    }
}

const VERSION: &str = "kernel";
const IO_URING: &str = "io_uring";
const RINGS: &str = "ring features";

pub fn version(machine: &Machine) -> Finding {
    let release = machine.root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let fix = "install Linux 6.1 or newer: Debian 12, Ubuntu 24.04, Raspberry Pi OS 12";
    match parsed(&release) {
        Some(version) if version >= OLDEST => Finding::ok(VERSION, format!("Linux {release}")),
        Some(_) => Finding::lacks(
            VERSION,
            format!("Linux {release} is older than 6.1"),
            "its io_uring has no multishot receive and no deferred task work",
            fix,
        ),
        None => Finding::lacks(
            VERSION,
            format!("the kernel calls itself `{release}`"),
            "whether its io_uring is new enough is not known",
            fix,
        ),
    }
}

/// `6.18.44-amd64`: 6 and 18.
fn parsed(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `kernel.io_uring_disabled`: 0 allows everybody, 1 those with `CAP_SYS_ADMIN` or in
/// `kernel.io_uring_group`, 2 nobody. Kernels before 6.6 do not have it, and allow everybody.
pub fn io_uring(machine: &Machine) -> Finding {
    let disabled = machine.root.number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let costs = "without io_uring there is no router";
    let allow = "sysctl -w kernel.io_uring_disabled=0";
    match disabled {
        0 => Finding::ok(IO_URING, "allowed to everybody"),
        1 if machine.has_capability(CAP_SYS_ADMIN) => {
            Finding::ok(IO_URING, "allowed, because this process has CAP_SYS_ADMIN")
        }
        1 if in_group(machine) => {
            Finding::ok(IO_URING, "allowed to the group kernel.io_uring_group")
        }
        1 => Finding::lacks(
            IO_URING,
            "kernel.io_uring_disabled is 1, which leaves out programs without privilege",
            costs,
            format!("{allow}, or run it in the group that kernel.io_uring_group names"),
        ),
        other => Finding::lacks(
            IO_URING,
            format!("kernel.io_uring_disabled is {other}: nobody may use it"),
            costs,
            allow,
        ),
    }
}

fn in_group(machine: &Machine) -> bool {
    let group = machine.root.number("/proc/sys/kernel/io_uring_group").filter(|id| *id >= 0);
    let status = machine.root.read("/proc/self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter_map(|line| line.strip_prefix("Gid:").or_else(|| line.strip_prefix("Groups:")));
    let mut ids = lines.flat_map(str::split_whitespace).filter_map(|id| id.parse().ok());
    group.is_some_and(|group| ids.any(|id: i64| id == group))
}

fn rings(features: &[Feature]) -> Finding {
    let refused = features
        .iter()
        .filter(|feature| feature.needed)
        .find_map(|feature| Some((feature, feature.granted.as_ref().err()?)));
    let Some((feature, why)) = refused else {
        let names: Vec<_> = features.iter().filter(|f| f.needed).map(|f| f.name).collect();
        return Finding::ok(RINGS, format!("granted: {}", names.join(", ")));
    };
    let fix = if why.kind() == std::io::ErrorKind::PermissionDenied {
        // Docker 25 and containerd 2 leave io_uring out of what their filter allows.
        "sysctl -w kernel.io_uring_disabled=0; in a container: --security-opt seccomp=unconfined, \
         or a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
            .to_owned()
    } else {
        format!("install Linux {} or newer; 6.1 has all that is needed", feature.since)
    };
    Finding::lacks(
        RINGS,
        format!("{} is refused: {why}", feature.name),
        "no ring of a shard can be made",
        fix,
    )
}

fn busy_poll(features: &[Feature]) -> Finding {
    const TOPIC: &str = "busy poll";
    let costs = "`busy_poll` does nothing; a packet from a network card waits for its interrupt";
    match features.iter().find(|feature| feature.name == probe::NAPI) {
        Some(Feature { granted: Ok(()), .. }) => {
            Finding::ok(TOPIC, "rings can poll network cards: `busy_poll`, off unless asked for")
        }
        Some(Feature { granted: Err(why), since, .. }) => Finding::lacks(
            TOPIC,
            format!("rings cannot poll network cards: {why}"),
            costs,
            format!("install Linux {since} or newer, built with NET_RX_BUSY_POLL"),
        ),
        None => Finding::lacks(TOPIC, "not asked: there is no ring", costs, "see above"),
    }
}

fn time(clock: Option<ClockState>) -> Finding {
    const TOPIC: &str = "wall clock";
    let Some(ClockState { synchronized, error_max }) = clock else {
        return Finding::ok(TOPIC, "the kernel does not say how its clock is steered");
    };
    let off = format!("{:.1} ms off at most", error_max.as_secs_f64() * 1e3);
    let costs = "timed bundles of several machines do not happen at the same instant";
    let fix = "timedatectl set-ntp true, or install chrony; ptp4l for less than 1 ms";
    match synchronized {
        false => Finding::warn(TOPIC, "nothing keeps the clock near the true time", costs, fix),
        true if error_max > CLOCK_ERROR_MAX => {
            Finding::warn(TOPIC, format!("in step, yet maybe {off}"), costs, fix)
        }
        true => Finding::ok(TOPIC, format!("in step, {off}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let cases = [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15))),
            ("6", None),
            ("", None),
            ("next", None),
        ];
        for (release, version) in cases {
            assert_eq!(parsed(release), version, "{release}");
        }
        assert!((6, 18) >= OLDEST && (5, 19) < OLDEST);
    }

    fn feature(name: &'static str, needed: bool, why: Option<ErrorKind>) -> Feature {
        let granted = why.map_or(Ok(()), |kind| Err(Error::from(kind)));
        Feature { name, since: "6.0", needed, granted }
    }

    #[test]
    fn a_filter_and_an_old_kernel_are_told_apart() {
        let cases = [
            (None, Verdict::Ok, ""),
            (Some(ErrorKind::PermissionDenied), Verdict::Lacks, "seccomp"),
            (Some(ErrorKind::InvalidInput), Verdict::Lacks, "install Linux 6.0"),
        ];
        for (why, verdict, fix) in cases {
            let finding = rings(&[feature("io_uring", true, None), feature("X", true, why)]);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.fix.contains(fix), "{finding:?}");
            assert_eq!(usable(&[finding]).is_ok(), verdict == Verdict::Ok);
        }
    }

    #[test]
    fn a_feature_that_is_not_needed_keeps_nobody_from_running() {
        let asked = |why| Asked {
            features: vec![feature("io_uring", true, None), feature(probe::NAPI, false, why)],
            clock: None,
        };
        let findings = asked(Some(ErrorKind::InvalidInput)).findings();
        assert_eq!(findings[1].verdict, Verdict::Lacks);
        assert_eq!(usable(&findings), Ok(()));
        assert_eq!(asked(None).findings()[1].verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_is_judged_by_who_steers_it_and_how_well() {
        let state = |synchronized, ms| {
            Some(ClockState { synchronized, error_max: Duration::from_millis(ms) })
        };
        let cases = [
            (state(true, 3), Verdict::Ok),
            (state(true, 500), Verdict::Warn),
            (state(false, 3), Verdict::Warn),
            (None, Verdict::Ok),
        ];
        for (clock, verdict) in cases {
            assert_eq!(time(clock).verdict, verdict, "{clock:?}");
        }
    }
}
