//! The facts of a decision, gathered from the ledger, the lineage and the engine.

use crate::cmd::policy::wrong_policy;
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult};
use crate::scope;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::{Finding, Outcome};
use unship_core::decide::{Back, Decision, Facts, Failed, Policy, decide};
use unship_core::event::Event;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::lineage::{BlastRadius, Lineage, Selector, select_relations};
use unship_core::log::Ledger;
use unship_core::operate::Ask;
use unship_core::plan::Plan;
use unship_core::release::Release;

/// What the newest checks of a release found; `None` if none looked at it.
pub fn findings_of(ledger: &Ledger, release: ReleaseId) -> CliResult<Option<Vec<Finding>>> {
    let Some(checked) = ledger.history(|h| h.checked(release))? else {
        return Ok(None);
    };
    let findings = serde_json::from_slice(&ledger.get_blob(&checked.findings.0)?).map_err(|e| {
        CliError::failed(format!("the findings of {release} cannot be read: {e}"))
            .hint("a newer unship may have written them")
    })?;
    Ok(Some(findings))
}

/// Decides about a release by what checks found, and puts the decision into the log.
pub fn decide_on(
    context: &Context,
    bench: &mut Workbench,
    release: &Release,
    findings: &[Finding],
) -> CliResult<Decision> {
    let facts = facts(context, bench, release, findings)?;
    let decision = decide(&context.config.policy, &facts).map_err(wrong_policy)?;
    bench.ledger.append(&[Event::Decided {
        release: release.id,
        decision: Box::new(decision.clone()),
    }])?;
    Ok(decision)
}

/// The facts about a release, as they are now.
pub fn facts(
    context: &Context,
    bench: &mut Workbench,
    release: &Release,
    findings: &[Finding],
) -> CliResult<Facts> {
    let now = Timestamp::now();
    let env = &context.env;
    let failed = Failed::of(findings);
    let relations: BTreeSet<_> = failed.iter().filter_map(|f| f.relation.clone()).collect();
    let lineage = scope::manifest(&bench.ledger, release.id)?.map(Lineage::new);
    let radius = match &lineage {
        Some(lineage) => lineage.blast_radius(&relations),
        None => BlastRadius::default(),
    };
    let live = bench.ledger.history(|h| h.live(env))?;
    let live = live.filter(|live| live.release == release.id);
    let back = match &live {
        Some(_) => way_back(bench),
        None => Back::None {
            why: format!("{} is not production", release.id),
        },
    };
    let code_before = match &back {
        Back::Planned { to, .. } => bench.ledger.history(|h| h.release(*to))?,
        Back::None { .. } => None,
    };
    Ok(Facts {
        environment: env.clone(),
        release: Some(release.id),
        now,
        published: live.map(|live| live.since),
        unknown: findings
            .iter()
            .filter(|f| f.outcome == Outcome::Unknown)
            .count(),
        selected: selected(&context.config.policy, lineage.as_ref(), &relations)?,
        failed,
        dependents: radius.relations.len(),
        exposures: radius.exposures.len(),
        owners: radius.owners,
        back,
        automatic: bench.ledger.history(|h| h.automatic(env, now))?,
        measured: bench.ledger.history(|h| h.measured(env))?,
        code: release.code.clone(),
        code_before: code_before.and_then(|before| before.code),
    })
}

/// What a rollback to the newest good release would do. What keeps a plan from being made keeps it
/// from being carried out by itself as well, so it is a fact and no error.
fn way_back(bench: &mut Workbench) -> Back {
    let ask = Ask::Rollback {
        to: None,
        select: None,
    };
    match bench.session().plan(&ask) {
        Ok(plan) => back(&plan),
        Err(error) => Back::None {
            why: error.to_string(),
        },
    }
}

/// A plan's facts.
fn back(plan: &Plan) -> Back {
    Back::Planned {
        to: plan.operation.target().unwrap_or(plan.from),
        relations: plan.impact.changes.len(),
        irreversible: plan.irreversible.clone(),
        others: plan.impact.set_aside.clone(),
        expected: u64::try_from(plan.expected().as_millis()).unwrap_or(u64::MAX),
    }
}

/// What each selection of the policy's rules picks of these relations.
fn selected(
    policy: &Policy,
    lineage: Option<&Lineage>,
    relations: &BTreeSet<RelationName>,
) -> CliResult<BTreeMap<String, BTreeSet<RelationName>>> {
    policy
        .selections()
        .map(|text| Ok((text.to_owned(), picks(text, lineage, relations)?)))
        .collect()
}

/// What a selection picks of these relations; without a manifest by their names.
pub fn picks(
    text: &str,
    lineage: Option<&Lineage>,
    relations: &BTreeSet<RelationName>,
) -> CliResult<BTreeSet<RelationName>> {
    let wrong = |e: unship_core::lineage::SelectorError| CliError::usage(e.to_string());
    Ok(match lineage {
        Some(lineage) => {
            let selector = Selector::parse(&[text], &[]).map_err(wrong)?;
            let picked = lineage.built_relations(&lineage.select(&selector).picked);
            picked.intersection(relations).cloned().collect()
        }
        None => {
            let selected = select_relations(&[text], &[], relations).map_err(wrong)?;
            selected.picked
        }
    })
}
