//! What overtakes what between shards.

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Message, Publish};
use clasp_rt_core::shard::Settings;
use clasp_rt_core::signal::{Qos, Signal};

use super::net::{Client, Net, f64_value, frame_of};
use super::{limits, settings};

const WRITER: Client = (0, 0);
const HEARER: Client = (1, 1);

fn sample(address: &str, number: u32) -> Vec<u8> {
    let data = f64::from(number).to_be_bytes();
    let value = Some(f64_value(&data));
    let signal = Some(Signal::Stream);
    frame_of(&Message::Publish(Publish { address, signal, value, ..Publish::default() }), Qos::Fire)
}

fn event(address: &str) -> Vec<u8> {
    let publish = Publish { address, signal: Some(Signal::Event), ..Publish::default() };
    frame_of(&Message::Publish(publish), Qos::Fire)
}

/// Three shards, of which the second hears what the first writes and `home` orders.
fn net(samples_per_turn_max: u32, critical: &[&str]) -> Net {
    let mut net = Net::new(Settings {
        limits: Limits { samples_per_turn_max, peers: 2, ..limits() },
        critical: critical.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..settings(3)
    });
    net.join(WRITER);
    net.join(HEARER);
    net.subscribe(HEARER, 1, "/**");
    net.take(HEARER);
    net
}

/// All that is said arrives within one turn of each shard; then more turns follow.
fn settle_in_one_turn(net: &mut Net) {
    net.busy = true;
    net.settle();
    net.busy = false;
    net.settle();
}

fn count(net: &Net, name: &str) -> u64 {
    let mut total = 0;
    for shard in &net.shards {
        shard.counts().each(|found, count| total += if found == name { count } else { 0 });
    }
    total
}

#[test]
fn an_event_passes_the_samples_that_wait_between_shards_and_they_keep_their_order() {
    for home in 0..3 {
        let mut net = net(4, &[]);
        let address = net.address_at(home, 0);
        let (stream, go) = (format!("{address}/stream"), format!("{address}/go"));
        for number in 0..100 {
            net.queue(WRITER, &sample(&stream, number));
        }
        net.queue(WRITER, &event(&go));
        settle_in_one_turn(&mut net);
        let heard = net.take(HEARER);
        let place = heard.iter().position(|line| line.contains(&go)).expect("the event came");
        assert!(place <= 4, "home {home}: {place} samples came before the event");
        let samples: Vec<&String> = heard.iter().filter(|line| line.contains(&stream)).collect();
        let expected = in_order(&samples);
        assert_eq!(samples.len(), 100, "home {home}: there was room for all");
        assert_eq!(samples, expected, "home {home}");
        assert!(count(&net, "streams_deferred") > 0, "home {home}");
        assert_eq!(count(&net, "streams_dropped"), 0, "home {home}");
    }
}

/// The same lines by the number at their end.
fn in_order<'a>(lines: &[&'a String]) -> Vec<&'a String> {
    let mut sorted = lines.to_vec();
    let number = |line: &String| line.rsplit(' ').next().and_then(|word| word.parse::<u32>().ok());
    sorted.sort_by_key(|line| number(line).expect("a line ends with its number"));
    sorted
}

#[test]
fn of_too_many_samples_between_shards_the_newest_arrive() {
    let mut net = net(1, &[]);
    let address = net.address_at(1, 0);
    let samples = 20_000;
    for number in 0..samples {
        net.queue(WRITER, &sample(&address, number));
    }
    settle_in_one_turn(&mut net);
    let heard = net.take(HEARER);
    let dropped = count(&net, "streams_dropped");
    assert!(dropped > 0, "all of {samples} found room");
    assert_eq!(heard.len() as u64 + dropped, u64::from(samples));
    let tail = heard.len().min(1_000);
    let last: Vec<String> = heard[heard.len() - tail..].to_vec();
    let newest = samples - tail as u32..samples;
    for (line, number) in last.iter().zip(newest) {
        assert!(line.ends_with(&format!(" {number}")), "{line} where {number} was expected");
    }
}

#[test]
fn samples_of_a_critical_address_are_not_set_aside() {
    let mut net = net(1, &["/**"]);
    let address = net.address_at(2, 0);
    for number in 0..100 {
        net.queue(WRITER, &sample(&address, number));
    }
    settle_in_one_turn(&mut net);
    assert_eq!(net.take(HEARER).len(), 100);
    assert_eq!((count(&net, "streams_deferred"), count(&net, "streams_dropped")), (0, 0));
}
