//! The whole story of an incident: what happened, what was done, what is true now, what follows.

mod page;

pub use page::{html, markdown};

use crate::aftermath;
use crate::cmd::incident::lines;
use crate::compare::{self, Comparison};
use crate::context::{Context, Workbench};
use crate::declared::Check;
use crate::error::CliResult;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use unship_core::check::{Finding, Outcome};
use unship_core::event::Event;
use unship_core::ident::ReleaseId;
use unship_core::incident::{Incident, Line};
use unship_core::log::Ledger;
use unship_core::operate::count;
use unship_core::plan::Plan;
use unship_core::release::Release;

/// A report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The incident.
    pub incident: Incident,
    /// The release that it is about.
    pub bad: Release,
    /// The release whose state production has instead, or had before.
    pub good: Option<Release>,
    /// What was done about it.
    pub actions: Vec<Action>,
    /// Who approved what, each a sentence.
    pub approvals: Vec<String>,
    /// What is true now, and how that is known.
    pub checklist: Vec<Item>,
    /// The checks that failed.
    pub findings: Vec<Finding>,
    /// What differed.
    pub comparison: Option<Comparison>,
    /// The timeline.
    pub timeline: Vec<Line>,
}

/// An operation that answered an incident.
#[derive(Debug, Clone, Serialize)]
pub struct Action {
    /// The release that it made.
    pub release: ReleaseId,
    /// What it was.
    pub what: String,
    /// Who did it.
    pub actor: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was done.
    pub done: Option<Timestamp>,
    /// How long it took, in milliseconds.
    pub milliseconds: Option<u64>,
    /// How many statements unship sent for it, where the warehouse bills them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statements: Option<u64>,
    /// How it was done.
    pub method: Option<String>,
    /// What it did to each relation.
    pub relations: Vec<Affected>,
}

/// What an operation did to a relation.
#[derive(Debug, Clone, Serialize)]
pub struct Affected {
    /// Which, as `schema.name`.
    pub relation: String,
    /// The version before.
    pub from: Option<String>,
    /// The version after.
    pub to: Option<String>,
    /// Rows before, if counted.
    pub rows_before: Option<u64>,
    /// Rows after, if counted.
    pub rows_after: Option<u64>,
    /// Columns that came (+), went (-) or changed type (~).
    pub columns: Vec<String>,
}

/// How a point of the checklist came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Nobody looked.
    NotChecked,
}

/// A point of the checklist.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// What was looked at.
    pub what: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was seen.
    pub detail: String,
}

/// Gathers the report of an incident. `examples` rows of each kind are read where it began, none
/// for 0.
pub fn gather(
    context: &Context,
    bench: &mut Workbench,
    incident: Incident,
    examples: usize,
) -> CliResult<Option<Report>> {
    let Some(bad) = bench.ledger.history(|h| h.release(incident.release))? else {
        return Ok(None);
    };
    let findings = match &incident.opening.findings {
        Some(blob) => aftermath::read_findings(&bench.ledger, blob)?,
        None => aftermath::findings_of(&bench.ledger, bad.id)?.1,
    };
    let good = match aftermath::good_of(&bench.ledger, &incident, &bad)? {
        Some(id) => bench.ledger.history(|h| h.release(id))?,
        None => None,
    };
    let comparison = match &good {
        Some(good) => {
            let (mut comparison, began) =
                compare::releases(context, &bench.ledger, good, &bad, &findings)?;
            if let Some(name) = began.filter(|_| examples > 0) {
                compare::with_rows(&mut comparison, context, bench, &name, examples);
            }
            Some(comparison)
        }
        None => None,
    };
    let ledger = &bench.ledger;
    let actions = actions(ledger, &incident)?;
    let timeline = lines(ledger, &incident)?;
    Ok(Some(Report {
        checklist: checklist(context, ledger, &incident, &bad, good.as_ref())?,
        approvals: approvals(ledger, &incident)?,
        findings: findings
            .into_iter()
            .filter(|f| f.outcome == Outcome::Fail)
            .collect(),
        actions,
        comparison,
        timeline,
        incident,
        bad,
        good,
    }))
}

fn actions(ledger: &Ledger, incident: &Incident) -> CliResult<Vec<Action>> {
    let mut out = Vec::new();
    for id in &incident.operations {
        let Some(release) = ledger.history(|h| h.release(*id))? else {
            continue;
        };
        let plan = plan_of(ledger, *id)?;
        let took = release.closed.map(|at| at.duration_since(release.opened));
        out.push(Action {
            release: *id,
            what: crate::render::release::operation(&release),
            actor: release.actor,
            began: release.opened,
            done: release.closed,
            milliseconds: took.and_then(|t| u64::try_from(t.as_millis()).ok()),
            statements: release.statements,
            method: plan.as_ref().map(|p| p.method.clone()),
            relations: plan.as_ref().map(affected).unwrap_or_default(),
        });
    }
    Ok(out)
}

fn plan_of(ledger: &Ledger, release: ReleaseId) -> CliResult<Option<Plan>> {
    let places = ledger.history(|h| h.story(release))?;
    for (_, event) in ledger.events_at(&places)? {
        if let Some(Event::PlanMade { blob, .. }) = event {
            return Ok(Plan::parse(&ledger.get_blob(&blob.0)?).ok());
        }
    }
    Ok(None)
}

fn affected(plan: &Plan) -> Vec<Affected> {
    let one = |(name, impact): (
        &unship_core::ident::RelationName,
        &unship_core::plan::RelationImpact,
    )| Affected {
        relation: format!("{}.{}", name.schema, name.name),
        from: impact.from.map(|v| v.to_string()),
        to: impact.to.map(|v| v.to_string()),
        rows_before: impact.rows_now,
        rows_after: impact.rows_then,
        columns: impact.columns.clone(),
    };
    plan.impact.changes.iter().map(one).collect()
}

/// Who approved what was done, by the entries that say so.
fn approvals(ledger: &Ledger, incident: &Incident) -> CliResult<Vec<String>> {
    let mut plans = BTreeMap::new();
    for id in &incident.operations {
        for (_, event) in ledger.events_at(&ledger.history(|h| h.story(*id))?)? {
            if let Some(Event::PlanMade { plan, .. }) = event {
                plans.insert(plan.0, *id);
            }
        }
    }
    let Some(first) = ledger
        .history(|h| h.story(incident.release))?
        .first()
        .copied()
    else {
        return Ok(Vec::new());
    };
    if plans.is_empty() {
        return Ok(Vec::new());
    }
    // Approvals name a plan and no release, so that they are looked for between the release and the
    // last operation that answered it.
    let mut last = first;
    for id in &incident.operations {
        last = last.max(
            ledger
                .history(|h| h.story(*id))?
                .last()
                .copied()
                .unwrap_or(first),
        );
    }
    let mut out = Vec::new();
    let mut from = first;
    while from <= last {
        let batch = ledger.events_from(from, 500)?;
        let Some((end, _)) = batch.last() else { break };
        from = end.seq + 1;
        for (entry, _) in &batch {
            let event = &entry.event;
            let (plan, who) = match entry.event_type() {
                "approved" => (
                    &event["statement"]["subject"]["plan"],
                    event["statement"]["signer"].as_str(),
                ),
                "break_glass" => (&event["plan"], Some(entry.actor.as_str())),
                _ => continue,
            };
            let Some(release) = plan.as_str().and_then(|id| plans.get(id)) else {
                continue;
            };
            let who = who.unwrap_or("somebody");
            out.push(match entry.event_type() {
                "approved" => format!("{who} approved {release} at {}", moment(entry.at)),
                _ => format!(
                    "{who} went on without approval at {}: {}",
                    moment(entry.at),
                    event["reason"].as_str().unwrap_or_default()
                ),
            });
        }
    }
    Ok(out)
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What is true now. A point that nobody looked at says so.
fn checklist(
    context: &Context,
    ledger: &Ledger,
    incident: &Incident,
    bad: &Release,
    good: Option<&Release>,
) -> CliResult<Vec<Item>> {
    let subject = match (incident.operations.last(), good) {
        (Some(last), _) => Some(*last),
        (None, Some(good)) => Some(good.id),
        (None, None) => None,
    };
    let checked = match subject {
        Some(id) => Some(aftermath::findings_of(ledger, id)?).filter(|(kept, _)| kept.is_some()),
        None => None,
    };
    let findings = checked.map(|(_, findings)| findings);
    let declared = &context.config.declared;
    let group = |line: Looked| match &findings {
        Some(all) => {
            let of_it = all.iter().filter(|f| belongs(f, declared) == line);
            judged(line.words(), of_it.collect())
        }
        None => not_checked(line.words()),
    };
    Ok(vec![
        code_version(ledger, bad, good)?,
        database_state(ledger, subject, incident)?,
        group(Looked::Quality),
        group(Looked::Health),
        group(Looked::Speed),
    ])
}

/// Probes of what reads the data: checks are told apart by what their ids begin with or say.
/// The lines of the checklist that checks answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Quality,
    Health,
    Speed,
}

impl Looked {
    fn words(self) -> &'static str {
        match self {
            Self::Quality => "Data quality",
            Self::Health => "Application health",
            Self::Speed => "Performance",
        }
    }
}

/// Which line a finding belongs to, by what the check of this name is.
fn belongs(finding: &Finding, declared: &[Check]) -> Looked {
    let check = declared.iter().find(|c| c.name() == finding.check);
    match check {
        Some(Check::Command(_) | Check::Http(_)) => Looked::Health,
        Some(Check::Sample(_)) => Looked::Speed,
        None if finding.check == "speed" => Looked::Speed,
        _ => Looked::Quality,
    }
}

fn not_checked(what: &'static str) -> Item {
    Item {
        what,
        status: Status::NotChecked,
        detail: "not checked".to_owned(),
    }
}

fn judged(what: &'static str, findings: Vec<&Finding>) -> Item {
    let known: Vec<_> = findings
        .iter()
        .filter(|f| f.outcome != Outcome::Unknown)
        .collect();
    let failed: Vec<_> = known
        .iter()
        .filter(|f| f.outcome == Outcome::Fail)
        .collect();
    match (known.len(), failed.first()) {
        (0, _) => not_checked(what),
        (n, None) => Item {
            what,
            status: Status::Good,
            detail: format!("{} passed", count(n, "check")),
        },
        (n, Some(first)) => Item {
            what,
            status: Status::Bad,
            detail: format!(
                "{} of {} failed, the first {}: {}",
                failed.len(),
                count(n, "check"),
                first.check,
                first.observed
            ),
        },
    }
}

fn code_version(ledger: &Ledger, bad: &Release, good: Option<&Release>) -> CliResult<Item> {
    let what = "Code version";
    let code = match good {
        Some(good) => ledger
            .history(|h| h.release(good.origin))?
            .and_then(|r| r.code),
        None => None,
    };
    let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
    Ok(match (code, &bad.code) {
        (Some(good), Some(bad)) if good.commit == bad.commit && !bad.dirty => Item {
            what,
            status: Status::Bad,
            detail: format!(
                "the good and the bad data were built by the same commit {}: code is not the cause",
                short(&good.commit)
            ),
        },
        (Some(good), _) => Item {
            what,
            status: Status::Good,
            detail: format!(
                "production's data was built by commit {} ({})",
                short(&good.commit),
                good.subject
            ),
        },
        (None, _) => not_checked(what),
    })
}

fn database_state(
    ledger: &Ledger,
    subject: Option<ReleaseId>,
    incident: &Incident,
) -> CliResult<Item> {
    let what = "Database state";
    let Some(id) = subject else {
        return Ok(not_checked(what));
    };
    let places = ledger.history(|h| h.story(id))?;
    let events = ledger.events_at(&places)?;
    let verified = events.iter().rev().find_map(|(entry, event)| match event {
        Some(Event::Verified {
            relations,
            differences,
            ..
        }) => Some((entry.at, *relations, differences.len())),
        _ => None,
    });
    Ok(match verified {
        Some((at, relations, 0)) => Item {
            what,
            status: Status::Good,
            detail: format!(
                "{} equal, row by row, to what {id} recorded, at {}",
                count(relations, "relation"),
                moment(at)
            ),
        },
        Some((at, _, different)) => Item {
            what,
            status: Status::Bad,
            detail: format!(
                "{} not what {id} recorded, at {}",
                count(different, "relation"),
                moment(at)
            ),
        },
        None if !incident.opening.reached_production => Item {
            what,
            status: Status::Good,
            detail: "production was not touched: the release was held back".to_owned(),
        },
        None => not_checked(what),
    })
}
