//! Decisions, as a person reads them.

use super::text::{self, BAD, BOLD, DIM, GOOD, WARN, paint};
use unship_core::decide::{Action, Decision, Facts};
use unship_core::history::Decided;
use unship_core::ident::ReleaseId;
use unship_core::operate::count;

/// Prints a decision.
pub fn print(release: ReleaseId, facts: &Facts, decision: &Decision, then: Option<&Decided>) {
    let style = match decision.action {
        Action::Nothing => GOOD,
        Action::Watch | Action::Propose => WARN,
        Action::RollBackWithin | Action::RollBackNow => BAD,
    };
    crate::say!(
        "{} {}",
        paint(BOLD, format!("{release}:")),
        paint(style, decision.action.words())
    );
    let line = |label: &str, text: &str| crate::say!("  {label:<12}{text}");
    line("rule", decision.rule.as_deref().unwrap_or("none"));
    for why in &decision.because {
        line("because", why);
    }
    // The time began to run when it was decided, and not when somebody looks.
    let recorded = then.and_then(|then| then.decision.deadline);
    if let Some(deadline) = decision.deadline {
        line("deadline", &text::moment(recorded.unwrap_or(deadline)));
    }
    match &decision.approvals {
        Some(need) if decision.rule_action == Action::Watch => {
            line(
                "approval",
                &format!("{need}, for the fix; none for a rollback"),
            );
        }
        Some(need) => line("approval", &format!("{need}, for a rollback by a person")),
        None => line("approval", "nobody's is needed"),
    }
    line(
        "reaches",
        &format!(
            "{} and {}{}",
            count(facts.dependents, "dependent"),
            count(facts.exposures, "exposure"),
            match facts.owners.is_empty() {
                true => String::new(),
                false => format!(
                    "; answered for by {}",
                    facts.owners.iter().cloned().collect::<Vec<_>>().join(", ")
                ),
            }
        ),
    );
    for change in &decision.would_change {
        line("changes if", change);
    }
    if let Some(then) = then.filter(|then| then.decision.action != decision.action) {
        let text = format!(
            "{} (at {})",
            then.decision.action.words(),
            text::moment(then.at)
        );
        line("recorded", &text);
    }
    crate::say!("\n{}", paint(BOLD, "Strategies"));
    for s in &decision.compared.strategies {
        let recommended = s.kind == decision.compared.recommended;
        let mark = match (recommended, s.possible) {
            (true, _) => paint(GOOD, " (recommended)"),
            (false, true) => String::new(),
            (false, false) => paint(DIM, " (not possible)"),
        };
        crate::say!("  {}{mark}", paint(BOLD, s.kind.words()));
        for (label, text) in [
            ("brings back", &s.brings_back),
            ("loses", &s.loses),
            ("takes", &s.takes),
            ("needs", &s.needs),
        ] {
            if s.possible || label == "needs" {
                crate::say!("    {label:<12}{text}");
            }
        }
    }
    let compared = &decision.compared;
    crate::say!("  {}: {}", compared.recommended.words(), compared.reason);
}
