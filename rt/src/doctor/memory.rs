//! Whether a page of memory, or an open file, is there when it is needed.

use super::{CAP_IPC_LOCK, Finding, Machine};

/// A thousand sessions, and what a router has open beside them.
const OPEN_FILES: u64 = 1_256;

/// One of the words of a sysfs switch is the chosen one: `always [madvise] never`.
fn chosen(switch: &str) -> Option<&str> {
    switch.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// The allocator asks for huge pages with `madvise`: the choices `madvise` and `always` grant them.
pub fn huge_pages(machine: &Machine) -> Finding {
    const TOPIC: &str = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let switch = machine.root.read(path).unwrap_or_default();
    match chosen(&switch) {
        None => Finding::ok(TOPIC, "this kernel has no transparent ones"),
        Some("always") => Finding::warn(
            TOPIC,
            "every program gets them, whether it asks or not",
            "khugepaged moves memory of running programs together; who touches it then, waits",
            format!("echo madvise > {path}"),
        ),
        Some("never") => Finding::warn(
            TOPIC,
            "never: a router's memory lies in pages of 4 KiB",
            "of a million params, each new one takes 22 % and each further write 6 % more of the \
             processor, as measured",
            format!("echo madvise > {path}"),
        ),
        Some(choice) => {
            Finding::ok(TOPIC, format!("{choice}: a router asks for them, and has them"))
        }
    }
}

pub fn swap(machine: &Machine) -> Finding {
    const TOPIC: &str = "swap";
    let swaps = machine.root.read("/proc/swaps").unwrap_or_default();
    let places: Vec<_> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if places.is_empty() {
        return Finding::ok(TOPIC, "off");
    }
    Finding::warn(
        TOPIC,
        format!("on {}", places.join(", ")),
        "memory that was not used for long is written to disk, and comes back in milliseconds",
        "lock_memory = true (--lock-memory), or swapoff -a",
    )
}

pub fn numa_balancing(machine: &Machine) -> Finding {
    const TOPIC: &str = "NUMA";
    let nodes = machine.root.names("/sys/devices/system/node");
    let nodes = nodes.iter().filter_map(|name| name.strip_prefix("node")?.parse::<u32>().ok());
    let nodes = nodes.count();
    let balancing = machine.root.number("/proc/sys/kernel/numa_balancing").unwrap_or(0);
    if nodes < 2 {
        return Finding::ok(TOPIC, "one node: all memory is near");
    }
    if balancing == 0 {
        return Finding::ok(TOPIC, format!("{nodes} nodes, and memory stays where it was taken"));
    }
    Finding::warn(
        TOPIC,
        format!("{nodes} nodes, and the kernel moves memory between them"),
        "to learn who uses which page, it makes accesses fault, again and again",
        "sysctl -w kernel.numa_balancing=0",
    )
}

pub fn locked(machine: &Machine) -> Finding {
    const TOPIC: &str = "locked memory";
    if machine.has_capability(CAP_IPC_LOCK) {
        return Finding::ok(TOPIC, "may be locked without limit: CAP_IPC_LOCK");
    }
    match limit(machine, "Max locked memory") {
        None => Finding::ok(TOPIC, "may be locked without limit"),
        Some((soft, _)) => Finding::warn(
            TOPIC,
            format!("at most {} KiB may be locked", soft >> 10),
            "`lock_memory` is refused, so that a page can be gone when a message needs it",
            "LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (Docker), ulimit -l unlimited",
        ),
    }
}

pub fn open_files(machine: &Machine) -> Finding {
    const TOPIC: &str = "open files";
    match limit(machine, "Max open files") {
        Some((_, hard)) if hard < OPEN_FILES => Finding::warn(
            TOPIC,
            format!("at most {hard}"),
            format!("1,000 sessions need {OPEN_FILES}: a router refuses to start, or takes fewer"),
            "LimitNOFILE=65536 (systemd), --ulimit nofile=65536 (Docker)",
        ),
        Some((_, hard)) => Finding::ok(TOPIC, format!("at most {hard}")),
        None => Finding::ok(TOPIC, "no limit"),
    }
}

/// The soft and the hard limit of a line of `/proc/self/limits`; `None`: there is none.
fn limit(machine: &Machine, name: &str) -> Option<(u64, u64)> {
    let limits = machine.root.read("/proc/self/limits").unwrap_or_default();
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = rest.split_whitespace().map(|value| value.parse().ok());
    // An unlimited hard limit may be below a soft one that is set.
    let (soft, hard) = (values.next()??, values.next()?);
    Some((soft, hard.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_word_of_a_switch_stands_in_brackets() {
        let cases = [
            ("always [madvise] never", Some("madvise")),
            ("[always] madvise never", Some("always")),
            ("always madvise", None),
            ("", None),
        ];
        for (switch, word) in cases {
            assert_eq!(chosen(switch), word, "{switch}");
        }
    }
}
