//! What the router arbitrates, told to whoever asks: the answer to GET of `/clasp/arbitration`.
//!
//! A bridge that merges senders by itself tells what losers say only where somebody arbitrates it,
//! and with which priority depends on its name; so it asks. The answer is a map of two lists, in
//! the order of the configuration, where the first that fits counts:
//!
//! | key | each is a map of |
//! |---|---|
//! | `arbitration` | `pattern`; `rule` `htp`, `ltp` or `lowest`; `default_priority` 0..=200; |
//! | | `on_loss` `hold`, `set` or `fade` with `value` and `fade_us`; `timeout_us` if there is one |
//! | `source` | `name`, in which `*` is any run; `priority` 0..=200 |
//!
//! Where nothing is arbitrated both are empty. Whoever asked is told again when it changes.

use alloc::vec::Vec;

use super::contend::order_name;
use super::record::Origin;
use super::refused::Refused;
use super::settings::{Arbitration, OnLoss, SourceFor};
use super::{Effects, Shard};
use crate::message::ParamValue;
use crate::value::{self, ArrayWriter, MapWriter, Value};
use crate::wire::TooLong;
use crate::wire::binary::SnapshotBuilder;

/// What is asked for.
pub(super) const ARBITRATION: &str = "/clasp/arbitration";

impl Shard {
    /// Answers with what is arbitrated. Every shard knows it.
    pub(super) fn declare(&mut self, origin: &Origin, grant: u32, fx: &mut impl Effects) {
        if !self.may_read(grant, ARBITRATION) {
            return self.refuse(origin, Refused::Forbidden, Some(ARBITRATION), fx);
        }
        let (mut encoded, mut frame) = (self.lend(), self.lend());
        let policies = self.store.claims.policies();
        let written = write_declaration(policies, &self.settings.sources, &mut encoded);
        let got = encoded.len();
        let mut snapshot = SnapshotBuilder::start(&mut frame);
        let timestamp_us = Some(self.unix_us());
        let fits = written.is_ok()
            && Value::from_encoded(&encoded).is_ok_and(|value| {
                let (address, revision, writer) = (ARBITRATION, 1, None);
                let told = ParamValue { address, value, revision, writer, timestamp_us };
                snapshot.push(&mut frame, &told)
            });
        if fits {
            snapshot.finish(&mut frame);
            self.reply_frame(origin, &frame, fx);
        } else {
            self.refuse(origin, Refused::TooLong { got }, Some(ARBITRATION), fx);
        }
        self.give_back(frame);
        self.give_back(encoded);
    }
}

fn write_declaration(
    arbitrations: &[Arbitration],
    sources: &[SourceFor],
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let mut map = MapWriter::start(out);
    let mut tables = ArrayWriter::start(map.entry("arbitration")?);
    for arbitration in arbitrations {
        write_arbitration(arbitration, tables.item()?)?;
    }
    let mut tables = ArrayWriter::start(map.entry("source")?);
    for source in sources {
        let mut table = MapWriter::start(tables.item()?);
        value::push_str(table.entry("name")?, &source.name)?;
        value::push_i64(table.entry("priority")?, source.priority.into());
    }
    Ok(())
}

fn write_arbitration(arbitration: &Arbitration, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let Arbitration { pattern, order, timeout, on_loss, default_priority } = arbitration;
    let mut table = MapWriter::start(out);
    value::push_str(table.entry("pattern")?, pattern)?;
    value::push_str(table.entry("rule")?, order_name(*order))?;
    value::push_i64(table.entry("default_priority")?, (*default_priority).into());
    if let Some(timeout) = timeout {
        value::push_i64(table.entry("timeout_us")?, timeout.as_micros() as i64);
    }
    let (name, value, over) = match on_loss {
        OnLoss::Hold => ("hold", None, None),
        OnLoss::Set { value } => ("set", Some(value), None),
        OnLoss::Fade { value, over } => ("fade", Some(value), Some(over)),
    };
    value::push_str(table.entry("on_loss")?, name)?;
    if let Some(value) = value {
        table.entry("value")?.extend_from_slice(value);
    }
    if let Some(over) = over {
        value::push_i64(table.entry("fade_us")?, over.as_micros() as i64);
    }
    Ok(())
}
