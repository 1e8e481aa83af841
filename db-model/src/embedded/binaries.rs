//! Which PostgreSQL programs are used: what `PG_BIN_DIR` names, else the newest suitable ones that are installed.
//! It knows places and versions and leaves running the programs to `cluster` and `server`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::EmbeddedError;
use super::user::Owner;

/// The major versions this launcher knows how to run.
const MAJORS: std::ops::RangeInclusive<u32> = 15..=18;

/// What the launcher looks at outside the data folder. [`Machine::this`] is right everywhere but in tests.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Folders of installed versions; programs are searched in `<root>/*/bin`.
    pub server_roots: Vec<PathBuf>,
    /// The search path, in the form of `PATH`: for `pg_config` and for the programs themselves.
    pub path: OsString,
    /// Where a root process keeps the data when the server's user cannot reach the data folder. It has to outlive a reboot.
    pub fallback_root: PathBuf,
    /// Where the socket goes when its path in the data folder would be too long.
    pub short_root: PathBuf,
    /// The file of accounts in which a root process finds the server's user.
    pub passwd: PathBuf,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        Self {
            server_roots: vec!["/usr/lib/postgresql".into()],
            path: std::env::var_os("PATH").unwrap_or_default(),
            fallback_root: "/var/lib/nexus".into(),
            short_root: "/tmp".into(),
            passwd: "/etc/passwd".into(),
        }
    }
}

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub dir: PathBuf,
    pub major: u32,
}

impl Binaries {
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Finds the programs, as the owner can run them.
///
/// `bin_dir` decides alone when it is given. `needed` is the major version of existing data and of this folder.
pub(super) fn find(
    bin_dir: Option<&Path>,
    needed: Option<(u32, &Path)>,
    machine: &Machine,
    owner: &Owner,
) -> Result<Binaries, EmbeddedError> {
    let mut found = Vec::new();
    let mut rejected = Vec::new();
    if let Some(dir) = bin_dir {
        let refuse = |why| EmbeddedError::BinDir {
            dir: dir.to_owned(),
            why,
        };
        let real = dir
            .canonicalize()
            .map_err(|error| refuse(error.to_string()))?;
        found.push(look_at(&real, owner).map_err(refuse)?);
    } else {
        for dir in installed(machine, owner) {
            match look_at(&dir, owner) {
                Ok(binaries) => found.push(binaries),
                Err(why) => rejected.push(format!("{}: {why}", dir.display())),
            }
        }
    }
    if let Some(binaries) = choose(&found, needed.map(|(major, _)| major)) {
        return Ok(binaries.clone());
    }
    match needed {
        Some((needed, data)) if !found.is_empty() => {
            let found = found
                .iter()
                .map(|binaries| format!("{} in {}", binaries.major, binaries.dir.display()));
            Err(EmbeddedError::WrongMajor {
                data: data.to_owned(),
                needed,
                found: found.collect::<Vec<_>>().join(", "),
            })
        }
        _ => {
            let roots: String = machine
                .server_roots
                .iter()
                .map(|root| format!("{}/*/bin, ", root.display()))
                .collect();
            Err(EmbeddedError::NoBinaries {
                looked: format!("PG_BIN_DIR, {roots}pg_config --bindir, PATH"),
                found: if rejected.is_empty() {
                    "nothing is there".to_owned()
                } else {
                    rejected.join("; ")
                },
            })
        }
    }
}

/// The newest one, or the one of the needed major; among equals the first place.
fn choose(found: &[Binaries], needed: Option<u32>) -> Option<&Binaries> {
    let suitable = found
        .iter()
        .filter(|binaries| needed.is_none_or(|needed| binaries.major == needed));
    // Of several greatest ones `max_by_key` takes the last.
    suitable.rev().max_by_key(|binaries| binaries.major)
}

/// The folders in which programs may be, in the order of preference, each once.
fn installed(machine: &Machine, owner: &Owner) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    for root in &machine.server_roots {
        // A root that is not there or cannot be read holds nothing for us.
        let mut versions: Vec<_> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        versions.sort();
        candidates.extend(versions.into_iter().map(|version| version.join("bin")));
    }
    let path: Vec<PathBuf> = std::env::split_paths(&machine.path)
        .filter(|dir| dir.is_absolute())
        .collect();
    for config in path
        .iter()
        .map(|dir| dir.join("pg_config"))
        .filter(|config| config.is_file())
    {
        let output = owner
            .command(&config, Path::new("/"))
            .arg("--bindir")
            .stderr(Stdio::null())
            .output();
        if let Ok(output) = output {
            let bindir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            candidates.push(bindir.into());
        }
    }
    // In PATH there may be a link to the program, while its neighbours are where it leads.
    candidates.extend(path.iter().filter_map(|dir| {
        Some(
            dir.join("postgres")
                .canonicalize()
                .ok()?
                .parent()?
                .to_owned(),
        )
    }));
    let mut seen = Vec::new();
    for dir in candidates
        .into_iter()
        .filter_map(|dir| dir.canonicalize().ok())
    {
        if !seen.contains(&dir) && dir.join("postgres").exists() {
            seen.push(dir);
        }
    }
    seen
}

/// What the folder holds, or why it is of no use. The program itself is asked, as the user it will run as.
fn look_at(dir: &Path, owner: &Owner) -> Result<Binaries, String> {
    let program = dir.join("postgres");
    if !dir.join("initdb").exists() {
        return Err("`initdb` is missing".to_owned());
    }
    let output = owner
        .command(&program, Path::new("/"))
        .arg("--version")
        .output()
        .map_err(|error| {
            format!(
                "cannot run {} as user {}: {error}",
                program.display(),
                owner.uid
            )
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    match major_of(&text) {
        Some(major) if MAJORS.contains(&major) => Ok(Binaries {
            dir: dir.to_owned(),
            major,
        }),
        Some(major) => Err(format!("it is version {major}")),
        None => Err(format!(
            "`postgres --version` answers {:?} ({})",
            text.trim(),
            output.status
        )),
    }
}

/// Reads "postgres (PostgreSQL) 15.18 (Debian ..)", also of a beta ("16beta1").
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &str, major: u32) -> Binaries {
        Binaries {
            dir: dir.into(),
            major,
        }
    }

    #[test]
    fn the_newest_wins_and_among_equals_the_first_place() {
        let found = [at("/a", 15), at("/b", 17), at("/c", 16), at("/d", 17)];
        assert_eq!(choose(&found, None), Some(&found[1]));
        assert_eq!(choose(&found, Some(16)), Some(&found[2]));
        assert_eq!(choose(&found, Some(18)), None);
    }

    #[test]
    fn the_major_is_read_from_what_the_server_prints() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("postgres (EnterpriseDB) 9.6\n"), None);
    }
}
