//! Files changed as a whole: whoever reads them, and whoever finds them after a crash, sees the old one or the new one.
//!
//! A text is written beside its file under a name that no datastore reads and made durable; only when all are there are
//! they renamed, one by one. What is left of an attempt that was killed is removed by the next.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// How drafts begin: hidden, and short whatever the file is called.
const DRAFT: &str = ".weftctl-";

/// A directory that no other weftctl changes meanwhile.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    path: &'a Path,
    directory: File,
    /// Counts them.
    drafts: usize,
}

/// A change that needs no more than a rename.
#[derive(Debug)]
pub(super) struct Prepared {
    target: PathBuf,
    /// What the file holds; `None` where there must be none.
    before: Option<String>,
    /// What it is to hold; `None` for one that goes.
    draft: Option<Draft>,
}

impl<'a> Locked<'a> {
    /// Waits for those that were here before.
    pub(super) fn new(path: &'a Path) -> io::Result<Self> {
        // To open a pipe would be to wait for a writer.
        if !path.metadata()?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let directory = File::open(path)?;
        directory.lock()?;
        Ok(Self { path, directory, drafts: 0 })
    }

    /// Removes what those left that were killed.
    pub(super) fn clear(&self) -> io::Result<()> {
        for entry in self.path.read_dir()? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Replaces the file that holds `before`, if it does; it keeps its owner and its mode. Without `before` it is a new
    /// one, without `after` it goes.
    pub(super) fn prepare(
        &mut self,
        name: &str,
        before: Option<&str>,
        after: Option<&str>,
    ) -> io::Result<Prepared> {
        let target = self.path.join(name);
        let like = before.map(|_| std::fs::symlink_metadata(&target)).transpose()?;
        self.drafts += 1;
        let path = self.path.join(format!("{DRAFT}{}", self.drafts));
        let draft = after.map(|text| Draft::write(path, text, like.as_ref())).transpose()?;
        Ok(Prepared { target, before: before.map(str::to_owned), draft })
    }

    pub(super) fn carry_out(&self, change: Prepared) -> io::Result<()> {
        let Prepared { target, before, draft } = change;
        unchanged(&target, before.as_deref())?;
        match draft {
            Some(draft) => std::fs::rename(&draft.0, target)?,
            None => std::fs::remove_file(target)?,
        }
        self.directory.sync_all()
    }
}

/// A file that nobody reads, gone with its owner.
#[derive(Debug)]
struct Draft(PathBuf);

impl Draft {
    fn write(path: PathBuf, text: &str, like: Option<&std::fs::Metadata>) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let draft = Self(path);
        if let Some(like) = like {
            keep_owner(&file, like)?;
            file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn keep_owner(file: &File, like: &std::fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(file, Some(like.uid()), Some(like.gid()))
        .map_err(|error| io::Error::new(error.kind(), format!("its owner cannot be kept: {error}")))
}

/// An editor that saves in the instant after this loses; no file system can tell. A link instead of a rename could, of a new
/// file: but not every file system has links, and who watches the directory must look before the other name is gone.
fn unchanged(path: &Path, before: Option<&str>) -> io::Result<()> {
    let have = match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if have.as_deref() == before.map(str::as_bytes) {
        Ok(())
    } else {
        Err(io::Error::other("somebody has changed it meanwhile: try again"))
    }
}
