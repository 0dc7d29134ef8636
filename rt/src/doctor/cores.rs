//! What else may happen on the cores of shards, and how long they take to wake up.

use super::{Finding, Machine, are, list, named};
use crate::config::Cores;
use crate::host::{cores_in, isolated_cores, quota_cores};
use crate::waiting::LATENCY_DEVICE;

/// An idle state that takes longer to leave than this is a late message; a spin through a system
/// call or two is not.
const EXIT_LATENCY_US_MAX: i64 = 10;

pub fn isolation(machine: &Machine) -> Finding {
    const TOPIC: &str = "isolation";
    let shared = machine.cores_not_in(&isolated_cores(&machine.root));
    if shared.is_empty() {
        return Finding::ok(TOPIC, format!("{} run nothing by themselves", named(&machine.cores)));
    }
    let found = format!("{} {} shared with every other program", named(&shared), are(&shared));
    let costs = "whoever else runs there delays a message: 0.1 to 8 ms at the maximum, 50 to 100 \
                 µs at p99.9, as measured";
    let fix = if machine.other_cores().is_empty() {
        "leave at least one core to everybody else: --cores with fewer cores, then isolcpus= and \
         a restart"
            .to_owned()
    } else {
        let cores = list(&machine.cores);
        format!(
            "boot with isolcpus=managed_irq,domain,{cores} nohz_full={cores} rcu_nocbs={cores}; \
             without a restart: a control group with cpuset.cpus={cores} and \
             cpuset.cpus.partition=isolated"
        )
    };
    Finding::warn(TOPIC, found, costs, fix)
}

/// `nohz_full=`: a core with one runnable thread is not interrupted by the scheduler's timer.
pub fn tick(machine: &Machine) -> Finding {
    const TOPIC: &str = "timer tick";
    const PATH: &str = "/sys/devices/system/cpu/nohz_full";
    let costs = "an interrupt of some microseconds, 100 to 1,000 times a second";
    if !machine.root.exists(PATH) {
        return Finding::lacks(
            TOPIC,
            "this kernel cannot stop its tick",
            costs,
            "a kernel that was built with NO_HZ_FULL",
        );
    }
    let ticking = machine.cores_not_in(&cores_in(&machine.root, PATH));
    if ticking.is_empty() {
        return Finding::ok(TOPIC, format!("stopped on {}", named(&machine.cores)));
    }
    let fix = format!("boot with nohz_full={}", list(&machine.cores));
    Finding::warn(TOPIC, format!("runs on {}", named(&ticking)), costs, fix)
}

/// `rcu_nocbs=`; cores of `nohz_full=` are among them without being named.
pub fn callbacks(machine: &Machine) -> Finding {
    const TOPIC: &str = "RCU callbacks";
    let line = machine.root.read("/proc/cmdline").unwrap_or_default();
    let wish = line.split_whitespace().find_map(|word| word.strip_prefix("rcu_nocbs="));
    let mut moved = cores_in(&machine.root, "/sys/devices/system/cpu/nohz_full");
    match wish {
        Some("all") => moved = machine.cores.clone(),
        Some(wish) => {
            let Cores(cores) = wish.parse().unwrap_or(Cores(Vec::new()));
            moved.extend(cores);
        }
        None => {}
    }
    let kept = machine.cores_not_in(&moved);
    if kept.is_empty() {
        return Finding::ok(TOPIC, format!("moved away from {}", named(&machine.cores)));
    }
    Finding::warn(
        TOPIC,
        format!("run on {}", named(&kept)),
        "the kernel's own clean-up runs in batches between two messages",
        format!("boot with rcu_nocbs={}", list(&machine.cores)),
    )
}

pub fn governor(machine: &Machine) -> Finding {
    const TOPIC: &str = "governor";
    let governor = |core: &usize| {
        machine.root.read(&format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"))
    };
    let governors: Vec<_> =
        machine.cores.iter().filter_map(|core| Some((*core, governor(core)?))).collect();
    if governors.is_empty() {
        return Finding::ok(TOPIC, "the frequency is not set here: firmware or a host decides");
    }
    let slow: Vec<_> =
        governors.iter().filter(|(_, name)| name != "performance").cloned().collect();
    let Some((_, name)) = slow.first() else {
        return Finding::ok(TOPIC, format!("performance on {}", named(&machine.cores)));
    };
    let cores: Vec<_> = slow.iter().map(|(core, _)| *core).collect();
    Finding::warn(
        TOPIC,
        format!("{name} on {}", named(&cores)),
        "after a pause a core runs at its lowest frequency, until the governor notices, some \
         milliseconds later",
        format!("cpupower -c {} frequency-set -g performance", list(&cores)),
    )
}

pub fn idle_states(machine: &Machine) -> Finding {
    const TOPIC: &str = "idle states";
    let driver = machine.root.read("/sys/devices/system/cpu/cpuidle/current_driver");
    let driver = driver.unwrap_or_else(|| "none".to_owned());
    let deepest = machine.cores.iter().filter_map(|core| deepest_us(machine, *core)).max();
    let (us, state) = match deepest {
        None => return Finding::ok(TOPIC, format!("none to enter (driver {driver})")),
        Some(deepest) => deepest,
    };
    let found = format!("{state} takes {us} µs to leave (driver {driver})");
    if us <= EXIT_LATENCY_US_MAX && driver != "haltpoll" {
        return Finding::ok(TOPIC, found);
    }
    if machine.root.opens_for_writing(LATENCY_DEVICE) {
        let kept = format!("{found}; a router keeps the cores out of it: idle = \"nohalt\"");
        return Finding::ok(TOPIC, kept);
    }
    Finding::warn(
        TOPIC,
        found,
        "the first message after a pause waits for the core: 50 to 70 instead of 20 µs a hop at \
         p50, as measured, and longer in a deeper state",
        "allow /dev/cpu_dma_latency (below), or cpupower idle-set -D 10, or idle = \"spin\"",
    )
}

/// The exit latency, in microseconds, of the deepest state that is not disabled, and its name.
fn deepest_us(machine: &Machine, core: usize) -> Option<(i64, String)> {
    let folder = format!("/sys/devices/system/cpu/cpu{core}/cpuidle");
    let states = machine.root.names(&folder).into_iter().filter_map(|state| {
        let state = format!("{folder}/{state}");
        let enabled = machine.root.number(&format!("{state}/disable")).unwrap_or(0) == 0;
        let us = machine.root.number(&format!("{state}/latency"))?;
        enabled.then(|| (us, machine.root.read(&format!("{state}/name")).unwrap_or_default()))
    });
    states.max()
}

pub fn latency_device(machine: &Machine) -> Finding {
    const TOPIC: &str = "halt";
    if machine.root.opens_for_writing(LATENCY_DEVICE) {
        let found = format!("{LATENCY_DEVICE} opens: cores can be kept from halting");
        return Finding::ok(TOPIC, found);
    }
    let costs = "a sleeping shard wakes in 30 to 45 instead of 5 to 10 µs, as measured";
    if !machine.root.exists(LATENCY_DEVICE) {
        let found = format!("there is no {LATENCY_DEVICE}");
        let fix = "idle = \"spin\"; in a container: --device /dev/cpu_dma_latency";
        return Finding::lacks(TOPIC, found, costs, fix);
    }
    Finding::warn(
        TOPIC,
        format!("{LATENCY_DEVICE} does not open for this user"),
        costs,
        "a udev rule: KERNEL==\"cpu_dma_latency\", GROUP=\"audio\", MODE=\"0660\", and the user in \
         that group",
    )
}

/// Threads of one physical core share its execution units and caches.
pub fn siblings(machine: &Machine) -> Finding {
    const TOPIC: &str = "siblings";
    let mut others = Vec::new();
    for core in &machine.cores {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        others.extend(cores_in(&machine.root, &path).into_iter().filter(|other| other != core));
    }
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return Finding::ok(TOPIC, "each core is a whole one");
    }
    let (inside, outside): (Vec<_>, Vec<_>) =
        others.iter().partition(|other| machine.cores.contains(other));
    let found = if outside.is_empty() {
        format!("{} share physical cores among themselves", named(&inside))
    } else {
        format!("{} are halves of physical cores with {}", named(&machine.cores), named(&outside))
    };
    let fix = match outside.first() {
        None => "choose one thread of each physical core: --cores".to_owned(),
        Some(_) => outside
            .iter()
            .map(|core| format!("echo 0 > /sys/devices/system/cpu/cpu{core}/online"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    Finding::warn(
        TOPIC,
        found,
        "they share its execution units and caches: messages take longer while a sibling is busy",
        fix,
    )
}

pub fn quota(machine: &Machine) -> Finding {
    const TOPIC: &str = "quota";
    match quota_cores(&machine.root) {
        None => Finding::ok(TOPIC, "no control group takes the processor away"),
        Some(cores) => Finding::warn(
            TOPIC,
            format!("a control group grants {cores:.2} cores' time"),
            "when it is used up, everything stands still until the period ends: up to 100 ms; a \
             shard that spins uses it up",
            "leave CPUQuota= (systemd), --cpus (Docker) or limits.cpu (Kubernetes) out; \
             --cpuset-cpus gives whole cores instead",
        ),
    }
}

pub fn clock_source(machine: &Machine) -> Finding {
    const TOPIC: &str = "clock source";
    // Those that programs read without a system call: x86, KVM, Hyper-V, ARM, RISC-V.
    const READ_IN_PLACE: &[&str] = &[
        "tsc",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "arch_sys_counter",
        "riscv_clocksource",
    ];
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let read = |name| machine.root.read(&format!("{folder}/{name}")).unwrap_or_default();
    let (current, available) = (read("current_clocksource"), read("available_clocksource"));
    if current.is_empty() {
        return Finding::ok(TOPIC, "the kernel does not say");
    }
    if READ_IN_PLACE.contains(&current.as_str()) {
        return Finding::ok(TOPIC, current);
    }
    let costs = "reading the time is a system call, one or two a turn";
    if available.split_whitespace().any(|name| name == "tsc") {
        let fix = format!("echo tsc > {folder}/current_clocksource");
        return Finding::warn(TOPIC, current, costs, fix);
    }
    let fix = "boot with tsc=reliable only if the maker says that it is; else another machine";
    Finding::lacks(TOPIC, current, costs, fix)
}

/// `kernel.sched_rt_runtime_us`: what real-time threads may have of each period.
pub fn realtime(machine: &Machine) -> Finding {
    const TOPIC: &str = "real time";
    let number = |name| machine.root.number(&format!("/proc/sys/kernel/{name}"));
    let period = number("sched_rt_period_us").unwrap_or(1_000_000);
    match number("sched_rt_runtime_us") {
        None => Finding::ok(TOPIC, "the kernel does not throttle real-time threads by a sysctl"),
        Some(-1) => Finding::ok(
            TOPIC,
            "real-time threads are never throttled; shards are none unless `fifo_priority` says so",
        ),
        Some(runtime) => Finding::ok(
            TOPIC,
            format!(
                "real-time threads may have {} of {} ms; shards are none unless `fifo_priority` \
                 says so, and then on isolated cores alone",
                runtime / 1_000,
                period / 1_000
            ),
        ),
    }
}
