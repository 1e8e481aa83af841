//! Whom the server runs as: this process's own user, or for root an unprivileged one, since PostgreSQL refuses root.
//! Also the one place that builds a command for PostgreSQL's programs. Which folders that user gets is `layout`'s.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The user of the server and of all its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// The user of this process.
    pub fn this_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// The account that root runs the server as: `postgres`, else `nobody`.
    pub fn for_root(passwd: &Path) -> Result<Self, EmbeddedError> {
        let accounts =
            std::fs::read_to_string(passwd).map_err(EmbeddedError::path("read", passwd))?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| account(&accounts, name))
            .ok_or_else(|| EmbeddedError::NoServerUser {
                passwd: passwd.to_owned(),
            })
    }

    /// Whether files made by this process belong to somebody else than the owner.
    pub fn differs(&self) -> bool {
        is_root() && self.uid != 0
    }

    /// A command run as the owner, in its own process group (Ctrl-C in the terminal must not stop the database under
    /// a draining service) and without what would steer PostgreSQL from outside.
    pub fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // NOTIFY_SOCKET: a server built with systemd support would report itself ready in the service's name.
            if name.as_encoded_bytes().starts_with(b"PG") || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        command
            .env("LC_ALL", "C")
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null());
        if self.differs() {
            // For root this also drops the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether the owner may enter the folder. The kernel is asked and not the mode bits, which do not tell about access
    /// lists; `sh` is there because initdb needs it.
    pub fn can_enter(&self, folder: &Path) -> Result<bool, EmbeddedError> {
        if !self.differs() {
            return Ok(true);
        }
        let shell = Path::new("/bin/sh");
        let status = self.command(shell, folder).args(["-c", ":"]).status();
        match status {
            Ok(status) => Ok(status.success()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(cause) => Err(EmbeddedError::Run {
                program: shell.to_owned(),
                cause,
            }),
        }
    }

    /// Gives an open file of root to the owner.
    pub fn give_file(&self, file: &File, path: &Path) -> Result<(), EmbeddedError> {
        if !self.differs() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedError::path("change the owner of", path))
    }

    /// Gives a folder of root to the owner; a link is not followed.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.differs() {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedError::path("change the owner of", path))
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Finds an account by its name in the text of a passwd file.
fn account(accounts: &str, name: &str) -> Option<Owner> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        // An account that is root by another name would be refused by PostgreSQL.
        (uid != 0).then_some(Owner { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name_and_never_is_root() {
        let text = "root:x:0:0::/:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:101:104:PostgreSQL:/:/bin/bash\nbad:x\n";
        assert_eq!(
            account(text, "postgres"),
            Some(Owner { uid: 101, gid: 104 })
        );
        assert_eq!(account(text, "root"), None);
        assert_eq!(account(text, "bad"), None);
        assert_eq!(account(text, "nobody"), None);
    }
}
