//! The published CLASP router on `127.0.0.1:PORT`, set up to be as quick as it can be: no rate
//! limit, no authentication.

mod version;

use std::error::Error;

use clasp_core::SecurityMode;
use clasp_router::{Router, RouterConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: reference-router PORT | --version")?;
    if argument == "--version" {
        println!("clasp-router {}", version::of("clasp-router").ok_or("not in Cargo.lock")?);
        return Ok(());
    }
    let port: u16 = argument.parse()?;
    let router = Router::new(RouterConfig {
        max_sessions: 2_000,
        security_mode: SecurityMode::Open,
        rate_limiting_enabled: false,
        max_messages_per_second: 0,
        ..RouterConfig::default()
    });
    router.serve_websocket(&format!("127.0.0.1:{port}")).await?;
    Ok(())
}
