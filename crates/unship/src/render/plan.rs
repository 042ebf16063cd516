//! Plans, as a person reads them before anything is done.

use super::text::{self, BOLD, DIM, WARN, paint};
use jiff::SignedDuration;
use unship_core::operate::count;
use unship_core::plan::{Plan, PlanId};
use unship_core::release::Operation;

/// Prints a plan.
pub fn print(plan: &Plan, id: &PlanId) {
    crate::say!(
        "{} makes {} from {}: {}",
        paint(BOLD, format!("Plan {}", id.short())),
        plan.release,
        plan.from,
        what(plan),
    );
    crate::say!("  how: {}", plan.method);
    crate::say!(
        "  cost: {}; {}",
        match plan.impact.bytes {
            0 => "no data is copied".to_owned(),
            n => format!("{} are copied or written", text::bytes(n)),
        },
        match plan.expected().as_secs() {
            0 => "well under a second".to_owned(),
            n => format!(
                "about {} at 200 MB/s",
                text::span(SignedDuration::from_secs(n.try_into().unwrap_or(i64::MAX)))
            ),
        }
    );
    impact(plan);
    if !plan.stages.is_empty() {
        stages(plan);
    } else {
        crate::say!("\n{}", paint(BOLD, "Steps"));
    }
    for step in &plan.steps {
        let mark = if step.production {
            paint(WARN, "production")
        } else {
            paint(DIM, "aside")
        };
        crate::say!("  {}. [{mark}] {}", step.id, step.explain);
        for statement in &step.statements {
            crate::say!("       {}", paint(DIM, statement));
        }
    }
    for (title, lines) in [
        ("Cannot be brought back", &plan.irreversible),
        ("Worth knowing", &plan.notes),
        ("Needs", &plan.needs),
    ] {
        if !lines.is_empty() {
            crate::say!("\n{}", paint(BOLD, title));
            for line in lines {
                crate::say!("  - {line}");
            }
        }
    }
}

fn stages(plan: &Plan) {
    crate::say!("\n{}", paint(BOLD, "Stages"));
    let mut table = text::table(["stage", "relations", "rows", "written"]);
    for stage in &plan.stages {
        table.add_row([
            stage.number.to_string(),
            crate::cmd::stages::relations(stage),
            text::number(stage.rows),
            match stage.bytes {
                0 => "-".to_owned(),
                n => text::bytes(n),
            },
        ]);
    }
    text::print_table(&table);
    for stage in &plan.stages {
        for because in &stage.because {
            crate::say!("  stage {}: {because}", stage.number);
        }
    }
}

/// What a plan does, in a few words.
pub fn what(plan: &Plan) -> String {
    match (&plan.operation, plan.operation.target()) {
        (
            Operation::Rollback {
                to,
                select: Some(select),
                rows,
                ..
            },
            _,
        ) => match rows {
            Some(of) => format!("rollback of the rows of {select} {} to {to}", of.rows),
            None => format!("rollback of {select} to {to}"),
        },
        (Operation::Moment { .. }, _) => format!("rollback to {}", plan.operation.whereto()),
        (operation, Some(to)) => format!("{} to {to}", operation.word()),
        (operation, None) => operation.word().to_owned(),
    }
}

fn impact(plan: &Plan) {
    let rows = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), text::number);
    let mut table = text::table([
        "relation",
        "now",
        "then",
        "rows now",
        "rows then",
        "columns",
    ]);
    for (name, change) in &plan.impact.changes {
        table.add_row([
            name.to_string(),
            change
                .from
                .map_or_else(|| "-".to_owned(), |v| v.to_string()),
            change
                .to
                .map_or_else(|| "removed".to_owned(), |v| v.to_string()),
            rows(change.rows_now),
            rows(change.rows_then),
            change.columns.join(" "),
        ]);
    }
    crate::say!(
        "\n{} ({} stay as they are)",
        paint(
            BOLD,
            format!("{} change", count(plan.impact.changes.len(), "relation"))
        ),
        plan.impact.untouched
    );
    text::print_table(&table);
    if !plan.impact.rows.is_empty() {
        crate::say!("\n{}", paint(BOLD, "Only some rows of"));
        for (name, rows) in &plan.impact.rows {
            crate::say!(
                "  - {name}: {} out, and kept; {} of {} in",
                text::number(rows.out),
                text::number(rows.back),
                rows.from,
            );
        }
    }
    for (title, map) in [
        ("Written by others since; stays as it is", &plan.impact.kept),
        (
            "Written by others since, and no older copy is kept; stays as it is",
            &plan.impact.stay,
        ),
        (
            "Written by others since; kept in the version that comes back",
            &plan.impact.replayed,
        ),
        (
            "Written by others since; only the retained version will have it",
            &plan.impact.set_aside,
        ),
    ] {
        if !map.is_empty() {
            crate::say!("\n{}", paint(BOLD, title));
            for (name, what) in map {
                crate::say!("  - {name}: {what}");
            }
        }
    }
    if !plan.impact.stale.is_empty() {
        crate::say!(
            "\n{}",
            paint(BOLD, "Reads what changes, and stays as it is")
        );
        for name in &plan.impact.stale {
            crate::say!("  - {name}");
        }
    }
}
