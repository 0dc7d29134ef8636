//! `pub`, `set`, `get` and `sub`: a client of a running router, for a shell.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use clasp_rt_client::{
    Builder, Client, ConnectError, Origin, RequestError, SendError, SetOptions, SubscribeOptions,
    Trouble, Update, Val,
};
use clasp_rt_core::error::code::NOT_FOUND;
use clasp_rt_link::End;
use serde_json::json;

use super::Failure;
use super::value;
use crate::{log, plain};

/// How long a router may take to answer what it answers at once.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long `listen` waits before it says that nothing more waits.
const BREATH: Duration = Duration::from_millis(100);

/// Which router, and as whom.
#[derive(Args, Clone, Debug)]
pub struct RouterArgs {
    /// Router to join: ws://HOST:PORT or tcp://HOST:PORT
    #[arg(long, value_name = "URL", default_value = "ws://localhost:7330")]
    pub router: String,
    /// Token to show, if the router asks for one
    #[arg(long)]
    pub token: Option<String>,
}

/// When to stop listening.
#[derive(Args, Clone, Debug)]
pub struct Limit {
    /// Stop after so many updates
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after so many seconds; exit code 4 if --count was not reached, or nothing came at all
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

#[derive(Args, Debug)]
pub struct PubArgs {
    /// Where it happens, such as /cue/go
    address: String,
    /// What it carries: JSON, or else text [default: null]
    #[arg(allow_negative_numbers = true)]
    value: Option<String>,
    #[command(flatten)]
    router: RouterArgs,
}

#[derive(Args, Debug)]
pub struct SetArgs {
    /// Which param, such as /lights/strip1/brightness
    address: String,
    /// Its new value: JSON, or else text
    #[arg(allow_negative_numbers = true)]
    value: String,
    #[command(flatten)]
    router: RouterArgs,
}

#[derive(Args, Debug)]
pub struct GetArgs {
    /// Which param
    address: String,
    #[command(flatten)]
    router: RouterArgs,
    /// Print {"address": ..., "value": ...}
    #[arg(long)]
    json: bool,
    /// How many seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
}

#[derive(Args, Debug)]
pub struct SubArgs {
    /// Which addresses: `*` is one segment, `**` any number of them
    pattern: String,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    limit: Limit,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// One update, as commands print it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub address: String,
    /// param, event, stream, gesture or timeline.
    pub kind: &'static str,
    pub value: Val,
    pub revision: Option<u64>,
}

pub fn publish(args: &PubArgs) -> Result<(), Failure> {
    let value = args.value.as_deref().map_or(Val::Null, value::parse);
    let client = connect(&args.router)?;
    client.emit(&args.address, value).map_err(|error| unsent(&args.address, error))?;
    // Events are not acknowledged; but what the router says about one, it says before this answer.
    client.ping(ANSWER_WITHIN).map_err(|error| unanswered(&args.address, error))?;
    let trouble = client.last_error();
    client.close();
    match trouble {
        Some(trouble) => Err(Failure::Failed(trouble.to_string())),
        None => Ok(()),
    }
}

pub fn set(args: &SetArgs) -> Result<(), Failure> {
    let client = connect(&args.router)?;
    let value = value::parse(&args.value);
    let set = client.set_confirmed(&args.address, value, SetOptions::default(), ANSWER_WITHIN);
    client.close();
    set.map(|_revision| ()).map_err(|error| unanswered(&args.address, error))
}

pub fn get(args: &GetArgs) -> Result<(), Failure> {
    let client = connect(&args.router)?;
    let got = client.get(&args.address, args.timeout);
    client.close();
    let value = got.map_err(|error| unanswered(&args.address, error))?;
    let line = match args.json {
        true => plain::json(&json!({ "address": args.address, "value": value::to_json(&value) })),
        false => value::show(&value),
    };
    print(format!("{line}\n").as_bytes())
}

pub fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    listen(&args.router, &args.pattern, &args.limit, |seen| {
        let Some(seen) = seen else { return Ok(()) };
        let line = match args.json {
            true => seen.json(),
            false => format!("{} {}", plain::line(&seen.address), value::show(&seen.value)),
        };
        writeln!(stdout, "{line}")?;
        stdout.flush()
    })
}

/// Gives `each` every update of `pattern` until `limit`, and `None` whenever nothing more waits.
pub fn listen(
    router: &RouterArgs,
    pattern: &str,
    limit: &Limit,
    mut each: impl FnMut(Option<&Seen>) -> io::Result<()>,
) -> Result<(), Failure> {
    let (tell, heard) = mpsc::channel();
    let tell_trouble = tell.clone();
    let builder = builder(router).on_error(move |trouble| {
        let _ = tell_trouble.send(Heard::Trouble(trouble.clone()));
    });
    let client = builder.connect().map_err(|error| unconnected(router, error))?;
    let mut shown = Shown::default();
    let told = move |update: &Update<'_>| {
        if shown.is_new(update) {
            let _ = tell.send(Heard::Update(Seen::new(update)));
        }
    };
    client
        .subscribe(pattern, SubscribeOptions::default(), told)
        .map_err(|error| unsent(pattern, error))?;
    let until = limit.timeout.map(|timeout| Instant::now() + timeout);
    let mut count = 0;
    while limit.count.is_none_or(|most| count < most) {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            break;
        }
        match heard.recv_timeout(left.unwrap_or(BREATH).min(BREATH)) {
            Ok(Heard::Update(seen)) => {
                count += 1;
                if let Err(why) = each(Some(&seen)) {
                    return unless_closed(why);
                }
            }
            Ok(Heard::Trouble(Trouble::Refused { code, message, .. })) => {
                return Err(Failure::Failed(format!("{pattern}: {message} ({code})")));
            }
            Ok(Heard::Trouble(trouble)) => log::say(&format!("clasp-rt: {trouble}")),
            Err(_) => {
                if let Err(why) = each(None) {
                    return unless_closed(why);
                }
            }
        }
    }
    client.close();
    match limit.count {
        Some(most) if count < most => {
            Err(Failure::Nothing(format!("{pattern}: {count} of {most} updates came in time")))
        }
        None if count == 0 => Err(Failure::Nothing(format!("{pattern}: nothing came in time"))),
        _ => Ok(()),
    }
}

/// Which params were shown, with which revision: joining and subscribing both tell what there is.
#[derive(Default)]
struct Shown(HashMap<String, u64>);

impl Shown {
    fn is_new(&mut self, update: &Update<'_>) -> bool {
        let Some(revision) = update.revision else { return true };
        let before = self.0.insert(update.address.to_owned(), revision);
        update.origin != Origin::Snapshot || before != Some(revision)
    }
}

enum Heard {
    Update(Seen),
    Trouble(Trouble),
}

impl Seen {
    fn new(update: &Update<'_>) -> Self {
        let samples = update.samples.map(|samples| samples.iter().map(Val::Float).collect());
        Self {
            address: update.address.to_owned(),
            kind: update.signal.name(),
            value: samples.map_or_else(|| update.val(), Val::Array),
            revision: update.revision,
        }
    }

    fn json(&self) -> String {
        let value = value::to_json(&self.value);
        let line = match self.revision {
            None => json!({ "address": self.address, "kind": self.kind, "value": value }),
            Some(revision) => json!({
                "address": self.address,
                "kind": self.kind,
                "value": value,
                "revision": revision,
            }),
        };
        plain::json(&line)
    }
}

fn builder(router: &RouterArgs) -> Builder {
    let builder = Client::builder(&router.router).name("clasp-rt command line");
    match &router.token {
        Some(token) => builder.token(token),
        None => builder,
    }
}

pub fn connect(router: &RouterArgs) -> Result<Client, Failure> {
    builder(router).reconnect(false).connect().map_err(|error| unconnected(router, error))
}

fn unconnected(router: &RouterArgs, error: ConnectError) -> Failure {
    // Who answers may do so at another port, in the other way.
    let other = match (&error, router.router.split_once("://")) {
        (ConnectError::Ended(_), Some((scheme, host))) if scheme.eq_ignore_ascii_case("tcp") => {
            format!("\nIf that is the port for WebSocket, try --router ws://{host}.")
        }
        // What a port for TCP answers a WebSocket.
        (ConnectError::Ended(End::NotOpened { status: 400, .. }), Some((scheme, host)))
            if scheme.eq_ignore_ascii_case("ws") =>
        {
            let host = host.split('/').next().unwrap_or_default();
            format!("\nIf that is the port for TCP, try --router tcp://{host}.")
        }
        _ => String::new(),
    };
    match error {
        ConnectError::Url(_) | ConnectError::TooLong => {
            Failure::Wrong(format!("--router: {error}"))
        }
        ConnectError::Refused { .. } => Failure::Failed(error.to_string()),
        _ => Failure::Unreachable(format!(
            "{error}{other}\nStart a router with `clasp-rt server`, or name another with \
             --router URL."
        )),
    }
}

/// `what` is the address or pattern that was to be sent.
pub fn unsent(what: &str, error: SendError) -> Failure {
    let said = format!("{what}: {error}");
    match error {
        SendError::NotConnected | SendError::Closed | SendError::Lost(_) => {
            Failure::Unreachable(said)
        }
        // The client judges as the router would; so it counts as the router's refusal.
        _ => Failure::Failed(said),
    }
}

pub fn unanswered(what: &str, error: RequestError) -> Failure {
    let said = format!("{what}: {error}");
    match error {
        RequestError::Send(error) => unsent(what, error),
        RequestError::Refused { code: NOT_FOUND, .. } => {
            Failure::Nothing(format!("{what} holds nothing"))
        }
        RequestError::TimedOut => Failure::Nothing(said),
        RequestError::Lost => Failure::Unreachable(said),
        _ => Failure::Failed(said),
    }
}

/// Whoever reads our output may stop at any time (`| head`); that ends us, and is no failure.
pub fn unless_closed(error: io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::Failed(format!("output: {error}"))),
    }
}

/// Writes all of it, if somebody reads so far.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).or_else(unless_closed)
}

/// A day: more is a slip of the finger, and far more no clock can count.
pub const SECONDS_MAX: f64 = 86_400.0;

/// A length of time as it is typed.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    let span = seconds.map(Duration::from_secs_f64);
    span.ok_or_else(|| "should be seconds, 0 to 86400, such as 2 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_at_most_a_day() {
        let millis = |text| seconds(text).ok().map(|span| span.as_millis());
        let cases = [
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("86400", Some(86_400_000)),
            ("86401", None),
            ("1e19", None),
            ("inf", None),
            ("NaN", None),
            ("-1", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
