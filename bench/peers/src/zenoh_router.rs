//! A zenoh router on `127.0.0.1:PORT`: what `zenohd` runs, without plugins and without scouting.

mod version;

use std::error::Error;
use std::future;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let argument = std::env::args().nth(1).ok_or("usage: zenoh-router PORT | --version")?;
    if argument == "--version" {
        println!("zenoh {}", version::of("zenoh").ok_or("not in Cargo.lock")?);
        return Ok(());
    }
    let port: u16 = argument.parse()?;
    let mut config = zenoh::Config::default();
    let listen = format!("[\"tcp/127.0.0.1:{port}\"]");
    for (key, value) in [
        ("mode", "\"router\""),
        ("listen/endpoints", &listen),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        // The load is a thousand connections, many more at once than zenoh expects.
        ("transport/unicast/max_sessions", "2000"),
        ("transport/unicast/accept_pending", "2000"),
    ] {
        config.insert_json5(key, value)?;
    }
    let _session = zenoh::open(config).await?;
    future::pending().await
}
