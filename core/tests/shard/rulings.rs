//! Rules that change while the shards run: the next write obeys them, and who had won is judged
//! anew.

use clasp_rt_core::limits::Limits;
use clasp_rt_core::message::{Message, Set};
use clasp_rt_core::shard::{Arbitration, OnLoss, Order, Rule, RuleFor, Ruling, SourceFor};
use clasp_rt_core::signal::Qos;
use clasp_rt_core::time::Span;
use clasp_rt_core::value;

use super::arbitration::{
    C, HEARER, answer, arbitration, encoded, heard, map, marker, set_as, why,
};
use super::net::{Client, Net, f64_value, set_of};
use super::{A, B, settings};

const NOBODY: &[SourceFor] = &[];

fn named(name: &str, priority: u8) -> SourceFor {
    SourceFor { name: name.into(), priority }
}

/// Two strangers, C, who is called `main desk`, and one who hears all of `/rig*`.
fn stage(shards: u16, arbitrations: &[Arbitration], sources: &[SourceFor]) -> Net {
    let mut settings = settings(shards);
    (settings.arbitrations, settings.sources) = (arbitrations.to_vec(), sources.to_vec());
    (settings.introduces, settings.session_timeout) = (true, None);
    settings.rules = vec![RuleFor { pattern: "/rig/max/**".into(), rule: Rule::Max }];
    let mut net = Net::new(settings);
    for client in [A, B, HEARER] {
        net.join(client);
    }
    net.join_as(C, "main desk");
    net.subscribe(HEARER, 1, "/rig*/**");
    net.subscribe(HEARER, 2, "/rig*/*");
    net
}

fn rule(net: &mut Net, arbitrations: &[Arbitration], sources: &[SourceFor]) {
    let ruling = || {
        let ruling = Ruling::new(arbitrations.to_vec(), sources.to_vec());
        ruling.with_room(&Limits { claims_max: 64, ..Limits::default() }, [1, 2])
    };
    assert!(net.adopt(ruling));
}

/// Nothing is due but that sessions that left are forgotten.
fn is_at_rest(net: &Net) -> bool {
    net.shards[0].deadline().is_none_or(|due| due >= net.now + Span::from_secs(60))
}

#[test]
fn a_changed_order_gives_each_param_to_another_winner_at_once() {
    for shards in [1, 3] {
        let mut net = stage(shards, &[arbitration("/rig*/**", Order::Highest)], NOBODY);
        for rig in 0..300 {
            let address = format!("/rig{rig}/1");
            net.set(A, &address, 200.0);
            net.set(B, &address, 30.0);
        }
        net.take(HEARER);
        rule(&mut net, &[arbitration("/rig*/**", Order::Lowest)], NOBODY);
        assert_eq!(heard(&mut net), vec!["30 r2"; 300], "{shards} shards");
        let want = "{value=30 rule=lowest winner={source=session priority=100 value=30} \
                    losers=[{source=session priority=100 value=200}]}";
        assert_eq!(why(&mut net, A, "/rig7/1"), want);
        net.set(A, "/rig7/1", 20.0);
        assert_eq!(heard(&mut net), ["20 r3"]);
        // The same once more changes nothing and says nothing.
        rule(&mut net, &[arbitration("/rig*/**", Order::Lowest)], NOBODY);
        assert_eq!(heard(&mut net), [""; 0]);
    }
}

#[test]
fn a_write_and_a_question_find_the_new_rule_before_the_rest_is_judged() {
    let lowest = [arbitration("/rig*/**", Order::Lowest)];
    let mut net = stage(1, &[arbitration("/rig*/**", Order::Highest)], NOBODY);
    for rig in 0..4 {
        let address = format!("/rig{rig}/1");
        net.set(A, &address, 200.0);
        net.set(B, &address, 30.0);
    }
    net.take(HEARER);
    net.busy = true;
    rule(&mut net, &lowest, NOBODY);
    assert_eq!(heard(&mut net), [""; 0], "no turn has ended yet");
    net.set(A, "/rig1/1", 100.0);
    assert_eq!(heard(&mut net), ["30 r2"], "what B claims is lower");
    net.set(A, "/rig2/1", 10.0);
    assert_eq!(heard(&mut net), ["10 r2"]);
    let data = 5.0_f64.to_be_bytes();
    let sets = ["/rig0/1", "/rig1/1"];
    let sets = sets.map(|to| Message::Set(Set { value: f64_value(&data), ..set_of(to) }));
    net.bundle(A, &sets, None);
    assert_eq!(heard(&mut net), ["5 r2", "5 r3"], "and so does a bundle");
    let told = why(&mut net, A, "/rig3/1");
    assert!(told.starts_with("{value=30 rule=lowest winner="), "{told}");
    assert_eq!(heard(&mut net), ["30 r2"]);
    let refused = net.adopt(|| Ruling::new(Vec::new(), Vec::new()));
    assert!(!refused, "the last one is not in force everywhere yet");
    net.busy = false;
    net.settle();
    assert_eq!(heard(&mut net), [""; 0], "nothing is left to be judged");
    rule(&mut net, &[], NOBODY);
}

#[test]
fn the_first_rule_makes_claims_of_what_is_written_from_then_on() {
    for shards in [1, 3] {
        let mut net = stage(shards, &[], NOBODY);
        net.set(A, "/rig/1", 200.0);
        net.take(HEARER);
        let sources = [named("main*", 150)];
        rule(&mut net, &[arbitration("/rig*/**", Order::Highest)], &sources);
        assert_eq!(heard(&mut net), [""; 0], "{shards} shards");
        assert_eq!(
            why(&mut net, B, "/rig/1"),
            "{value=200 rule=htp held=no source claims it \
                    writer=session}"
        );
        net.set(B, "/rig/1", 10.0);
        net.set(A, "/rig/1", 5.0);
        assert_eq!(heard(&mut net), ["10 r2"], "nobody claimed the 200");
        net.set(C, "/rig/1", 7.0);
        assert_eq!(heard(&mut net), ["7 r3"], "whose name was heard before the rule came");
        assert_eq!(net.shards.iter().map(|shard| shard.claims()).sum::<u32>(), 3);
    }
}

#[test]
fn the_last_rule_leaves_values_where_they_are_and_the_next_write_counts() {
    for shards in [1, 3] {
        let highest = [arbitration("/rig*/**", Order::Highest)];
        let mut net = stage(shards, &highest, NOBODY);
        for address in ["/rig/1", "/rig/max/1"] {
            net.set(A, address, 200.0);
            net.set(B, address, 30.0);
        }
        net.take(HEARER);
        rule(&mut net, &[], NOBODY);
        assert_eq!(heard(&mut net), [""; 0], "{shards} shards");
        assert_eq!(net.shards.iter().map(|shard| shard.claims()).sum::<u32>(), 0);
        net.set(B, "/rig/1", 31.0);
        assert_eq!(heard(&mut net), ["31 r2"]);
        assert_eq!(why(&mut net, A, "/rig/1"), "{value=31 rule=last writer=session}");
        net.set(B, "/rig/max/1", 31.0);
        net.set(B, "/rig/max/1", 201.0);
        assert_eq!(heard(&mut net), ["201 r2"], "the [[rule]] has it again");
        assert!(is_at_rest(&net), "and nothing is left to be done");
        rule(&mut net, &highest, NOBODY);
        net.set(A, "/rig/1", 1.0);
        net.set(B, "/rig/1", 2.0);
        net.set(A, "/rig/1", 1.5);
        assert_eq!(heard(&mut net), ["1 r3", "2 r4"], "and back again");
    }
}

#[test]
fn a_changed_priority_counts_for_what_was_said_before() {
    for shards in [1, 3] {
        let rules = [arbitration("/rig*/**", Order::Latest)];
        let mut net = stage(shards, &rules, &[named("main*", 150)]);
        let session = net.session_of(C);
        for rig in 0..8 {
            net.set(C, &format!("/rig{rig}/1"), 30.0);
            net.set(A, &format!("/rig{rig}/1"), 200.0);
        }
        net.take(HEARER);
        rule(&mut net, &rules, &[named("main*", 50)]);
        assert_eq!(heard(&mut net), vec!["200 r2"; 8], "{shards} shards");
        net.set(C, "/rig0/1", 31.0);
        assert_eq!(heard(&mut net), [""; 0]);
        rule(&mut net, &rules, &[named("*desk", 120)]);
        let mut got = heard(&mut net);
        got.sort();
        assert_eq!(got, [vec!["30 r3"; 7], vec!["31 r3"]].concat());
        // What somebody else says for it was told with the priority of that time; what a source
        // declares by itself stays.
        let address = "/rig/9";
        set_by(&mut net, A, (&session, "passed on", 120), address, 1.0);
        set_by(&mut net, A, (&session, "by itself", 110), address, 2.0);
        assert_eq!(heard(&mut net), ["1 r1"]);
        rule(&mut net, &rules, &[named("*desk", 90)]);
        let told = net.take(HEARER);
        let told: Vec<_> = told.iter().filter(|line| line.contains(address)).collect();
        assert_eq!(told, ["SET /rig/9 2 r2"]);
    }
}

#[test]
fn a_bundle_for_later_has_the_priority_that_its_session_has_then() {
    for shards in [1, 3] {
        let rules = [arbitration("/rig*/**", Order::Latest)];
        let mut net = stage(shards, &rules, &[named("main*", 150)]);
        let data = 30.0_f64.to_be_bytes();
        let set = Message::Set(Set { value: f64_value(&data), ..set_of("/rig/1") });
        let at = net.unix_us() + 100_000;
        net.bundle(C, &[set], Some(at));
        rule(&mut net, &rules, &[named("main*", 50)]);
        net.set(A, "/rig/1", 200.0);
        net.wait_ms(200);
        assert_eq!(heard(&mut net), ["200 r1"], "{shards} shards");
        let told = why(&mut net, A, "/rig/1");
        assert!(told.ends_with("losers=[{source=session priority=50 value=30}]}"), "{told}");
    }
}

/// A bundle in which a source of the session `by` sets `address`, with that priority.
fn set_by(net: &mut Net, client: Client, from: (&str, &str, i64), address: &str, to: f64) {
    let (by, id, priority) = from;
    let tag = map(|map| {
        value::push_str(map.entry("id").unwrap(), id).unwrap();
        value::push_i64(map.entry("priority").unwrap(), priority);
        value::push_str(map.entry("by").unwrap(), by).unwrap();
    });
    let data = to.to_be_bytes();
    let set = Message::Set(Set { value: f64_value(&data), ..set_of(address) });
    net.bundle(client, &[marker(&tag), set], None);
}

#[test]
fn what_fades_goes_on_as_the_new_rule_has_it() {
    let fade = |over, to| Arbitration {
        on_loss: OnLoss::Fade { value: encoded(to), over: Span::from_millis(over) },
        ..arbitration("/rig/**", Order::Highest)
    };
    for (after, ends) in [
        (fade(160, 50.0), "50"),
        (Arbitration { on_loss: OnLoss::Set { value: encoded(7.0) }, ..fade(1, 0.0) }, "7"),
        (arbitration("/rig/**", Order::Highest), "half"),
    ] {
        let mut net = stage(1, &[fade(320, 0.0)], NOBODY);
        net.set(A, "/rig/1", 100.0);
        net.leave(A);
        net.wait_ms(160);
        let half = heard(&mut net).pop().expect("it fades");
        assert!(half.starts_with("50 "), "{half}");
        rule(&mut net, &[after], NOBODY);
        net.wait_ms(1_000);
        let values = heard(&mut net);
        match ends {
            "half" => assert_eq!(values, [""; 0], "it is held where it was"),
            ends => assert!(values.iter().all(|told| told.starts_with(ends)), "{values:?}"),
        }
        assert!(is_at_rest(&net), "{ends}");
    }
}

#[test]
fn a_changed_timeout_counts_from_when_a_source_was_heard() {
    let within = |timeout| Arbitration {
        timeout,
        on_loss: OnLoss::Set { value: encoded(0.0) },
        ..arbitration("/rig/**", Order::Highest)
    };
    let mut net = stage(1, &[within(None)], NOBODY);
    net.set(A, "/rig/1", 9.0);
    net.wait_ms(1_000);
    rule(&mut net, &[within(Some(Span::from_millis(1_500)))], NOBODY);
    net.wait_ms(400);
    assert_eq!(heard(&mut net), ["9 r1"]);
    net.wait_ms(200);
    assert_eq!(heard(&mut net), ["0 r2"]);
    net.set(A, "/rig/1", 8.0);
    rule(&mut net, &[within(None)], NOBODY);
    net.wait_ms(5_000);
    assert_eq!(heard(&mut net), ["8 r3"], "it is lost no more");
}

#[test]
fn whoever_asked_what_is_arbitrated_is_told_again() {
    for shards in [1, 3] {
        let mut net = stage(shards, &[arbitration("/rig/**", Order::Highest)], NOBODY);
        let told = answer(&mut net, A, "/clasp/arbitration");
        assert!(told.contains("pattern=/rig/** rule=htp"), "{told}");
        rule(&mut net, &[arbitration("/stage/**", Order::Latest)], &[named("x", 7)]);
        let told = net.take(A);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("SNAPSHOT /clasp/arbitration"), "{told:?}");
        assert_eq!(net.take(B), [""; 0], "who did not ask is not told");
        let told = answer(&mut net, B, "/clasp/arbitration");
        assert!(told.contains("pattern=/stage/** rule=ltp"), "{told}");
        assert!(told.contains("source=[{name=x priority=7}]"), "{told}");
    }
}

#[test]
fn a_source_that_is_lost_while_the_rules_change_is_lost() {
    let rules = [arbitration("/rig*/**", Order::Highest)];
    let mut net = stage(1, &rules, NOBODY);
    for rig in 0..100 {
        set_as(&mut net, A, "desk", None, &format!("/rig{rig}/1"), 9.0);
    }
    net.busy = true;
    net.leave(A);
    rule(&mut net, &[], NOBODY);
    net.busy = false;
    net.settle();
    assert_eq!(net.shards[0].claims(), 0);
    assert!(is_at_rest(&net));
    let mut set = set_of("/rig1/1");
    let data = 3.0_f64.to_be_bytes();
    set.value = f64_value(&data);
    net.say(B, &Message::Set(set), Qos::Confirm);
    assert_eq!(net.take(B), ["ACK /rig1/1 r2"]);
}
