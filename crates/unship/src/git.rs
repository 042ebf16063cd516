//! What git says of the code that a job runs. Read through the `git` on the path; a job without a
//! repository simply has no code state.

use std::path::Path;
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
    })
}

fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .env("GIT_OPTIONAL_LOCKS", "0")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
