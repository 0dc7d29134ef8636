//! Other routers, driven by the same generator as ours.

#[cfg(test)]
pub mod launch;
pub mod mqtt;
pub mod nats;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::launch::{Installed, PROGRAMS, Program};
    use crate::frames::{Kind, Message};
    use crate::machine::{Places, allowed_cores};
    use crate::pace::Schedule;
    use crate::{connection, fanout, hop};

    const MESSAGES: u64 = 1_000;

    fn installed() -> Installed {
        let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
        let clasp_rt = bench.join("../target/release/clasp-rt");
        Installed { clasp_rt }
    }

    fn places() -> Places {
        let core = allowed_cores().unwrap()[0];
        Places { router: core, client: core }
    }

    fn a_thousand_messages_pass_in_order_through(program: Program) {
        let running = installed().start(program, places()).unwrap();
        for bytes in [8, 500] {
            let message = Message { bytes, ..Message::new(Kind::Event, "/bench/test/1") };
            let mut subscriber = connection::subscriber(running.url(), &message).unwrap();
            let mut publisher = connection::publisher(running.url(), &message).unwrap();
            let mut numbers = Vec::new();
            for number in 0..MESSAGES {
                publisher.publish(number);
            }
            crate::socket::wait_until(|| {
                publisher.flush()?;
                publisher.poll(&mut |_| {})?;
                subscriber.poll(&mut |number| numbers.push(number))?;
                Ok(numbers.len() as u64 >= MESSAGES)
            })
            .unwrap();
            assert!(numbers.iter().copied().eq(0..MESSAGES), "{numbers:?}");
            assert_eq!(publisher.unsent_bytes(), 0);
        }
        // The same through the runs that are measured, at a rate that no machine is too slow for.
        let schedule = Schedule::jittered(200.0, Duration::from_millis(100), 1);
        let message = Message::new(Kind::Event, "/bench/hop/1");
        let measured = hop::Path::at(running.url(), &message).unwrap().run(&schedule).unwrap();
        assert_eq!((measured.arrived, measured.reordered), (measured.sent, 0));
        let message = Message { pattern: "/bench/**", ..message };
        let mut fan = fanout::FanOut::at(running.url(), 5, &message).unwrap();
        let measured = fan.run(&schedule).unwrap();
        assert_eq!(measured.arrived, 5 * schedule.len() as u64);
    }

    #[test]
    fn a_thousand_messages_pass_in_order_through_mosquitto() {
        a_thousand_messages_pass_in_order_through(Program::Mosquitto);
    }

    #[test]
    fn a_thousand_messages_pass_in_order_through_nats_server() {
        a_thousand_messages_pass_in_order_through(Program::Nats);
    }

    #[test]
    #[ignore = "needs `cargo build --release -p clasp-rt`"]
    fn a_thousand_messages_pass_in_order_through_ours_however_it_idles() {
        for (_, program) in PROGRAMS {
            if matches!(program, Program::ClaspRt(_)) {
                a_thousand_messages_pass_in_order_through(program);
            }
        }
    }
}
