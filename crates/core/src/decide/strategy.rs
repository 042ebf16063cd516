//! The four ways to deal with a bad release, always compared with the facts of this one.

use super::facts::{Back, Facts};
use crate::check::Severity;
use crate::operate::count;
use serde::{Deserialize, Serialize};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// Production points to the data of before.
    DataRollback,
    /// The code of before is run again.
    CodeRevert,
    /// The code is fixed and run.
    ForwardFix,
    /// What is wrong is switched off for whoever reads it.
    FlagOff,
}

impl StrategyKind {
    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::DataRollback => "data rollback",
            Self::CodeRevert => "code revert",
            Self::ForwardFix => "forward fix",
            Self::FlagOff => "feature flag off",
        }
    }
}

/// One way, with the facts of this incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// Which.
    pub kind: StrategyKind,
    /// Whether it can be done at all.
    pub possible: bool,
    /// What it brings back.
    pub brings_back: String,
    /// What it loses.
    pub loses: String,
    /// How long it takes.
    pub takes: String,
    /// The same in milliseconds, where it was measured or can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
    /// What it needs.
    pub needs: String,
}

/// All of them, and the one that is recommended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// In the order of [`StrategyKind`].
    pub strategies: Vec<Strategy>,
    /// Which one.
    pub recommended: StrategyKind,
    /// Why, a sentence.
    pub reason: String,
}

/// Compares them.
pub(super) fn compare(facts: &Facts) -> Comparison {
    let strategies = vec![rollback(facts), revert(facts), fix(facts), flag()];
    let (recommended, reason) = recommend(facts, &strategies);
    Comparison {
        strategies,
        recommended,
        reason,
    }
}

/// The middle one of earlier measurements. One of two is the larger: a promise is better kept.
fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn span(milliseconds: u64) -> String {
    match milliseconds {
        0..10_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        10_000..120_000 => format!("{} s", milliseconds / 1_000),
        _ => format!("{} min", milliseconds.div_ceil(60_000)),
    }
}

/// What earlier ones took, or what else can be said.
fn measured(values: &[u64], word: &str, otherwise: &str) -> (String, Option<u64>) {
    match median(values) {
        Some(typical) => (
            format!(
                "about {}, the middle of {}",
                span(typical),
                count(values.len(), word)
            ),
            Some(typical),
        ),
        None => (otherwise.to_owned(), None),
    }
}

fn rollback(facts: &Facts) -> Strategy {
    let kind = StrategyKind::DataRollback;
    match &facts.back {
        Back::None { why } => Strategy {
            kind,
            possible: false,
            brings_back: "nothing".to_owned(),
            loses: "nothing".to_owned(),
            takes: "-".to_owned(),
            milliseconds: None,
            needs: format!("a way back, and there is none: {why}"),
        },
        Back::Planned {
            to,
            relations,
            irreversible,
            others,
            expected,
        } => {
            let (takes, milliseconds) = match median(&facts.measured.rollbacks) {
                Some(_) => measured(&facts.measured.rollbacks, "earlier rollback", ""),
                None => (
                    format!(
                        "about {} by what it does; none was measured yet",
                        span(*expected)
                    ),
                    Some(*expected),
                ),
            };
            let mut loses = match facts.release {
                Some(release) => format!("what {release} built, which stays readable"),
                None => "what was built, which stays readable".to_owned(),
            };
            if !others.is_empty() {
                loses.push_str(&format!(
                    "; what others wrote to {} stays in the retained version only",
                    count(others.len(), "relation")
                ));
            }
            for step in irreversible {
                loses.push_str(&format!("; {step}"));
            }
            Strategy {
                kind,
                possible: true,
                brings_back: format!("{} as of {to}, proved", count(*relations, "relation")),
                loses,
                takes,
                milliseconds,
                needs: "nothing now; the next run needs fixed or reverted code".to_owned(),
            }
        }
    }
}

/// Whether the release before ran other code.
fn other_code(facts: &Facts) -> bool {
    match (&facts.code, &facts.code_before) {
        (Some(now), Some(before)) => now.commit != before.commit || now.dirty || before.dirty,
        _ => false,
    }
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

fn revert(facts: &Facts) -> Strategy {
    let (takes, milliseconds) = measured(
        &facts.measured.jobs,
        "earlier job",
        "as long as the job takes; none was measured yet",
    );
    let possible = other_code(facts);
    let (brings_back, needs) = match (&facts.code_before, possible) {
        (Some(before), true) => (
            "what its models build anew; rows that incremental models took in stay".to_owned(),
            format!("commit {} checked out and run again", short(&before.commit)),
        ),
        (Some(_), false) if facts.code.is_some() => (
            "nothing: the release before ran the same commit".to_owned(),
            "other code than that of both releases".to_owned(),
        ),
        _ => (
            "nothing that could be told: no commit was recorded".to_owned(),
            "jobs that run in a git repository".to_owned(),
        ),
    };
    Strategy {
        kind: StrategyKind::CodeRevert,
        possible,
        brings_back,
        loses: "what the newer code added; production stays bad while the job runs".to_owned(),
        takes,
        milliseconds,
        needs,
    }
}

fn fix(facts: &Facts) -> Strategy {
    let (job, milliseconds) = measured(
        &facts.measured.jobs,
        "earlier job",
        "the job; none was measured yet",
    );
    Strategy {
        kind: StrategyKind::ForwardFix,
        possible: true,
        brings_back: "correct data, and the newer code".to_owned(),
        loses: "nothing; production stays bad until then".to_owned(),
        takes: format!("writing the fix, then {job}"),
        milliseconds,
        needs: "a person who knows the cause".to_owned(),
    }
}

fn flag() -> Strategy {
    Strategy {
        kind: StrategyKind::FlagOff,
        possible: false,
        brings_back: "nothing".to_owned(),
        loses: "nothing".to_owned(),
        takes: "-".to_owned(),
        milliseconds: None,
        needs: "a feature flag in front of what is wrong, and unship knows of none".to_owned(),
    }
}

fn recommend(facts: &Facts, strategies: &[Strategy]) -> (StrategyKind, String) {
    let worst = facts.failed.iter().map(|f| f.severity).max();
    if worst.is_none_or(|worst| worst == Severity::Low) {
        let reason = "nothing failed that would have to be undone, and a fix loses nothing";
        return (StrategyKind::ForwardFix, reason.to_owned());
    }
    let takes = |kind| {
        let found = strategies.iter().find(|s| s.kind == kind);
        let milliseconds = found.and_then(|s| s.milliseconds);
        milliseconds.map_or(String::new(), |ms| format!(" in about {}", span(ms)))
    };
    match &facts.back {
        Back::Planned {
            to,
            irreversible,
            others,
            ..
        } if irreversible.is_empty() => {
            let others = match others.len() {
                0 => "loses nothing that others wrote".to_owned(),
                n => format!(
                    "sets aside what others wrote to {}: look at that first",
                    count(n, "relation")
                ),
            };
            let takes = takes(StrategyKind::DataRollback);
            (
                StrategyKind::DataRollback,
                format!("it brings {to} back{takes}, and {others}"),
            )
        }
        Back::Planned { .. } | Back::None { .. } if other_code(facts) => (
            StrategyKind::CodeRevert,
            "a data rollback is impossible or cannot be taken back, and the code of before is known"
                .to_owned(),
        ),
        Back::Planned { .. } | Back::None { .. } => (
            StrategyKind::ForwardFix,
            "a data rollback is impossible or cannot be taken back, and no other code is known to \
             be good"
                .to_owned(),
        ),
    }
}
