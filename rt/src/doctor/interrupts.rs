//! What interrupted the chosen cores, and what a hypervisor took from them, between two looks.

use super::{Finding, Machine, Root, list, named};

/// Devices that are named before "and others".
const NAMED_MAX: usize = 3;

/// More of a core's time than this, taken by a hypervisor, is in everybody's p99.9.
const STOLEN_MAX: f64 = 0.001;

/// What the kernel had counted at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    interrupts: String,
    stat: String,
}

impl Snapshot {
    pub fn take(root: &Root) -> Self {
        let read = |path| root.read(path).unwrap_or_default();
        Self { interrupts: read("/proc/interrupts"), stat: read("/proc/stat") }
    }
}

/// Two looks; the first may be the default, which stands for the machine's start.
#[derive(Clone, Debug)]
pub struct Interval {
    pub before: Snapshot,
    pub after: Snapshot,
}

impl Interval {
    pub fn findings(&self, machine: &Machine) -> Vec<Finding> {
        vec![self.devices(machine), self.stolen(machine)]
    }

    /// Interrupts of devices. Those of the processor itself (timer, other cores) are not listed:
    /// nothing moves them.
    fn devices(&self, machine: &Machine) -> Finding {
        const TOPIC: &str = "interrupts";
        let before = device_counts(&self.before.interrupts, &machine.cores);
        let mut fired: Vec<_> = device_counts(&self.after.interrupts, &machine.cores)
            .into_iter()
            .map(|after| {
                let known = before.iter().find(|before| before.number == after.number);
                let count = after.count.saturating_sub(known.map_or(0, |before| before.count));
                Device { count, ..after }
            })
            .filter(|device| device.count > 0)
            .collect();
        if fired.is_empty() {
            return Finding::ok(TOPIC, format!("no device interrupted {}", named(&machine.cores)));
        }
        fired.sort_by_key(|device| std::cmp::Reverse(device.count));
        let mut names: Vec<_> = fired
            .iter()
            .take(NAMED_MAX)
            .map(|device| format!("{} of {} ({})", device.count, device.name, device.number))
            .collect();
        if fired.len() > NAMED_MAX {
            names.push(format!("and {} more", fired.len() - NAMED_MAX));
        }
        let others = machine.other_cores();
        let fix = match others.as_slice() {
            [] => "no other core is left for them: --cores with fewer cores".to_owned(),
            others => {
                let to = list(others);
                let moved = fired.iter().take(NAMED_MAX);
                let moved: Vec<_> = moved
                    .map(|device| {
                        format!("echo {to} > /proc/irq/{}/smp_affinity_list", device.number)
                    })
                    .collect();
                format!(
                    "{}; for all, at boot: irqaffinity={to}; irqbalance: \
                     IRQBALANCE_BANNED_CPULIST={}",
                    moved.join("; "),
                    list(&machine.cores)
                )
            }
        };
        Finding::warn(
            TOPIC,
            format!("on {}: {}", named(&machine.cores), names.join(", ")),
            "each takes the core for some microseconds, and the network's or disk's work behind it \
             for more",
            fix,
        )
    }

    fn stolen(&self, machine: &Machine) -> Finding {
        const TOPIC: &str = "steal";
        let shares = machine.cores.iter().filter_map(|core| {
            let (before, after) =
                (times(&self.before.stat, *core), times(&self.after.stat, *core)?);
            let (stolen_before, all_before) = before.unwrap_or_default();
            let (stolen, all) = after;
            let all = all.saturating_sub(all_before);
            (all > 0).then(|| (stolen.saturating_sub(stolen_before) as f64 / all as f64, *core))
        });
        let most = shares.max_by(|a, b| a.0.total_cmp(&b.0));
        match most {
            Some((share, core)) if share > STOLEN_MAX => Finding::warn(
                TOPIC,
                format!("a hypervisor took {:.2} % of the time of core {core}", share * 100.0),
                "while it runs somebody else, a message waits: milliseconds at a time",
                "a machine of its own, or dedicated processors (virsh vcpupin; not a burstable or \
                 shared class in a cloud)",
            ),
            Some(_) => Finding::ok(TOPIC, "no hypervisor took the processor away"),
            None => Finding::ok(TOPIC, "the kernel does not say"),
        }
    }
}

struct Device {
    /// As in `/proc/irq`.
    number: u32,
    /// On the chosen cores together.
    count: u64,
    name: String,
}

/// `/proc/interrupts`: a line of cores, then for each interrupt a column for each of them.
fn device_counts(text: &str, cores: &[usize]) -> Vec<Device> {
    let mut lines = text.lines();
    let columns: Vec<usize> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    lines
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            // Others have letters: `LOC`, `RES`, `NMI`.
            let number = number.trim().parse().ok()?;
            let mut words = rest.split_whitespace();
            let counts = columns.iter().map_while(|core| Some((core, words.next()?)));
            let chosen = counts.filter(|(core, _)| cores.contains(core));
            let count = chosen.filter_map(|(_, count)| count.parse::<u64>().ok()).sum();
            // Controller, line and trigger, then what the driver calls itself.
            let name = rest.split_whitespace().next_back().unwrap_or_default().to_owned();
            Some(Device { number, count, name })
        })
        .collect()
}

/// Time stolen from a core, and all of its time, in ticks: `cpu0 user nice system idle iowait irq
/// softirq steal guest guest_nice`. Guests' time is part of user's already.
fn times(stat: &str, core: usize) -> Option<(u64, u64)> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map_while(|word| word.parse().ok()).collect();
    Some((ticks.get(7).copied().unwrap_or(0), ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tree::Tree;
    use super::*;

    const BEFORE: &str = "           CPU0       CPU2       CPU3
 24:          1          0          7  IO-APIC   5-edge      ACPI:Ged
 36:        100        200        300  PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
NMI:          0          0          0   Non-maskable interrupts
LOC:    2422397    2415069          9   Local timer interrupts
ERR:          0
";

    fn devices(before: &str, after: &str, cores: &[usize], online: &str) -> Finding {
        let tree = Tree::of(&[("sys/devices/system/cpu/online", online)]);
        let machine = Machine { root: tree.root(), cores: cores.to_vec() };
        let snapshot = |text: &str| Snapshot { interrupts: text.to_owned(), ..Snapshot::default() };
        Interval { before: snapshot(before), after: snapshot(after) }.devices(&machine)
    }

    #[test]
    fn only_devices_that_fire_on_the_chosen_cores_in_between_count() {
        let after = BEFORE.replace("200", "205").replace("2415069", "9999999");
        let cases: [(&[usize], Verdict, &str); 4] = [
            (&[2], Verdict::Warn, "on core 2: 5 of virtio1-req.0 (36)"),
            (&[2, 3], Verdict::Warn, "on cores 2-3: 5 of virtio1-req.0 (36)"),
            (&[0, 3], Verdict::Ok, "no device interrupted cores 0,3"),
            (&[1], Verdict::Ok, "no device interrupted core 1"),
        ];
        for (cores, verdict, found) in cases {
            let finding = devices(BEFORE, &after, cores, "0,2-3");
            assert_eq!((finding.verdict, finding.found.as_str()), (verdict, found));
        }
        let finding = devices(BEFORE, &after, &[2], "0,2-3");
        assert!(
            finding.fix.starts_with("echo 0,3 > /proc/irq/36/smp_affinity_list"),
            "{finding:?}"
        );
        let finding = devices(BEFORE, &after, &[0, 2, 3], "0,2-3");
        assert!(finding.fix.contains("--cores with fewer"), "{finding:?}");
    }

    #[test]
    fn what_is_no_table_names_no_device() {
        for text in ["", "nonsense", "CPU0\n:\n1\n2:", "  \n24: x y z"] {
            assert_eq!(devices("", text, &[0], "0").verdict, Verdict::Ok, "{text:?}");
        }
    }

    #[test]
    fn stolen_time_is_a_share_of_the_time_in_between() {
        let stat = |idle, stolen| format!("cpu  1 1\ncpu0 10 0 10 {idle} 0 0 0 {stolen} 5 0\n");
        let cases = [
            (String::new(), stat(980, 0), Verdict::Ok),
            (String::new(), stat(970, 10), Verdict::Warn),
            (stat(970, 10), stat(1_970, 10), Verdict::Ok),
            (stat(970, 10), stat(1_970, 21), Verdict::Warn),
            (stat(970, 10), stat(970, 10), Verdict::Ok),
            (String::new(), String::new(), Verdict::Ok),
        ];
        let machine = Machine { root: Root::real(), cores: vec![0] };
        for (before, after, verdict) in cases {
            let snapshot = |stat: &str| Snapshot { stat: stat.to_owned(), ..Snapshot::default() };
            let interval = Interval { before: snapshot(&before), after: snapshot(&after) };
            assert_eq!(interval.stolen(&machine).verdict, verdict, "{before:?} {after:?}");
        }
    }
}
