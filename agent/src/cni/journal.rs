//! The journal's file: one writer, appends in one piece, compaction by rename. What it says is [`weft_cni::journal`]'s.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use weft_cni::journal::{Record, Replay, compact, encode, replay};
use weft_cni::ledger::Ledger;

const FILE: &str = "attachments.journal";
const LOCK: &str = "cni.lock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Compacted when it holds this many records per live attachment,
const RECORDS_PER_ENTRY: usize = 4;
/// but not for fewer than this many.
const FEWEST_RECORDS: usize = 512;

/// Owns the run directory's lock as long as it lives.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    boot_id: String,
    length: u64,
    records: usize,
    _lock: Flock<File>,
}

impl Journal {
    /// Reads what a former agent wrote, and starts a file that says the same.
    pub(super) fn open(run_dir: &Path) -> io::Result<(Self, Replay)> {
        DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(run_dir.join(LOCK))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::other(format!("another agent holds {LOCK} ({errno})")))?;
        let boot_id = std::fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let path = run_dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let replay = replay(&bytes, &boot_id);
        if replay.damaged {
            std::fs::write(path.with_extension("damaged"), &bytes)?;
        }
        let (file, length) = rewrite(&path, &replay.ledger, &boot_id)?;
        let records = replay.ledger.snapshot().len();
        Ok((Self { path, file, boot_id, length, records, _lock: lock }, replay))
    }

    /// Appends, or leaves the file as it was. Not synced: what it describes ends with the boot.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = encode(record);
        if let Err(error) = self.file.write_all(&line) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.records += 1;
        Ok(())
    }

    /// Shortens the file when it has grown out of proportion to `ledger`.
    pub(super) fn tidy(&mut self, ledger: &Ledger) -> io::Result<()> {
        if self.records < FEWEST_RECORDS.max(RECORDS_PER_ENTRY * ledger.len()) {
            return Ok(());
        }
        (self.file, self.length) = rewrite(&self.path, ledger, &self.boot_id)?;
        self.records = ledger.snapshot().len();
        Ok(())
    }
}

fn rewrite(path: &Path, ledger: &Ledger, boot_id: &str) -> io::Result<(File, u64)> {
    let bytes = compact(ledger, boot_id);
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    std::fs::rename(&new, path)?;
    Ok((OpenOptions::new().append(true).open(path)?, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_cni::attachment::{Addresses, Attachment, AttachmentId, Mac, NetnsId};

    use super::*;

    struct RunDir(PathBuf);

    impl RunDir {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("weft-journal-{name}-{}", std::process::id())))
        }
    }

    impl Drop for RunDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn life(n: u8) -> [Record; 2] {
        let id = AttachmentId { container_id: format!("c{n}"), ifname: "eth0".to_owned() };
        let addresses = Addresses { v4: Some([10, 0, 0, n].into()), v6: None };
        let attachment = Attachment {
            id: id.clone(),
            link: format!("weft{n:011x}"),
            ifindex: 0,
            pod: None,
            addresses,
            mac: Mac::of_pod(&addresses),
            netns: NetnsId(1),
            mtu: 1500,
            ports: Vec::new(),
        };
        [Record::Alloc { attachment }, Record::Free { id, at: Duration::ZERO }]
    }

    #[test]
    fn the_next_agent_reads_what_was_appended_also_after_compaction() {
        let dir = RunDir::new("read");
        let (mut journal, replay) = Journal::open(&dir.0).unwrap();
        assert_eq!(replay, Replay { ledger: Ledger::default(), damaged: false });
        let mut ledger = Ledger::default();
        let [kept, _] = life(1);
        let others = (0..FEWEST_RECORDS).flat_map(|_| life(2));
        for record in std::iter::once(kept).chain(others) {
            journal.append(&record).unwrap();
            ledger.apply(&record).unwrap();
            journal.tidy(&ledger).unwrap();
        }
        assert!(journal.records < FEWEST_RECORDS);
        drop(journal);
        assert_eq!(Journal::open(&dir.0).unwrap().1, Replay { ledger, damaged: false });
    }

    #[test]
    fn two_agents_cannot_share_a_run_directory() {
        let dir = RunDir::new("two");
        let first = Journal::open(&dir.0).unwrap();
        Journal::open(&dir.0).unwrap_err();
        drop(first);
        Journal::open(&dir.0).unwrap();
    }

    #[test]
    fn a_damaged_journal_is_kept_for_the_curious() {
        let dir = RunDir::new("damaged");
        drop(Journal::open(&dir.0).unwrap());
        let path = dir.0.join(FILE);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(Journal::open(&dir.0).unwrap().1.damaged);
        assert_eq!(std::fs::read_to_string(path.with_extension("damaged")).unwrap(), "nonsense\n");
    }
}
