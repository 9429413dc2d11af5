//! The journal's file: one writer, appends in one piece, compaction by rename. What it says is [`weft_pods::journal`]'s.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use weft_pods::journal::{Replay, compact, encode, replay};
use weft_pods::ledger::Ledger;
use weft_pods::record::Record;

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
    boot_id: String,
    /// `None`: the file says something else than the ledger, and is to be written anew before anything is allocated.
    current: Option<Current>,
    _lock: Flock<File>,
}

#[derive(Debug)]
struct Current {
    file: File,
    records: usize,
}

impl Journal {
    /// Reads what a former agent wrote, and leaves it as it is until [`Journal::catch_up`]: killed before that, the next
    /// agent finds what this one found.
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
        if replay.damaged
            && let Err(error) = std::fs::write(path.with_extension("damaged"), &bytes)
        {
            tracing::warn!(path = %path.display(), %error, "damaged journal not copied");
        }
        Ok((Self { path, boot_id, current: None, _lock: lock }, replay))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file say what `ledger` says, unless it does.
    pub(super) fn catch_up(&mut self, ledger: &Ledger) -> io::Result<()> {
        if self.current.is_none() {
            self.current = Some(self.rewrite(ledger)?);
        }
        Ok(())
    }

    /// Appends to a file that is up to date; one that is not gets the line with all others. Not synced: what it
    /// describes ends with the boot.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if let Err(error) = current.file.write_all(&encode(record)) {
            // Half a line at the end is none.
            self.current = None;
            return Err(error);
        }
        current.records += 1;
        Ok(())
    }

    /// Shortens the file when it has grown out of proportion to `ledger`.
    pub(super) fn tidy(&mut self, ledger: &Ledger) -> io::Result<()> {
        let long = FEWEST_RECORDS.max(RECORDS_PER_ENTRY * ledger.entries().len());
        if self.current.as_ref().is_some_and(|current| current.records >= long) {
            self.current = Some(self.rewrite(ledger)?);
        }
        Ok(())
    }

    fn rewrite(&self, ledger: &Ledger) -> io::Result<Current> {
        let new = self.path.with_extension("new");
        let file = start_over(&self.path, &new, &compact(ledger, &self.boot_id)).inspect_err(|_| {
            // What fills a disk must not stay.
            let _ = std::fs::remove_file(&new);
        })?;
        Ok(Current { file, records: ledger.snapshot().len() })
    }
}

/// Whole, or not at all. The file, to be continued.
fn start_over(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    std::fs::rename(new, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_pods::attachment::{Addresses, Attachment, AttachmentId, Mac, NetnsId};

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
        journal.catch_up(&ledger).unwrap();
        let [kept, _] = life(1);
        let others = (0..FEWEST_RECORDS).flat_map(|_| life(2));
        for record in std::iter::once(kept).chain(others) {
            journal.append(&record).unwrap();
            ledger.apply(&record).unwrap();
            journal.tidy(&ledger).unwrap();
        }
        assert!(journal.current.as_ref().unwrap().records < FEWEST_RECORDS);
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
        std::fs::create_dir(&dir.0).unwrap();
        let path = dir.0.join(FILE);
        std::fs::write(&path, "nonsense\n").unwrap();
        for _ in 0..2 {
            assert!(Journal::open(&dir.0).unwrap().1.damaged, "and stays damaged until links were asked");
        }
        assert_eq!(std::fs::read_to_string(path.with_extension("damaged")).unwrap(), "nonsense\n");
    }
}
