//! The code of another commit, for as long as one job needs it: a git worktree in a temporary
//! directory, in which everything else is where the job found it in the checkout.

use crate::error::{CliError, CliResult, exit, io_error};
use crate::git;
use crate::pipeline::dbt::profile::PROFILES;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A commit, checked out. Dropping takes it away.
///
/// Code comes from the commit. What git does not track (the database, `dbt_packages`, a virtual
/// environment, `.env`) cannot, so it is linked from the checkout; so is what lies around the
/// checkout, for a path that leads out of it (`../data/shop.duckdb`). The worktree therefore lies in
/// the temporary directory as deep as the checkout lies in the file system.
pub struct Worktree {
    checkout: PathBuf,
    root: PathBuf,
    place: TempDir,
}

impl Worktree {
    /// Checks a commit out that the repository of a checkout has.
    pub fn of(checkout: &Path, commit: &str) -> CliResult<Self> {
        let temporary = std::env::temp_dir();
        let made = "create a directory in";
        let place = tempfile::Builder::new()
            .prefix("unship-replay-")
            .tempdir_in(&temporary)
            .map_err(io_error(made, &temporary))?;
        let lies = place.path().canonicalize();
        let base = lies.map_err(io_error("find", place.path()))?.join("code");
        let root = copy_of(&base, checkout);
        around(&base, checkout)?;
        git::add_worktree(checkout, commit, &root).map_err(|said| {
            CliError::failed(format!("git cannot check {commit} out: {said}"))
                .hint("`--fixed-code` runs what is checked out already")
        })?;
        let worktree = Self {
            checkout: checkout.to_owned(),
            root,
            place,
        };
        worktree.link_untracked()?;
        worktree.link_submodules()?;
        Ok(worktree)
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory for what is of no use without it.
    pub fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    /// Where something of the checkout is here.
    pub fn here(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.checkout) {
            Ok(rest) => below(&self.root, rest),
            Err(_) => path.to_owned(),
        }
    }

    /// Where something that is here is in the checkout.
    pub fn in_checkout(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(rest) => below(&self.checkout, rest),
            Err(_) => path.to_owned(),
        }
    }

    /// Whether the commit has a file, or files in a directory, that a path of the checkout names.
    pub fn tracks(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.checkout) else {
            return false;
        };
        // What is linked is the checkout's own.
        let own = |path: &Path| path.symlink_metadata().is_ok_and(|m| !m.is_symlink());
        let mut at = self.root.clone();
        rest.components().all(|part| {
            at.push(part);
            own(&at)
        })
    }

    /// Lets a directory that the job writes be one of its own, and not the checkout's.
    pub fn unlink(&self, path: &Path) -> CliResult<()> {
        if path.starts_with(&self.root) && path.is_symlink() {
            std::fs::remove_file(path).map_err(io_error("remove", path))?;
        }
        Ok(())
    }

    fn link_untracked(&self) -> CliResult<()> {
        for path in git::untracked(&self.checkout, PROFILES) {
            // Restore points, and the ledger: nothing of it is for jobs.
            let own = path.components().any(|part| part.as_os_str() == ".unship");
            let to = self.root.join(&path);
            if own || to.symlink_metadata().is_ok() {
                continue;
            }
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            }
            link(&self.checkout.join(&path), &to)?;
        }
        Ok(())
    }

    /// A worktree comes without its submodules, and they may not be at hand anywhere else.
    fn link_submodules(&self) -> CliResult<()> {
        for (path, commit) in git::submodules(&self.root) {
            let there = self.checkout.join(&path);
            let is_it = |code: unship_core::release::Code| code.commit == commit && !code.dirty;
            if !git::code(&there).is_some_and(is_it) {
                let path = path.display();
                return Err(CliError::new(
                    exit::REFUSED,
                    format!("the submodule {path} is not checked out at {commit}, as it was then"),
                )
                .hint(format!(
                    "check it out (`git -C {path} checkout {commit}`), or `--fixed-code`"
                )));
            }
            let here = self.root.join(&path);
            if here.is_dir() {
                std::fs::remove_dir(&here).map_err(io_error("remove", &here))?;
            }
            link(&there, &here)?;
        }
        Ok(())
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        // Neither follows links. The directory around it goes with `place`.
        git::remove_worktree(&self.checkout, &self.root);
    }
}

/// A path below a directory, written as a person would: a join with nothing adds a slash.
pub fn below(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path).components().collect()
}

/// Where a path of the file system is below another root.
fn copy_of(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

/// Links to what lies beside a checkout, and beside each directory above it.
fn around(base: &Path, checkout: &Path) -> CliResult<()> {
    for dir in checkout.ancestors().skip(1) {
        let copy = copy_of(base, dir);
        std::fs::create_dir_all(&copy).map_err(io_error("create", &copy))?;
        // What cannot be listed cannot be linked; a job that needs it will say so.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !checkout.starts_with(&path) {
                link(&path, &copy.join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> CliResult<()> {
    symlink(from, to).map_err(io_error("make the link", to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn git(dir: &Path, words: &str) {
        let out = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(out.status.success(), "{words}: {out:?}");
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn code_is_the_commits_and_all_else_is_what_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = dir.path().canonicalize().unwrap().join("repo");
        write(&checkout, ".gitignore", "*.db\n/packages/\n/out/\n");
        write(&checkout, "models/a.sql", "then");
        git(&checkout, "init -q .");
        git(&checkout, "add -A");
        git(&checkout, "commit -qm then");
        let then = git::code(&checkout).unwrap().commit;
        write(&checkout, "models/a.sql", "now");
        write(&checkout, "models/new.sql", "now");
        write(&checkout, "profiles.yml", "mine");
        write(&checkout, "w.db", "production");
        write(&checkout, "packages/p/x.sql", "package");
        write(&checkout, "out/manifest.json", "checkout");
        write(&checkout, ".unship/.gitignore", "*");
        write(dir.path(), "data/raw.csv", "rows");

        let worktree = Worktree::of(&checkout, &then).unwrap();
        let root = worktree.root().to_owned();
        let read = |name: &str| fs::read_to_string(root.join(name)).ok();
        for (name, text) in [
            ("models/a.sql", Some("then")),
            ("models/new.sql", None),
            ("profiles.yml", Some("mine")),
            ("w.db", Some("production")),
            ("packages/p/x.sql", Some("package")),
            ("../data/raw.csv", Some("rows")),
            (".unship/.gitignore", None),
        ] {
            assert_eq!(read(name).as_deref(), text, "{name}");
        }
        let real = root.join("w.db").canonicalize().unwrap();
        assert_eq!(real, checkout.join("w.db"));
        assert_eq!(worktree.here(&checkout.join("p")), root.join("p"));
        assert_eq!(worktree.in_checkout(&root.join("p")), checkout.join("p"));
        assert!(worktree.tracks(&checkout.join("models")));
        assert!(!worktree.tracks(&checkout.join("packages/p/x.sql")));
        assert!(!worktree.tracks(&dir.path().join("data")));

        // What the job writes where it has a directory of its own stays out of the checkout.
        worktree.unlink(&root.join("out")).unwrap();
        write(&root, "out/manifest.json", "job");
        drop(worktree);
        assert!(!root.exists());
        let kept = fs::read_to_string(checkout.join("out/manifest.json"));
        assert_eq!(kept.unwrap(), "checkout");
        assert!(
            checkout.join("packages/p/x.sql").exists(),
            "links are not followed"
        );
        assert!(dir.path().join("data/raw.csv").exists());
        let known = Command::new("git")
            .arg("-C")
            .arg(&checkout)
            .args(["worktree", "list"])
            .output();
        assert_eq!(
            String::from_utf8(known.unwrap().stdout)
                .unwrap()
                .lines()
                .count(),
            1
        );
        assert!(Worktree::of(&checkout, "0000000").is_err());
    }

    #[test]
    fn a_submodule_must_be_there_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (library, checkout) = (base.join("library"), base.join("repo"));
        write(&library, "macros/m.sql", "macro");
        git(&base, "init -q library");
        git(&library, "add -A");
        git(&library, "commit -qm one");
        git(&base, "init -q repo");
        git(
            &checkout,
            "-c protocol.file.allow=always submodule --quiet add ../library lib",
        );
        git(&checkout, "commit -qm with");
        let commit = git::code(&checkout).unwrap().commit;
        let worktree = Worktree::of(&checkout, &commit).unwrap();
        assert!(worktree.root().join("lib/macros/m.sql").exists());
        drop(worktree);
        git(&checkout.join("lib"), "commit -q --allow-empty -m two");
        let refused = Worktree::of(&checkout, &commit).err().unwrap();
        assert!(refused.message.contains("submodule lib"), "{refused:?}");
    }
}
