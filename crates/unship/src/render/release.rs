//! Releases as lines and pages.

use super::text::{self, BAD, BOLD, DIM, GOOD, WARN, paint};
use crate::dbt_package::Recorded;
use unship_core::ident::ReleaseId;
use unship_core::release::{Operation, Release, Stage, Verdict};

/// The word for where a release stands.
pub fn state(release: &Release, live: Option<ReleaseId>) -> String {
    let is_live = live == Some(release.id);
    match (release.stage, release.verdict) {
        (Stage::Published, Verdict::Good) if is_live => paint(GOOD, "live"),
        (Stage::Published, Verdict::Bad) if is_live => paint(BAD, "live, bad"),
        (Stage::Published, Verdict::Good) => "good".to_owned(),
        (Stage::Published, Verdict::Bad) => paint(WARN, "bad"),
        (Stage::Open, _) => paint(WARN, "open"),
        (Stage::Abandoned, _) => paint(DIM, "not published"),
    }
}

/// What a release did, in a few words.
pub fn operation(release: &Release) -> String {
    match &release.operation {
        Operation::Adopt => "found here".to_owned(),
        Operation::Run { aside, replays } => {
            let command = release
                .job
                .as_ref()
                .map(|j| shell_words::join(&j.command))
                .unwrap_or_default();
            let replay = replays.map_or_else(String::new, |of| format!("replay of {of}: "));
            let place = if *aside { "" } else { " (in place)" };
            format!("{replay}{command}{place}")
        }
        Operation::Rollback {
            to,
            select: Some(select),
            rows: Some(of),
            ..
        } => format!("rollback to {to} of the rows of {select} {}", of.rows),
        Operation::Rollback {
            to, select, stage, ..
        } => {
            let of = select.iter().map(|select| format!(" of {select}"));
            let stage = stage.iter().map(|stage| format!(", {stage}"));
            let more: String = of.chain(stage).collect();
            format!("rollback to {to}{more}")
        }
        Operation::Moment { .. } => format!("rollback to {}", release.operation.whereto()),
        Operation::Undo { to } => format!("undo, back to {to}"),
        Operation::Redo { to } => format!("redo, forward to {to}"),
    }
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

/// A run that unship did not guard.
fn recorded_row(one: &Recorded) -> [String; 7] {
    [
        paint(DIM, "dbt"),
        text::moment(one.started_at),
        one.outcome.clone(),
        one.job.clone().unwrap_or_default(),
        short(one.code.as_deref().unwrap_or_default()).to_owned(),
        String::new(),
        format!("before it: {}", short(&one.restore_point)),
    ]
}

/// Prints the releases, the newest first, and between them what dbt recorded itself.
pub fn log(
    releases: &[Release],
    live: Option<ReleaseId>,
    restorable: &[ReleaseId],
    recorded: &[Recorded],
) {
    let mut table = text::table([
        "release", "when", "state", "what", "commit", "changed", "point",
    ]);
    let mut recorded = recorded.iter().peekable();
    for release in releases {
        while let Some(one) = recorded.next_if(|one| one.started_at > release.opened) {
            table.add_row(recorded_row(one));
        }
        let commit = release.code.as_ref().map_or_else(String::new, |c| {
            format!("{}{}", short(&c.commit), if c.dirty { "*" } else { "" })
        });
        let point = match (live == Some(release.id), restorable.contains(&release.id)) {
            (true, _) => "production",
            (false, true) => "kept",
            (false, false) => "",
        };
        table.add_row([
            paint(BOLD, release.id),
            text::moment(release.opened),
            state(release, live),
            operation(release),
            commit,
            release.changed.to_string(),
            format!("{point}{}", if release.pinned { " (pinned)" } else { "" }),
        ]);
    }
    for one in recorded {
        table.add_row(recorded_row(one));
    }
    text::print_table(&table);
}
