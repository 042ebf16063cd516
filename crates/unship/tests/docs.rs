//! Runs the commands that the book shows, in the order of its table of contents, in one scratch
//! directory, and compares what they print with what the book says that they print.
//!
//! A block is a command session if its language is `console`: lines that begin with `$ ` are run,
//! the lines below are expected. After the language may stand `exit=N` (the last command's exit
//! code), `head=N` and `tail=N` (only so much of its output is shown). `<!-- run: … -->` runs
//! something that is not shown. `UNSHIP_DOCS_BLESS=1` writes what was printed into the book.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands in the book for the scratch directory, and for who acts.
const HOME: &str = "/home/ana";
const ACTOR: &str = "ana@laptop";

/// What the book leaves out.
const GAP: &str = "...";

struct Shell {
    home: PathBuf,
    python: PathBuf,
    cwd: PathBuf,
    path: String,
}

impl Shell {
    /// Runs one command as a person at a prompt would, and gives what it printed.
    fn run(&mut self, line: &str) -> (i32, String) {
        let end = self.home.join(".cwd");
        let script = format!(
            "{{ {line}\n}} 2>&1; code=$?; pwd >{}; exit $code",
            end.display()
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(&self.cwd)
            .env("HOME", &self.home)
            .env("PATH", &self.path)
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GIT_AUTHOR_NAME", "Ana")
            .env("GIT_AUTHOR_EMAIL", "ana@example.com")
            .env("GIT_COMMITTER_NAME", "Ana")
            .env("GIT_COMMITTER_EMAIL", "ana@example.com")
            .env_remove("SHOP_DB")
            .env_remove("SHOP_TARGET")
            .output()
            .unwrap();
        if let Ok(cwd) = fs::read_to_string(&end) {
            self.cwd = PathBuf::from(cwd.trim_end());
        }
        let text = plain(&String::from_utf8_lossy(&output.stdout));
        (
            output.status.code().unwrap_or(-1),
            self.as_in_the_book(&text),
        )
    }

    fn as_in_the_book(&self, text: &str) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let actor = format!(
            "{}@{}",
            String::from_utf8_lossy(&user.stdout).trim(),
            host.trim()
        );
        text.replace(self.home.to_str().unwrap(), HOME)
            .replace(&actor, ACTOR)
            .replace(self.python.to_str().unwrap(), &format!("{HOME}/.venv/bin"))
            .replace(".venv/bin/python3 ", ".venv/bin/python ")
    }
}

/// Text without colours: dbt resets them even where it sets none.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        out.push_str(
            part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
                .strip_prefix('m')
                .unwrap_or(part),
        );
        out
    })
}

/// A fenced block, or a hidden command, and where it stands.
struct Block {
    line: usize,
    options: Vec<(String, usize)>,
    body: Vec<String>,
    /// The lines of the page that are its body.
    lines: std::ops::Range<usize>,
}

impl Block {
    fn option(&self, name: &str) -> Option<usize> {
        self.options
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| *v)
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(rest) = line.strip_prefix("```console") {
            let options = rest.split_whitespace().filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.parse().expect("a number")))
            });
            let end = (at + 1..lines.len())
                .find(|i| lines[*i] == "```")
                .expect("an end of the block");
            out.push(Block {
                line: at + 1,
                options: options.collect(),
                body: lines[at + 1..end].iter().map(|l| (*l).to_owned()).collect(),
                lines: at + 1..end,
            });
            at = end;
        } else if let Some(hidden) = line.strip_prefix("<!-- run: ") {
            let command = hidden.strip_suffix(" -->").expect("an end of the comment");
            out.push(Block {
                line: at + 1,
                options: Vec::new(),
                body: vec![format!("$ {command}"), GAP.to_owned()],
                lines: 0..0,
            });
        }
        at += 1;
    }
    out
}

/// The commands of a block, each with the output that is expected of it.
fn commands(body: &[String]) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for line in body {
        match (line.strip_prefix("$ "), out.last_mut()) {
            (Some(command), _) => out.push((command.to_owned(), Vec::new())),
            (None, Some((_, expected))) => expected.push(line.clone()),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    out
}

/// A line without what differs from run to run: times, durations, sizes, hashes, widths,
/// and how many entries the ledger took.
fn settled(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut out = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let unit = |w: &&str| {
            let w = w.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            matches!(
                w,
                "ms" | "s"
                    | "min"
                    | "B"
                    | "KiB"
                    | "MiB"
                    | "GiB"
                    | "MB"
                    | "second"
                    | "seconds"
                    | "minute"
                    | "minutes"
                    | "entries"
                    | "blobs"
            )
        };
        let next_is_unit = words.get(i + 1).is_some_and(unit);
        let digits = core.chars().filter(char::is_ascii_digit).count();
        let only = |extra: &str| {
            core.chars()
                .all(|c| c.is_ascii_digit() || extra.contains(c))
        };
        let moment = core.contains([':', '-']) && digits >= 6 && (only(":.") || only("-"))
            || core.ends_with('Z') && core.contains('T') && digits > 12;
        let hash = core.len() >= 8 && core.chars().all(|c| c.is_ascii_hexdigit());
        let version = core.split('.').count() == 3 && only(".") && !moment;
        out.push(if version {
            "<version>".to_owned()
        } else if moment {
            "<time>".to_owned()
        } else if hash {
            "<hash>".to_owned()
        } else if digits > 0 && only(".") && (next_is_unit || words.first() == Some(&"seq:")) {
            "<n>".to_owned()
        } else if unit(word) {
            "<unit>".to_owned()
        } else {
            (*word).to_owned()
        });
    }
    out.join(" ")
}

/// Whether what was printed is what is expected; a gap stands for any lines.
fn matches(expected: &[String], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        [gap, rest @ ..] if gap == GAP => (0..=printed.len()).any(|n| matches(rest, &printed[n..])),
        [line, rest @ ..] => printed.split_first().is_some_and(|(first, others)| {
            settled(first) == settled(line) && matches(rest, others)
        }),
    }
}

/// What the book shows of what was printed.
fn shown<'a>(printed: &[&'a str], head: Option<usize>, tail: Option<usize>) -> Vec<&'a str> {
    if head.is_none() && tail.is_none() {
        return printed.to_vec();
    }
    let (head, tail) = (head.unwrap_or(0), tail.unwrap_or(0));
    if printed.len() <= head + tail {
        return printed.to_vec();
    }
    let mut out = printed[..head].to_vec();
    out.push(GAP);
    out.extend(&printed[printed.len() - tail..]);
    out
}

/// The pages in the order of the table of contents.
fn pages(source: &Path) -> Vec<PathBuf> {
    let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap();
    let links = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    links
        .filter(|l| l.ends_with(".md"))
        .map(|l| source.join(l))
        .collect()
}

fn tool(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?);
    path.is_file().then_some(path)
}

#[test]
fn the_commands_in_the_book_do_what_it_says() {
    let (Some(python), Some(dbt)) = (tool("UNSHIP_TEST_PYTHON"), tool("UNSHIP_TEST_DBT")) else {
        unship_core::testing::skipped(
            "UNSHIP_TEST_PYTHON and UNSHIP_TEST_DBT name no Python and no dbt",
        );
        return;
    };
    let bless = std::env::var_os("UNSHIP_DOCS_BLESS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path().canonicalize().unwrap();
    fs::create_dir(home.join("unship")).unwrap();
    std::os::unix::fs::symlink(root.join("demo"), home.join("unship/demo")).unwrap();
    let unship = Path::new(env!("CARGO_BIN_EXE_unship"));
    let path = [unship, &python, &dbt].map(|p| p.parent().unwrap().display().to_string());
    let mut shell = Shell {
        cwd: home.join("unship"),
        home,
        python: python.parent().unwrap().to_owned(),
        path: format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap()),
    };

    // Where clones share blocks a plan has other steps; then only the exit codes are compared.
    let cloning = shell.run("echo >a && cp --reflink=always a b").0 == 0;

    let mut wrong = Vec::new();
    for page in pages(&root.join("docs/src")) {
        let text = fs::read_to_string(&page).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let blocks = blocks(&text);
        let mut rewritten = Vec::new();
        for block in &blocks {
            let place = format!(
                "{}:{}",
                page.strip_prefix(&root).unwrap().display(),
                block.line
            );
            let mut body = Vec::new();
            let commands = commands(&block.body);
            for (i, (command, expected)) in commands.iter().enumerate() {
                let (code, printed) = shell.run(command);
                let last = i + 1 == commands.len();
                let wanted = if last {
                    block.option("exit").unwrap_or(0)
                } else {
                    0
                };
                let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
                if i32::try_from(wanted) != Ok(code) {
                    wrong.push(format!(
                        "{place}: `{command}` exited with {code}, not {wanted}:\n{}",
                        printed.join("\n")
                    ));
                }
                if !bless && !cloning && !matches(expected, &printed) {
                    wrong.push(format!(
                        "{place}: `{command}` printed\n{}\nand not\n{}",
                        printed.join("\n"),
                        expected.join("\n")
                    ));
                }
                let (head, tail) = (block.option("head"), block.option("tail"));
                body.push(format!("$ {command}"));
                body.extend(shown(&printed, head, tail).into_iter().map(str::to_owned));
            }
            rewritten.push((block.lines.clone(), body));
        }
        if bless && !rewritten.is_empty() {
            for (range, body) in rewritten
                .into_iter()
                .rev()
                .filter(|(range, _)| range.start > 0)
            {
                lines.splice(range, body);
            }
            fs::write(&page, lines.join("\n") + "\n").unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the book's commands do something else:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Every page is in the table of contents, and every link between pages leads somewhere.
#[test]
fn the_book_hangs_together() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    let source = root.join("docs/src");
    let listed = pages(&source);
    let mut files = vec![root.join("README.md")];
    let mut dirs = vec![source.clone(), root.join("docs/adr")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                files.push(path);
            }
        }
    }
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let is_page = file.starts_with(&source) && !file.ends_with("SUMMARY.md");
        if is_page && !listed.contains(file) {
            wrong.push(format!("{name} is not in SUMMARY.md"));
        }
        let text = fs::read_to_string(file).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere =
                target.contains("://") || target.starts_with("mailto:") || path.is_empty();
            if !elsewhere && !file.parent().unwrap().join(path).exists() {
                wrong.push(format!("{name} links to {target}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
