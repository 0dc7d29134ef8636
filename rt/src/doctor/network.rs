//! What the network's queues hold, and which cards there are.

use super::{CAP_NET_ADMIN, Finding, Machine};

/// What a datagram socket of ours asks for.
const RECEIVE_QUEUE_BYTES: i64 = 4 << 20;

/// What one Art-Net universe of 530 bytes takes of a socket's queue: 332 filled one of 425,984
/// bytes over loopback. Some network cards' packets take more.
const UNIVERSE_BYTES: i64 = 1_283;

/// Connections that may wait to be accepted, as our listeners ask for them.
const BACKLOG: i64 = 4_096;

pub fn receive_queue(machine: &Machine) -> Finding {
    const TOPIC: &str = "UDP queue";
    let bytes = machine.root.number("/proc/sys/net/core/rmem_max").unwrap_or(0);
    if bytes >= RECEIVE_QUEUE_BYTES {
        return Finding::ok(TOPIC, format!("net.core.rmem_max is {bytes}"));
    }
    if machine.has_capability(CAP_NET_ADMIN) {
        let found = format!("4 MiB in spite of net.core.rmem_max = {bytes}: CAP_NET_ADMIN");
        return Finding::ok(TOPIC, found);
    }
    Finding::warn(
        TOPIC,
        format!("net.core.rmem_max is {bytes}"),
        // The kernel grants twice what is asked for, to have room for its own bookkeeping.
        format!(
            "while a thread is busy, {} Art-Net universes wait at most; of a burst, more are lost",
            bytes * 2 / UNIVERSE_BYTES
        ),
        format!("sysctl -w net.core.rmem_max={RECEIVE_QUEUE_BYTES}"),
    )
}

/// `net.ipv4.igmp_max_memberships`: groups that one socket may join; 20 unless changed. Each
/// universe of sACN is a group, and sACN opens as many sockets as its universes need.
pub fn memberships(machine: &Machine) -> Finding {
    const TOPIC: &str = "multicast";
    let path = "/proc/sys/net/ipv4/igmp_max_memberships";
    match machine.root.number(path) {
        None => Finding::ok(TOPIC, "the kernel sets no limit to groups"),
        Some(0) => Finding::warn(
            TOPIC,
            "sockets may join no groups",
            "of sACN, where each universe is a group, only unicast is heard",
            "sysctl -w net.ipv4.igmp_max_memberships=20",
        ),
        Some(groups) => {
            let found = format!("a socket may join {groups} groups; sACN opens more sockets");
            Finding::ok(TOPIC, found)
        }
    }
}

pub fn backlog(machine: &Machine) -> Finding {
    const TOPIC: &str = "backlog";
    match machine.root.number("/proc/sys/net/core/somaxconn") {
        Some(most) if most < BACKLOG => Finding::warn(
            TOPIC,
            format!("{most} connections may wait"),
            "when a hall full of phones reconnects at once, some try again a second later",
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        ),
        Some(most) => Finding::ok(TOPIC, format!("{most} connections may wait")),
        None => Finding::ok(TOPIC, "the kernel does not say"),
    }
}

/// Interfaces with a device behind them. How long a card collects packets before it interrupts is
/// not in a file: `ethtool` asks it.
pub fn cards(machine: &Machine) -> Finding {
    const TOPIC: &str = "network";
    const FOLDER: &str = "/sys/class/net";
    let names = machine.root.names(FOLDER);
    let cards: Vec<_> = names
        .iter()
        .filter(|name| machine.root.exists(&format!("{FOLDER}/{name}/device")))
        .collect();
    if cards.is_empty() {
        return Finding::lacks(
            TOPIC,
            "no network card is to be seen here",
            "`busy_poll` has nothing to poll; a bridge of a container delivers in software",
            "in a container: --network host",
        );
    }
    let described: Vec<_> = cards.iter().map(|card| described(machine, card)).collect();
    let found = described.join("; ");
    let wireless = |card: &&&String| machine.root.exists(&format!("{FOLDER}/{card}/wireless"));
    match cards.iter().find(wireless) {
        Some(card) => Finding::warn(
            TOPIC,
            found,
            format!("{card} is Wi-Fi: a lost frame is sent again, milliseconds later"),
            "a cable for whatever a cue depends on",
        ),
        None => Finding::ok(
            TOPIC,
            format!("{found}; how long it collects packets: ethtool -c {}", cards[0]),
        ),
    }
}

/// `eth0: 4 receive queues`, and what defers its interrupts, if anything does.
fn described(machine: &Machine, card: &str) -> String {
    let folder = format!("/sys/class/net/{card}");
    let queues = machine.root.names(&format!("{folder}/queues"));
    let queues = queues.iter().filter(|name| name.starts_with("rx-")).count();
    let word = if queues == 1 { "queue" } else { "queues" };
    let number = |name| machine.root.number(&format!("{folder}/{name}")).unwrap_or(0);
    match number("napi_defer_hard_irqs") {
        0 => format!("{card}: {queues} receive {word}"),
        times => format!(
            "{card}: {queues} receive {word}, interrupts put off {times} times by {} µs",
            number("gro_flush_timeout") / 1_000
        ),
    }
}
