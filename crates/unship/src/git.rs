//! What git says of the code that a job runs. Read through the `git` on the path; a job without a
//! repository simply has no code state.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use unship_core::release::Code;

/// The state of the code in a directory, if it lies in a git repository with a commit.
pub fn code(dir: &Path) -> Option<Code> {
    let head = git(dir, &["log", "-1", "--format=%H%x00%an <%ae>%x00%s"])?;
    let mut parts = head.trim_end().split('\0');
    let (commit, author, subject) = (parts.next()?, parts.next()?, parts.next().unwrap_or(""));
    let branch = git(dir, &["symbolic-ref", "--quiet", "--short", "HEAD"]);
    let diff = git(
        dir,
        &["diff", "--no-ext-diff", "--no-textconv", "HEAD", "--"],
    )
    .filter(|diff| !diff.is_empty());
    Some(Code {
        commit: commit.to_owned(),
        branch: branch.map(|b| b.trim_end().to_owned()),
        author: author.to_owned(),
        subject: subject.to_owned(),
        dirty: diff.is_some(),
        diff: diff.map(|diff| blake3::hash(diff.as_bytes()).to_hex().to_string()),
        directory: inside(dir),
    })
}

/// The root of the checkout that a directory lies in.
pub fn root(dir: &Path) -> Option<PathBuf> {
    let root = git(dir, &["rev-parse", "--show-toplevel"])?;
    let root = root.strip_suffix('\n').unwrap_or(&root);
    (!root.is_empty()).then(|| PathBuf::from(root))
}

/// Where in its checkout a directory lies; empty for the root.
pub fn inside(dir: &Path) -> Option<String> {
    let prefix = git(dir, &["rev-parse", "--show-prefix"])?;
    let prefix = prefix.strip_suffix('\n').unwrap_or(&prefix);
    Some(prefix.trim_end_matches('/').to_owned())
}

/// A setting of git's, as it holds in a directory.
pub fn setting(dir: &Path, name: &str) -> Option<String> {
    let value = git(dir, &["config", "--get", name])?;
    let value = value.trim_end();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Whether the repository around a directory has a commit.
pub fn has(dir: &Path, commit: &str) -> bool {
    git(dir, &["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_some()
}

/// Whether what is checked out around a directory is a commit, or comes after it. `None` where the
/// repository does not reach back so far, as a shallow clone does not.
pub fn comes_after(dir: &Path, commit: &str) -> Option<bool> {
    if !has(dir, commit) {
        let shallow = git(dir, &["rev-parse", "--is-shallow-repository"])?;
        // A whole repository without it does not come after it.
        return (shallow.trim() == "false").then_some(false);
    }
    Some(git(dir, &["merge-base", "--is-ancestor", commit, "HEAD"]).is_some())
}

/// Whether files are as they were in a commit, uncommitted changes counted. Paths are relative to
/// the directory; one that is in neither does not matter.
pub fn unchanged_since(dir: &Path, commit: &str, paths: &[String]) -> bool {
    let mut args = vec!["diff", "--quiet", "--no-ext-diff", commit, "--"];
    args.extend(paths.iter().map(String::as_str));
    git(dir, &args).is_some()
}

/// A commit, as a list of them has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Commit {
    /// Its hash.
    pub commit: String,
    /// Who wrote it.
    pub author: String,
    /// Its first line.
    pub subject: String,
}

/// The commits that `to` has and `from` has not, the newest first, at most `limit`.
pub fn between(dir: &Path, from: &str, to: &str, limit: usize) -> Option<Vec<Commit>> {
    // What a ledger says is not trusted to be no option of git.
    if [from, to]
        .iter()
        .any(|c| c.is_empty() || !c.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return None;
    }
    let range = format!("{from}..{to}");
    let most = format!("--max-count={limit}");
    let list = git(
        dir,
        &["log", "--format=%H%x00%an%x00%s", &most, &range, "--"],
    )?;
    let one = |line: &str| {
        let mut parts = line.split('\0');
        Some(Commit {
            commit: parts.next()?.to_owned(),
            author: parts.next()?.to_owned(),
            subject: parts.next()?.to_owned(),
        })
    };
    Some(list.lines().filter_map(one).collect())
}

/// What a checkout holds and no commit of it does, seen from its root: what git ignores, and the
/// files of this name that it does not track. Directories of which nothing is tracked are named as
/// such.
pub fn untracked(root: &Path, name: &str) -> Vec<PathBuf> {
    let others = ["ls-files", "--others", "--exclude-standard", "-z"];
    let ignored = [&others[..], &["--ignored", "--directory"]].concat();
    let pattern = format!(":(glob)**/{name}");
    let named = [&others[..], &["--", &pattern]].concat();
    let list = |args: &[&str]| output(root, args).unwrap_or_default();
    [list(&ignored), list(&named)]
        .concat()
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path))))
        .collect()
}

/// The submodules of what is checked out: where each lies, and its commit.
pub fn submodules(root: &Path) -> Vec<(PathBuf, String)> {
    let listed = git(root, &["ls-files", "--stage", "-z"]).unwrap_or_default();
    let one = |entry: &str| {
        let (facts, path) = entry.split_once('\t')?;
        let commit = facts.strip_prefix("160000 ")?.split(' ').next()?;
        Some((PathBuf::from(path), commit.to_owned()))
    };
    listed.split('\0').filter_map(one).collect()
}

/// Checks a commit out into a directory that is not there yet, beside whatever else is checked out.
/// An error is what git said.
pub fn add_worktree(root: &Path, commit: &str, to: &Path) -> Result<(), String> {
    let mut add = command(root, &["-c", "core.hooksPath=/dev/null", "worktree", "add"]);
    let add = add.args(["--detach", "--quiet"]).arg(to).arg(commit);
    let output = add.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Takes it away again, with all that is in it.
pub fn remove_worktree(root: &Path, at: &Path) {
    // A second `--force` also removes one that somebody locked.
    let mut remove = command(root, &["worktree", "remove", "--force", "--force"]);
    let _ = remove.arg(at).output();
}

fn git(dir: &Path, args: &[&str]) -> Option<String> {
    output(dir, args).map(|output| String::from_utf8_lossy(&output).into_owned())
}

fn output(dir: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let output = command(dir, args).output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .env("GIT_OPTIONAL_LOCKS", "0");
    git
}
