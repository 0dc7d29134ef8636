//! Two maps made one, key by key.

use alloc::vec::Vec;

use crate::limits::PARAM_BYTES_MAX;
use crate::shard::refused::Refused;
use crate::value::Value;

/// Keys of a merged map, at most.
const MERGED_KEYS_MAX: usize = 256;

/// Writes to `out` the data of the map that has the keys of both, `offered` winning.
///
/// `Ok(false)` if one of them is no map. Held keys keep their order, new ones follow.
pub(super) fn merge_maps(
    held: Value<'_>,
    offered: Value<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Refused> {
    let (Some(old), Some(_)) = (held.map(), offered.map()) else { return Ok(false) };
    out.clear();
    out.extend_from_slice(&[0, 0]);
    let mut keys = 0;
    for (key, value) in old {
        push_entry(key, offered.get(key).unwrap_or(value), out);
        keys += 1;
    }
    for (key, value) in offered.map().into_iter().flatten() {
        if held.get(key).is_none() {
            push_entry(key, value, out);
            keys += 1;
        }
        if keys > MERGED_KEYS_MAX {
            return Err(Refused::TooWide);
        }
    }
    if out.len() > PARAM_BYTES_MAX - crate::limits::ADDRESS_BYTES_MAX {
        return Err(Refused::TooLong { got: out.len() });
    }
    out[..2].copy_from_slice(&(keys as u16).to_be_bytes());
    Ok(true)
}

pub(super) fn push_entry(key: &str, value: Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.push(value.code);
    out.extend_from_slice(value.data);
}
