//! Where the cluster's files are. All of them live in one folder, `<data folder>/postgres`, open to the server's user
//! only; when that user cannot get there (root's data folder under a 0700 home), it is a link to a folder elsewhere.
//! What is in the files is left to the other modules.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::binaries::Machine;
use super::error::EmbeddedError;
use super::user::{Owner, is_root};

/// The longest path of a socket: `sun_path` has 108 bytes, the last of them zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The socket's name in its folder. No port is ever listened on; the number is only a part of this name.
pub(super) const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// The folders and files of one cluster, all absolute and without links.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The folder the user asked for.
    pub data_dir: PathBuf,
    /// The folder of everything below except, when its path would be too long, of the socket.
    pub home: PathBuf,
    /// The server's user.
    pub owner: Owner,
    /// PostgreSQL's own data folder.
    pub data: PathBuf,
    /// The data folder while initdb works on it.
    pub init: PathBuf,
    /// The folder of the socket.
    pub socket_dir: PathBuf,
    pub log: PathBuf,
    pub start_lock: PathBuf,
    pub users_lock: PathBuf,
    pub server_lock: PathBuf,
}

impl Layout {
    /// The layout under this data folder, made where it does not exist.
    pub fn create(data_dir: &Path, machine: &Machine) -> Result<Self, EmbeddedError> {
        std::fs::create_dir_all(data_dir)
            .map_err(EmbeddedError::path("create the data folder", data_dir))?;
        let data_dir = data_dir
            .canonicalize()
            .map_err(EmbeddedError::path("open the data folder", data_dir))?;
        let link = data_dir.join("postgres");
        let (home, owner) = match existing_home(&link, machine)? {
            Some(found) => found,
            None => {
                make_home(&data_dir, &link, machine)?;
                // Looked up again, since another process may have made it first and otherwise.
                existing_home(&link, machine)?.ok_or_else(|| {
                    EmbeddedError::refused(&link, "it was removed while it was being made")
                })?
            }
        };
        Self::of(data_dir, home, owner, machine)
    }

    /// The layout under this data folder if there is one; nothing is made.
    pub fn find(data_dir: &Path, machine: &Machine) -> Result<Option<Self>, EmbeddedError> {
        let data_dir = match data_dir.canonicalize() {
            Ok(data_dir) => data_dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(EmbeddedError::path("open the data folder", data_dir)(cause)),
        };
        let Some((home, owner)) = existing_home(&data_dir.join("postgres"), machine)? else {
            return Ok(None);
        };
        Self::of(data_dir, home, owner, machine).map(Some)
    }

    fn of(
        data_dir: PathBuf,
        home: PathBuf,
        owner: Owner,
        machine: &Machine,
    ) -> Result<Self, EmbeddedError> {
        let mut socket_dir = home.join("run");
        if socket_dir.join(SOCKET_NAME).as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            socket_dir = machine.short_root.join(format!("nexus-{}", name_of(&home)));
        }
        make_private(&socket_dir, &owner)?;
        Ok(Self {
            data: home.join("data"),
            init: home.join("data.init"),
            log: home.join("server.log"),
            start_lock: home.join("start.lock"),
            users_lock: home.join("users.lock"),
            server_lock: home.join("server.lock"),
            data_dir,
            home,
            owner,
            socket_dir,
        })
    }
}

/// The folder behind `<data folder>/postgres`, and its owner, whom the server then runs as. A link is followed, so that
/// the data can be moved to another disk.
fn existing_home(
    link: &Path,
    machine: &Machine,
) -> Result<Option<(PathBuf, Owner)>, EmbeddedError> {
    let link_meta = match link.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(EmbeddedError::path("open", link)(cause)),
    };
    let home = link.canonicalize().map_err(|cause| {
        let target = std::fs::read_link(link).unwrap_or_default();
        let why = format!("it links to {}, which cannot be opened: {cause}; bring it back, or remove the link to start with no data", target.display());
        EmbeddedError::refused(link, why)
    })?;
    let meta = home
        .metadata()
        .map_err(EmbeddedError::path("open", &home))?;
    if !meta.is_dir() {
        return Err(EmbeddedError::refused(&home, "it is not a folder"));
    }
    let me = Owner::this_process();
    if !is_root() && meta.uid() != me.uid {
        let why = format!(
            "it belongs to user {}: run as that user or as root, or choose another data folder",
            meta.uid()
        );
        return Err(EmbeddedError::refused(&home, why));
    }
    if link_meta.is_symlink() && link_meta.uid() != 0 && link_meta.uid() != meta.uid() {
        // Somebody else's link could lead root into any folder.
        return Err(EmbeddedError::refused(
            link,
            "the link and the folder behind it belong to different users",
        ));
    }
    let mut owner = Owner {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    if is_root() && meta.uid() == 0 {
        // Root's own and empty: it was just made, here or by a process that was killed before it gave it away.
        let given_meanwhile = || home.metadata().is_ok_and(|meta| meta.uid() != 0);
        if !is_empty(&home)? && !given_meanwhile() {
            let why = "it belongs to root and PostgreSQL refuses to run as root: give it and all in it to another user, or choose another data folder";
            return Err(EmbeddedError::refused(&home, why));
        }
        owner = Owner::for_root(&machine.passwd)?;
        owner.give(&home)?;
    }
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(&home, Permissions::from_mode(0o700))
            .map_err(EmbeddedError::path("close to other users", &home))?;
    }
    if !owner.can_enter(&home)? {
        let why = format!(
            "user {}, to whom it belongs, is not allowed to pass a folder above it",
            owner.uid
        );
        return Err(EmbeddedError::refused(&home, why));
    }
    Ok(Some((home, owner)))
}

/// Makes `<data folder>/postgres`; that another process does the same is no error.
fn make_home(data_dir: &Path, link: &Path, machine: &Machine) -> Result<(), EmbeddedError> {
    let owner = if is_root() {
        Owner::for_root(&machine.passwd)?
    } else {
        Owner::this_process()
    };
    if owner.can_enter(data_dir)? {
        return make_folder(link, 0o700);
    }
    // The name follows from the path alone, so that processes that start at once make the same folder; afterwards the
    // link decides.
    let elsewhere = machine.fallback_root.join(name_of(data_dir));
    make_folder(&machine.fallback_root, 0o755)?;
    let meta = machine
        .fallback_root
        .symlink_metadata()
        .map_err(EmbeddedError::path("open", &machine.fallback_root))?;
    if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(EmbeddedError::refused(
            &machine.fallback_root,
            "it must be a folder that only root may write to",
        ));
    }
    make_folder(&elsewhere, 0o700)?;
    match symlink(&elsewhere, link) {
        Ok(()) => {
            tracing::info!(
                data_dir = %data_dir.display(), elsewhere = %elsewhere.display(), uid = owner.uid,
                "the database server's user may not enter the data folder; its data is kept elsewhere"
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(EmbeddedError::path("create", link)(cause)),
    }
}

/// Makes a folder of the owner alone and checks that it is one, whoever made it.
fn make_private(path: &Path, owner: &Owner) -> Result<(), EmbeddedError> {
    make_folder(path, 0o700)?;
    let look = || {
        path.symlink_metadata()
            .map_err(EmbeddedError::path("open", path))
    };
    let mut meta = look()?;
    if owner.differs() && meta.is_dir() && meta.uid() == 0 {
        if is_empty(path)? {
            owner.give(path)?;
        }
        // Also when it is not empty: another process may just have given it away and used it.
        meta = look()?;
    }
    if !meta.is_dir() || meta.uid() != owner.uid || meta.mode() & 0o077 != 0 {
        let why = format!(
            "it must be a folder of user {} that nobody else may enter",
            owner.uid
        );
        return Err(EmbeddedError::refused(path, why));
    }
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(EmbeddedError::path("create the folder", path)(cause)),
    }
}

pub(super) fn is_empty(folder: &Path) -> Result<bool, EmbeddedError> {
    let mut entries =
        std::fs::read_dir(folder).map_err(EmbeddedError::path("read the folder", folder))?;
    Ok(entries.next().is_none())
}

/// Whether both paths are the same folder, links and mounts seen through. A path that cannot be opened is no folder.
pub(super) fn same_folder(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}

/// A short name that follows from a path and stays the same in all versions: FNV-1a, 64 bits. Who meets a folder of this
/// name checks its owner, and an answering server its data folder, so nothing rests on names being distinct.
fn name_of(path: &Path) -> String {
    let hash = path
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_path_never_changes() {
        // The published test vector of FNV-1a for "foobar": a change here would lose people's data folders.
        assert_eq!(name_of(Path::new("foobar")), "85944171f73967e8");
    }
}
