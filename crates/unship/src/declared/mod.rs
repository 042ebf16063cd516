//! `[checks]` and `[[check]]` of `unship.toml`: how releases are checked, and what a project asks
//! for besides what is checked by itself.

mod elsewhere;
mod outside;

pub use outside::outside;

use crate::config::FILE;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use unship_core::check::Severity;
use unship_core::check::declared::{Ask, Check as Asked, Tolerance};

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
    /// An application that says over HTTP whether it is well.
    Http(Http),
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
    /// A query of the value that it must have; the same query, where another environment is asked
    /// and nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<String>,
    /// The environment whose live release answers the latter; this one, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<String>,
    /// How many times as long it may take as in the median of earlier good releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regression: Option<f64>,
}

/// `kind = "http"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Its name.
    pub name: String,
    /// How bad it is if it fails.
    #[serde(default = "high")]
    pub severity: Severity,
    /// The address, without a login. What follows a `?` is shown by nothing.
    pub url: String,
    /// The status that it must answer with; any of 200 to 299, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it may take.
    #[serde(default = "ten_seconds")]
    pub timeout: String,
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

fn ten_seconds() -> String {
    "10s".to_owned()
}

impl Check {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Reconcile(c) => &c.name,
            Self::Acceptance(c) => &c.name,
            Self::Sample(c) => &c.name,
            Self::Command(c) => &c.name,
            Self::Http(c) => &c.name,
            Self::Models(c) => &c.name,
        }
    }

    /// What is wrong with it, if anything; `known` says whether there is such an environment.
    pub fn wrong(&self, known: impl Fn(&str) -> bool) -> Option<String> {
        let why = match self {
            Self::Reconcile(c) => match (&c.environment, &c.right) {
                (None, None) => Some(
                    "says neither `right` nor `environment`, and has nothing to compare with"
                        .to_owned(),
                ),
                (Some(env), _) if !known(env) => Some(format!(
                    "names the environment `{env}`, and there is no [env.{env}]"
                )),
                _ => None,
            },
            Self::Sample(c) => match (&c.ceiling, c.regression) {
                (None, None) => Some("says neither `ceiling` nor `regression`".to_owned()),
                (_, Some(times)) if !(times > 1.0 && times.is_finite()) => Some(format!(
                    "has regression = {times}; 2.0 is twice as long as before"
                )),
                _ => None,
            },
            Self::Http(c) => outside::wrong_address(&c.url),
            Self::Acceptance(_) | Self::Command(_) | Self::Models(_) => None,
        };
        why.map(|why| format!("check `{}` {why}", self.name()))
    }

    /// What the warehouse is asked; `None` where something else is.
    fn asked(&self, context: &Context) -> CliResult<Option<Asked>> {
        let (severity, ask) = match self {
            Self::Reconcile(c) => {
                let tolerance = Tolerance {
                    absolute: c.tolerance,
                    relative: c.relative_tolerance,
                };
                let other = c.environment.as_deref();
                let ask = Ask::Reconcile {
                    left: c.left.clone(),
                    right: c.right.clone().unwrap_or_else(|| c.left.clone()),
                    elsewhere: other.map(|env| elsewhere::at(context, env)).transpose()?,
                    tolerance,
                };
                (c.severity, ask)
            }
            Self::Acceptance(c) => {
                let sql = c.sql.clone();
                (c.severity, Ask::Acceptance { sql })
            }
            Self::Sample(c) => {
                let ceiling = c.ceiling.as_deref();
                let ask = Ask::Sample {
                    sql: c.sql.clone(),
                    ceiling: ceiling
                        .map(|text| duration("check.ceiling", text))
                        .transpose()?,
                    regression: c.regression,
                };
                (c.severity, ask)
            }
            Self::Models(c) => (c.severity, Ask::Models { least: c.at_least }),
            Self::Command(_) | Self::Http(_) => return Ok(None),
        };
        Ok(Some(Asked {
            name: self.name().to_owned(),
            severity,
            ask,
        }))
    }
}

/// The project's checks, as core runs them.
pub fn checks(context: &Context) -> CliResult<unship_core::operate::Checks> {
    let settings = &context.config.checks;
    let mut asked = Vec::new();
    for check in &context.config.declared {
        asked.extend(check.asked(context)?);
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
