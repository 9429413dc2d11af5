//! What we say: answers to standard output, everything else to standard error. Names and reasons come from files, routers
//! and other people's objects: whatever is in them, it does not steer the terminal.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, Result};

use crate::failure::ReaderGone;

/// To standard output, as it is.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        result => result.context("standard output"),
    }
}

/// To standard error: what is wrong, or worth knowing.
pub(crate) fn tell(message: impl Display) {
    eprintln!("weftctl: {}", printable(&message.to_string()));
}

/// Control characters as Rust writes them, lines as they are.
pub(crate) fn printable(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n';
    text.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc\0\u{9b}\r"), "a\\u{1b}[31mb\nc\\u{0}\\u{9b}\\r");
        assert_eq!(printable("ä \"b\" \\"), "ä \"b\" \\");
    }
}
