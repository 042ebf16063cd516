//! `[checks]` and `[[check]]` of `unship.toml`: how releases are checked, and what a project asks
//! for besides what is checked by itself.

use crate::config::FILE;
use crate::error::{CliError, CliResult};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use unship_core::check::declared::{Ask, Check as Asked, Tolerance};
use unship_core::check::{Finding, Outcome, Severity};

/// How releases are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// The least severity of a failed check that keeps a release from being published.
    #[serde(default)]
    pub hold: Hold,
    /// How many example rows a finding shows at most.
    #[serde(default = "five")]
    pub examples: u64,
    /// How long one query may take.
    #[serde(default = "five_minutes")]
    pub timeout: String,
}

/// What keeps a release from being published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// A failed check of any severity.
    Low,
    /// One of at least medium severity.
    Medium,
    /// One of high or critical severity.
    #[default]
    High,
    /// A critical one.
    Critical,
    /// Nothing: checks only tell.
    Never,
}

fn five() -> u64 {
    5
}

fn five_minutes() -> String {
    "5m".to_owned()
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            hold: Hold::default(),
            examples: five(),
            timeout: five_minutes(),
        }
    }
}

impl Checks {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A check that the project asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Check {
    /// Two figures that must be the same.
    Reconcile(Reconcile),
    /// Rows that must not be there.
    Acceptance(Acceptance),
    /// A query that somebody waits for.
    Sample(Sample),
    /// A program that says by its exit code whether all is well.
    Command(CommandCheck),
    /// The number of models of the project.
    Models(Models),
}

/// `kind = "reconcile"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "high")]
    pub severity: Severity,
    /// A query of one value.
    pub left: String,
    /// A query of the value that it must have.
    pub right: String,
    /// By how much they may differ.
    #[serde(default)]
    pub tolerance: f64,
    /// Or by which part of the larger one.
    #[serde(default)]
    pub relative_tolerance: f64,
}

/// `kind = "acceptance"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "high")]
    pub severity: Severity,
    /// The query.
    pub sql: String,
}

/// `kind = "sample"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "medium")]
    pub severity: Severity,
    /// The query.
    pub sql: String,
    /// How long it may take.
    pub ceiling: String,
}

/// `kind = "command"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandCheck {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "high")]
    pub severity: Severity,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// `kind = "models"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "high")]
    pub severity: Severity,
    /// At least so many.
    pub at_least: usize,
}

fn high() -> Severity {
    Severity::High
}

fn medium() -> Severity {
    Severity::Medium
}

impl Check {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Reconcile(c) => &c.name,
            Self::Acceptance(c) => &c.name,
            Self::Sample(c) => &c.name,
            Self::Command(c) => &c.name,
            Self::Models(c) => &c.name,
        }
    }

    /// What the warehouse is asked; `None` where a program is.
    fn asked(&self) -> CliResult<Option<Asked>> {
        let (severity, ask) = match self {
            Self::Reconcile(c) => {
                let tolerance = Tolerance {
                    absolute: c.tolerance,
                    relative: c.relative_tolerance,
                };
                let (left, right) = (c.left.clone(), c.right.clone());
                let ask = Ask::Reconcile {
                    left,
                    right,
                    tolerance,
                };
                (c.severity, ask)
            }
            Self::Acceptance(c) => {
                let sql = c.sql.clone();
                (c.severity, Ask::Acceptance { sql })
            }
            Self::Sample(c) => {
                let ceiling = duration("check.ceiling", &c.ceiling)?;
                let sql = c.sql.clone();
                (c.severity, Ask::Sample { sql, ceiling })
            }
            Self::Models(c) => (c.severity, Ask::Models { least: c.at_least }),
            Self::Command(_) => return Ok(None),
        };
        Ok(Some(Asked {
            name: self.name().to_owned(),
            severity,
            ask,
        }))
    }
}

/// The checks as core runs them.
pub fn checks(settings: &Checks, declared: &[Check]) -> CliResult<unship_core::operate::Checks> {
    let mut asked = Vec::new();
    for check in declared {
        asked.extend(check.asked()?);
    }
    Ok(unship_core::operate::Checks {
        declared: asked,
        examples: settings.examples,
        timeout: duration("checks.timeout", &settings.timeout)?,
        hold: match settings.hold {
            Hold::Low => Some(Severity::Low),
            Hold::Medium => Some(Severity::Medium),
            Hold::High => Some(Severity::High),
            Hold::Critical => Some(Severity::Critical),
            Hold::Never => None,
        },
    })
}

/// Runs the checks that are programs: in the project's root, with what a job is told of the build.
pub fn commands(declared: &[Check], root: &Path, env: &BTreeMap<String, String>) -> Vec<Finding> {
    let programs = declared.iter().filter_map(|check| match check {
        Check::Command(check) => Some(check),
        _ => None,
    });
    programs.map(|check| command(check, root, env)).collect()
}

fn command(check: &CommandCheck, root: &Path, env: &BTreeMap<String, String>) -> Finding {
    let shown = shell_words::join(crate::secrets::masked(&check.command));
    let ended = match check.command.split_first() {
        Some((program, args)) => Command::new(program)
            .args(args)
            .current_dir(root)
            .envs(env)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot be started: {e}")),
        None => Err("names no program".to_owned()),
    };
    let (outcome, observed) = match ended {
        Ok(ended) if ended.status.success() => (Outcome::Pass, "exit code 0".to_owned()),
        Ok(ended) => {
            let said = [&ended.stderr, &ended.stdout];
            let said = said.iter().find_map(|text| {
                let text = String::from_utf8_lossy(text);
                let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
                Some(line.chars().take(200).collect::<String>())
            });
            let how = ended.status.to_string();
            let observed = match said {
                Some(line) => format!("{how}: {line}"),
                None => how,
            };
            (Outcome::Fail, observed)
        }
        Err(error) => (Outcome::Unknown, error),
    };
    Finding {
        check: check.name.clone(),
        relation: None,
        column: None,
        outcome,
        severity: check.severity,
        observed,
        expected: format!("`{shown}` ends with exit code 0"),
        examples: None,
        sql: None,
    }
}

/// A time as people write it (`30d`, `12h`, `500ms`).
pub fn time(key: &str, text: &str) -> CliResult<SignedDuration> {
    let wrong = |why: String| {
        CliError::usage(format!("{key} = {text:?} in {FILE} {why}"))
            .hint("write it like 30d, 12h or 2w")
    };
    let span: SignedDuration = text.parse().or_else(|_| {
        let span: jiff::Span = text
            .parse()
            .map_err(|e| wrong(format!("is not a time: {e}")))?;
        // A day of 24 hours: nobody means a retention to depend on daylight saving.
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
            .map_err(|_| wrong("has months or years, which differ in length".to_owned()))
    })?;
    match span.is_negative() {
        true => Err(wrong("is less than no time".to_owned())),
        false => Ok(span),
    }
}

fn duration(key: &str, text: &str) -> CliResult<Duration> {
    Ok(time(key, text)?.unsigned_abs())
}
