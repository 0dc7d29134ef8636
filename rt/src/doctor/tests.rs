//! Verdicts on machines that others have, each a folder of files as their kernels show them.

use super::tree::Tree;
use super::*;

const LAPTOP: &str = include_str!("fixtures/laptop.txt");
const TUNED: &str = include_str!("fixtures/tuned.txt");
const CONTAINER: &str = include_str!("fixtures/container.txt");

/// Everything that files tell of a machine since its start.
fn examined(tree: &Tree, cores: &[usize]) -> Vec<Finding> {
    let machine = Machine { root: tree.root(), cores: cores.to_vec() };
    let after = Snapshot::take(&machine.root);
    let mut findings = machine.examine();
    findings.extend(Interval { before: Snapshot::default(), after }.findings(&machine));
    findings
}

/// What was said of `topic`.
fn of<'a>(findings: &'a [Finding], topic: &str) -> &'a Finding {
    findings.iter().find(|f| f.topic == topic).unwrap_or_else(|| panic!("nothing on {topic}"))
}

#[test]
fn every_machine_gets_the_verdicts_that_it_deserves() {
    use Verdict::{Lacks, Ok, Warn};
    // Topic, then the laptop as it came, the prepared machine, the container.
    let table = [
        ("kernel", Ok, Ok, Ok),
        ("io_uring", Ok, Ok, Lacks),
        ("locked memory", Warn, Ok, Warn),
        ("open files", Ok, Ok, Warn),
        ("UDP queue", Warn, Ok, Warn),
        ("multicast", Ok, Ok, Ok),
        ("backlog", Ok, Ok, Warn),
        ("network", Warn, Ok, Lacks),
        ("isolation", Warn, Ok, Warn),
        ("timer tick", Warn, Ok, Lacks),
        ("RCU callbacks", Warn, Ok, Warn),
        ("governor", Warn, Ok, Ok),
        ("idle states", Warn, Ok, Ok),
        ("halt", Lacks, Ok, Lacks),
        ("siblings", Warn, Ok, Ok),
        ("quota", Ok, Ok, Warn),
        ("clock source", Ok, Ok, Lacks),
        ("real time", Ok, Ok, Ok),
        ("huge pages", Warn, Ok, Warn),
        ("swap", Warn, Ok, Ok),
        ("NUMA", Ok, Ok, Warn),
        ("interrupts", Warn, Ok, Ok),
        ("steal", Ok, Ok, Warn),
    ];
    let machines = [(LAPTOP, vec![0, 2]), (TUNED, vec![2, 3]), (CONTAINER, vec![0, 1])];
    for (index, (text, cores)) in machines.into_iter().enumerate() {
        let findings = examined(&Tree::parse(text), &cores);
        let topics: Vec<_> = findings.iter().map(|finding| finding.topic).collect();
        assert_eq!(topics, table.map(|row| row.0));
        for (finding, row) in findings.iter().zip(table) {
            let verdict = [row.1, row.2, row.3][index];
            assert_eq!(finding.verdict, verdict, "machine {index}: {finding:?}");
        }
    }
}

#[test]
fn what_is_not_well_has_a_price_and_a_remedy_and_the_rest_has_neither() {
    for (text, cores) in [(LAPTOP, [0, 1]), (TUNED, [2, 3]), (TUNED, [0, 2]), (CONTAINER, [0, 1])] {
        for finding in examined(&Tree::parse(text), &cores) {
            let well = finding.verdict == Verdict::Ok;
            assert!(!finding.found.is_empty(), "{finding:?}");
            assert_eq!(finding.costs.is_empty(), well, "{finding:?}");
            assert_eq!(finding.fix.is_empty(), well, "{finding:?}");
        }
    }
}

#[test]
fn remedies_name_the_cores_the_numbers_and_the_files() {
    let laptop = examined(&Tree::parse(LAPTOP), &[2, 3]);
    let container = examined(&Tree::parse(CONTAINER), &[0, 1]);
    let cases = [
        (&laptop, "isolation", "isolcpus=managed_irq,domain,2-3 nohz_full=2-3 rcu_nocbs=2-3"),
        (&laptop, "governor", "cpupower -c 2-3 frequency-set -g performance"),
        (&laptop, "siblings", "echo 0 > /sys/devices/system/cpu/cpu0/online"),
        (&laptop, "interrupts", "echo 0-1 > /proc/irq/120/smp_affinity_list"),
        (&laptop, "UDP queue", "sysctl -w net.core.rmem_max=4194304"),
        (&laptop, "huge pages", "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        (&container, "isolation", "leave at least one core"),
        (&container, "NUMA", "sysctl -w kernel.numa_balancing=0"),
        (&container, "backlog", "sysctl -w net.core.somaxconn=4096"),
        (&container, "io_uring", "sysctl -w kernel.io_uring_disabled=0"),
    ];
    for (findings, topic, remedy) in cases {
        let finding = of(findings, topic);
        assert!(finding.fix.contains(remedy), "{finding:?}");
    }
    assert!(of(&laptop, "network").costs.contains("wlp1s0"), "{laptop:?}");
    assert!(of(&container, "quota").found.contains("1.50 cores"), "{container:?}");
}

#[test]
fn small_changes_of_a_prepared_machine_are_noticed() {
    use Verdict::{Lacks, Ok, Warn};
    let cpu2 = "sys/devices/system/cpu/cpu2";
    let cpu2 = |file: &str| format!("{cpu2}/{file}");
    let cases = [
        ("proc/sys/kernel/osrelease".to_owned(), "5.15.0-130-generic", "kernel", Lacks),
        ("proc/sys/kernel/osrelease".to_owned(), "nonsense", "kernel", Lacks),
        ("proc/sys/kernel/io_uring_disabled".to_owned(), "1", "io_uring", Lacks),
        ("sys/devices/system/cpu/isolated".to_owned(), "3", "isolation", Warn),
        ("sys/fs/cgroup/cpuset.cpus.isolated".to_owned(), "2-3", "isolation", Ok),
        ("sys/devices/system/cpu/nohz_full".to_owned(), "3", "timer tick", Warn),
        ("proc/cmdline".to_owned(), "rcu_nocbs=all", "RCU callbacks", Ok),
        (cpu2("cpufreq/scaling_governor"), "schedutil", "governor", Warn),
        (cpu2("topology/thread_siblings_list"), "2-3", "siblings", Warn),
        ("sys/fs/cgroup/system.slice/cpu.max".to_owned(), "200000 100000", "quota", Warn),
        ("proc/sys/kernel/sched_rt_runtime_us".to_owned(), "-1", "real time", Ok),
        ("proc/self/limits".to_owned(), "", "locked memory", Ok),
        ("proc/self/limits".to_owned(), "Max open files 9 9 files", "open files", Warn),
        ("proc/swaps".to_owned(), "Filename Type\n/swapfile file", "swap", Warn),
    ];
    for (path, text, topic, verdict) in cases {
        let tree = Tree::parse(TUNED);
        tree.put(&path, text);
        let findings = examined(&tree, &[2, 3]);
        assert_eq!(of(&findings, topic).verdict, verdict, "{path}: {text}");
    }
}

#[test]
fn privilege_and_group_count_where_a_sysctl_leaves_strangers_out() {
    let cases = [
        ("Gid:\t5\nCapEff:\t0", "5", true),
        ("Groups:\t4 7 9\nCapEff:\t0", "7", true),
        ("Groups:\t4 9\nCapEff:\t0", "7", false),
        ("Groups:\t4\nCapEff:\t0000000000200000", "-1", true),
        ("", "-1", false),
    ];
    for (status, group, allowed) in cases {
        let tree = Tree::parse(TUNED);
        tree.put("proc/sys/kernel/io_uring_disabled", "1");
        tree.put("proc/sys/kernel/io_uring_group", group);
        tree.put("proc/self/status", status);
        let findings = examined(&tree, &[2, 3]);
        assert_eq!(usable(&findings).is_ok(), allowed, "{status:?} {group}");
    }
}

#[test]
fn a_machine_that_cannot_run_a_router_says_what_to_do() {
    let why = usable(&examined(&Tree::parse(CONTAINER), &[0, 1])).unwrap_err();
    assert!(why.contains("sysctl -w kernel.io_uring_disabled=0"), "{why}");
    for (text, cores) in [(LAPTOP, [0, 1]), (TUNED, [2, 3])] {
        assert_eq!(usable(&examined(&Tree::parse(text), &cores)), Ok(()));
    }
}

#[test]
fn a_router_speaks_of_latency_at_its_start_only_where_it_has_to() {
    let summary = |text, cores: &[usize]| {
        let tree = Tree::parse(text);
        Machine { root: tree.root(), cores: cores.to_vec() }.summary()
    };
    assert_eq!(summary(TUNED, &[2, 3]), None);
    let one = "1 thing costs you tail latency; run clasp-rt doctor";
    let tree = Tree::parse(TUNED);
    tree.put("proc/swaps", "Filename\n/swapfile");
    let machine = Machine { root: tree.root(), cores: vec![2] };
    assert_eq!(machine.summary().as_deref(), Some(one));
    let many = "8 things cost you tail latency; run clasp-rt doctor";
    assert_eq!(summary(LAPTOP, &[0, 2]).as_deref(), Some(many));
}

#[test]
fn an_empty_machine_and_files_full_of_nonsense_are_examined_too() {
    let nothing = Tree::of(&[]);
    assert_eq!(examined(&nothing, &[0]).len(), LIMITS.len() + TAIL.len() + 2);
    for noise in ["", "\0\u{fffd}", "-", "99999999999999999999999", "a b c\nd:e\n[", "0-"] {
        let files: Vec<_> = LAPTOP
            .split("=== ")
            .skip(1)
            .map(|file| (file.split_once('\n').expect("a path").0, noise))
            .collect();
        let findings = examined(&Tree::of(&files), &[0, 1]);
        assert_eq!(findings.len(), LIMITS.len() + TAIL.len() + 2);
    }
}
