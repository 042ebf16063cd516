use super::super::{Action, Affected, Item, Status};
use super::*;
use crate::compare::{Comparison, First, ModelChange, PackageChange, RowChange};
use crate::git::Commit;
use unship_core::check::{Outcome, Severity};
use unship_core::diff::{Example, RelationDiff};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::incident::*;
use unship_core::release::{Code, Operation, Release, Stage, Verdict};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn release(id: u64, subject: &str) -> Release {
    Release {
        id: ReleaseId(id),
        env: "prod".to_owned(),
        operation: Operation::Run {
            aside: true,
            replays: None,
        },
        parent: Some(ReleaseId(id - 1)),
        origin: ReleaseId(id),
        opened: at(0),
        closed: Some(at(60)),
        actor: "ada@laptop".to_owned(),
        stage: Stage::Published,
        verdict: Verdict::Good,
        reason: None,
        job: None,
        end: None,
        code: Some(Code {
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            branch: None,
            author: "Ada <ada@example.org>".to_owned(),
            subject: subject.to_owned(),
            dirty: false,
            diff: None,
            directory: None,
        }),
        changed: 2,
        pinned: false,
        statements: None,
    }
}

const HOSTILE: &str = "</table><script>alert(1)</script> [x](javascript:y) | `z` **b** https://evil.example \u{202e}\x1b[31m";

fn report(text: &str) -> Report {
    let stamp = |n: i64| Stamp {
        at: at(n),
        by: "ada@laptop".to_owned(),
    };
    Report {
        incident: Incident {
            id: IncidentId(1),
            env: "prod".to_owned(),
            release: ReleaseId(3),
            opened: stamp(100),
            opening: Opening {
                severity: Severity::High,
                summary: format!("R3 was rolled back to R2: {text}"),
                cause: Cause::Checks,
                reached_production: true,
                findings: None,
                rollback: Some(ReleaseId(4)),
            },
            acknowledged: Some(stamp(120)),
            operations: vec![ReleaseId(4)],
            restored: Some(at(140)),
            reviews: vec![Review {
                because: text.to_owned(),
                came_to: Some("it was right".to_owned()),
                done: Some(stamp(150)),
            }],
            closed: Some(stamp(200)),
            closing: Some(Closing {
                root_cause: text.to_owned(),
                prevention: Some("a test of the key".to_owned()),
                follow_up: FollowUp::Items(vec![ActionItem {
                    what: text.to_owned(),
                    owner: "ada".to_owned(),
                    due: jiff::civil::date(2026, 12, 1),
                }]),
            }),
        },
        bad: release(3, text),
        good: Some(release(2, "a good change")),
        actions: vec![Action {
            release: ReleaseId(4),
            what: "rollback to R2".to_owned(),
            actor: "ada@laptop".to_owned(),
            began: at(130),
            done: Some(at(140)),
            milliseconds: Some(10_000),
            statements: Some(1_312),
            method: Some("the file of R2 is renamed".to_owned()),
            relations: vec![Affected {
                relation: text.to_owned(),
                from: Some("R3".to_owned()),
                to: Some("R2".to_owned()),
                rows_before: Some(20_000),
                rows_after: None,
                columns: vec!["-extra".to_owned()],
            }],
        }],
        approvals: vec![text.to_owned()],
        checklist: vec![
            Item {
                what: "Database state",
                status: Status::Good,
                detail: "2 relations equal".to_owned(),
            },
            Item {
                what: "Data quality",
                status: Status::Bad,
                detail: text.to_owned(),
            },
            Item {
                what: "Performance",
                status: Status::NotChecked,
                detail: "not checked".to_owned(),
            },
        ],
        findings: vec![Finding {
            check: "sum".to_owned(),
            relation: Some(RelationName::new("d", "s", text)),
            column: Some("revenue".to_owned()),
            outcome: Outcome::Fail,
            severity: Severity::High,
            observed: "twice as much".to_owned(),
            expected: text.to_owned(),
            examples: None,
            sql: None,
        }],
        comparison: Some(Comparison {
            good: ReleaseId(2),
            bad: ReleaseId(3),
            commits: Some(vec![Commit {
                commit: "89abcdef0123456789abcdef0123456789abcdef".to_owned(),
                author: "Ada".to_owned(),
                subject: text.to_owned(),
            }]),
            models: vec![ModelChange {
                unique_id: "model.shop.fct_orders".to_owned(),
                change: "changed",
                diff: format!("@@ -1,2 +1,2 @@\n select a\n-from b\n+from c -- ```` {text}\n"),
            }],
            packages: vec![PackageChange {
                name: "dbt_utils".to_owned(),
                good: None,
                bad: Some("1.3.0".to_owned()),
            }],
            upstream: vec![],
            relations: vec![RowChange {
                relation: text.to_owned(),
                good: Some(10_000),
                bad: Some(20_000),
                columns: vec![],
                values: vec!["revenue".to_owned()],
            }],
            first: Some(First {
                relation: "core.fct_orders".to_owned(),
                because: text.to_owned(),
            }),
            rows: Some(RelationDiff {
                added: 1,
                changed: 1,
                examples: vec![Example {
                    change: Change::Changed,
                    key: vec![("id".to_owned(), Value::Int(7))],
                    old: vec![("v".to_owned(), Value::Int(1))],
                    new: vec![("v".to_owned(), Value::Text(text.to_owned()))],
                }],
                ..RelationDiff::default()
            }),
            no_rows: None,
            reproduce: vec!["unship diff R2 R3".to_owned(), text.to_owned()],
        }),
        timeline: vec![Line {
            seq: 1,
            at: at(0),
            actor: "ada@laptop".to_owned(),
            what: text.to_owned(),
            milliseconds: Some(12),
        }],
    }
}

#[test]
fn a_report_as_markdown() {
    insta::assert_snapshot!(markdown(&report("revenue doubled")).unwrap());
}

#[test]
fn a_report_as_a_page() {
    insta::assert_snapshot!(html(&report("revenue doubled")).unwrap());
}

#[test]
fn whatever_a_name_holds_stays_text() {
    let page = html(&report(HOSTILE)).unwrap();
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(
        page.matches("</table>").count(),
        page.matches("<table>").count()
    );
    for text in [page.clone(), markdown(&report(HOSTILE)).unwrap()] {
        assert!(
            !text.contains(['\u{202e}', '\x1b']),
            "nothing turns or colours what follows"
        );
    }
    // The same elements in the same order, whatever is in them.
    let tags = |page: &str| -> Vec<String> {
        let parts = page.split('<').skip(1);
        parts
            .map(|p| p.split(['>', ' ']).next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(tags(&page), tags(&html(&report("x")).unwrap()));
}

#[test]
fn hostile_markdown_is_escaped_outside_of_code() {
    let text = markdown(&report(HOSTILE)).unwrap();
    let mut fence: Option<String> = None;
    for line in text.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if ticks.len() >= open.len() && line.len() == ticks.len() => fence = None,
            Some(_) => continue,
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => {
                let plain = without_code(line);
                for bad in ["<script", "[x](javascript", "**b**", "https://evil"] {
                    assert!(!plain.contains(bad), "{bad} in {line}");
                }
            }
        }
    }
    assert_eq!(fence, None, "every block of code ends");
    let rows = |text: &str| text.lines().filter(|l| l.starts_with('|')).count();
    assert_eq!(rows(&text), rows(&markdown(&report("x")).unwrap()));
}

/// A line without its code spans, as CommonMark finds them.
fn without_code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        if rest[..at].ends_with('\\') {
            out.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        out.push_str(&rest[..at]);
        let ticks = rest[at..].chars().take_while(|c| *c == '`').count();
        let after = &rest[at + ticks..];
        let mut end = None;
        let mut from = 0;
        while let Some(found) = after[from..].find('`') {
            let run = after[from + found..]
                .chars()
                .take_while(|c| *c == '`')
                .count();
            if run == ticks {
                end = Some(from + found + run);
                break;
            }
            from += found + run;
        }
        rest = end.map_or("", |end| &after[end..]);
    }
    out + rest
}

#[test]
fn nothing_is_claimed_that_nobody_looked_at() {
    let mut bare = report("x");
    bare.actions.clear();
    bare.comparison = None;
    bare.incident.closing = None;
    bare.good = None;
    bare.findings.clear();
    bare.approvals.clear();
    let text = markdown(&bare).unwrap();
    for sentence in [
        "| Performance | not checked |",
        "no approval is recorded",
        "nobody has said yet what its root cause is",
    ] {
        assert!(text.contains(sentence), "{sentence} is not in {text}");
    }
}
