//! What the agent writes down about attachments, so that a restart forgets nothing: one line per event.
//!
//! A line is the CRC-32C of the rest in hex, a space, JSON. The first line names the boot: allocations do not outlive
//! the kernel that holds their links, hence the file is never synced to a disk. Pure: bytes in and out; the agent owns
//! the file. A torn last line is dropped. Damage elsewhere loses the lines it hits, and is reported: then links, which
//! carry the same facts in their alias, are believed (see [`crate::recover`]).

use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::record::Record;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    weft_cni_journal: u32,
    boot_id: String,
}

/// What a journal says.
#[derive(Debug, PartialEq, Eq)]
pub struct Replay {
    pub ledger: Ledger,
    /// Lines were lost, other than a torn last one.
    pub damaged: bool,
}

/// The line for a record, with its newline. Written in one piece.
pub fn encode(record: &Record) -> Vec<u8> {
    line(record)
}

/// A whole journal that says what `ledger` says, and no more.
pub fn compact(ledger: &Ledger, boot_id: &str) -> Vec<u8> {
    let mut bytes = line(&Header { weft_cni_journal: FORMAT, boot_id: boot_id.to_owned() });
    for record in ledger.snapshot() {
        bytes.extend(encode(&record));
    }
    bytes
}

/// Reads a journal. One of another boot says nothing; nor does one whose first line cannot be read, but that is damage.
pub fn replay(bytes: &[u8], boot_id: &str) -> Replay {
    let mut replay = Replay { ledger: Ledger::default(), damaged: false };
    // After the last newline there is nothing, or a torn line.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    if whole.is_empty() {
        return replay;
    }
    let mut lines = whole.split(|byte| *byte == b'\n');
    match lines.next().and_then(parse::<Header>) {
        Some(header) if header.weft_cni_journal != FORMAT || header.boot_id != boot_id => return replay,
        Some(_) => {}
        None => replay.damaged = true,
    }
    if replay.damaged {
        return replay;
    }
    for record in lines.map(parse::<Record>) {
        let fits = record.map(|record| replay.ledger.apply_after_loss(&record));
        replay.damaged |= fits != Some(true);
    }
    replay
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("records have string keys and no foreign types");
    let mut line = format!("{:08x} ", crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    line
}

fn parse<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc != crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// CRC-32C (Castagnoli), bit by bit: a record is some 300 bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
