//! What checks found, as people read it.

use super::text::{BAD, DIM, WARN, paint};
use anstyle::Style;
use unship_core::check::gate::failed;
use unship_core::check::{Finding, Outcome, Severity};
use unship_core::operate::count;

/// How many are shown where the rest can be had with another command.
const FEW: usize = 5;

/// The worst findings that failed, one of each place, in few words, and how to see the rest.
pub fn brief(findings: &[Finding], more: &str) {
    let all = by_severity(findings);
    let mut shown: Vec<&Finding> = Vec::new();
    for finding in &all {
        let told = finding.relation.is_some()
            && shown
                .iter()
                .any(|s| (&s.relation, &s.column) == (&finding.relation, &finding.column));
        if shown.len() < FEW && !told {
            print(finding, false);
            shown.push(finding);
        }
    }
    if let Some(left) = all.len().checked_sub(shown.len()).filter(|n| *n > 0) {
        crate::say!("  and {}", count(left, "more finding"));
    }
    if !all.is_empty() {
        crate::say!("  {more}");
    }
}

/// All findings that failed, with example rows and SQL; what could not be told, and how many passed.
pub fn full(findings: &[Finding]) {
    for finding in by_severity(findings) {
        print(finding, true);
    }
    let unknown: Vec<&Finding> = findings
        .iter()
        .filter(|f| f.outcome == Outcome::Unknown)
        .collect();
    let early = unknown.iter().filter(|f| f.relation.is_some()).count();
    for finding in unknown.iter().filter(|f| f.relation.is_none()) {
        crate::say!(
            "  {}  {}: {}",
            paint(WARN, "unknown"),
            finding.check,
            finding.observed
        );
    }
    let passed = findings
        .iter()
        .filter(|f| f.outcome == Outcome::Pass)
        .count();
    let mut words = vec![
        format!("{passed} passed"),
        format!("{} failed", failed(findings).count()),
    ];
    if !unknown.is_empty() {
        words.push(format!("{} unknown", unknown.len()));
    }
    crate::say!("  {}", paint(DIM, words.join(", ")));
    if let Some(first) = unknown.iter().find(|f| f.relation.is_some()) {
        let reason = format!(
            "{} of relations cannot be told yet: {} ({} needed)",
            count(early, "check"),
            first.observed,
            first.expected
        );
        crate::say!("  {}", paint(DIM, reason));
    }
}

/// The failed ones, the worst first, and among equals in lineage order.
fn by_severity(findings: &[Finding]) -> Vec<&Finding> {
    let mut all: Vec<&Finding> = failed(findings).collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

fn print(finding: &Finding, whole: bool) {
    let severity = format!("{:<8}", finding.severity.to_string());
    let mut place = finding
        .relation
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    if let Some(column) = &finding.column {
        place.push('.');
        place.push_str(column);
    }
    let head = match place.is_empty() {
        true => finding.check.clone(),
        false => format!("{place}  {}", paint(DIM, &finding.check)),
    };
    crate::say!("  {}  {head}", paint(style(finding.severity), severity));
    crate::say!("            seen: {}", finding.observed);
    crate::say!("            expected: {}", finding.expected);
    if !whole {
        return;
    }
    if let Some(examples) = &finding.examples {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(examples.columns.iter().map(|c| c.to_uppercase()));
        for row in &examples.rows {
            table.add_row(row.iter().map(ToString::to_string));
        }
        for line in table.lines() {
            crate::say!("            {}", line.trim_end());
        }
    }
    for line in finding.sql.iter().flat_map(|sql| sql.lines()) {
        crate::say!("            {}", paint(DIM, line));
    }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::High => BAD,
        Severity::Medium => WARN,
        Severity::Low => DIM,
    }
}
