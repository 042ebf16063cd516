//! Rollbacks that go stage by stage: what belongs together, carrying them out, and where they stand.

use super::verify;
use crate::config::Config;
use crate::context::{Context, Workbench};
use crate::declared;
use crate::error::{CliError, CliResult, exit};
use crate::loader;
use crate::render::text::{self, BAD, BOLD, GOOD, paint};
use crate::render::{json, plan as render};
use crate::scope;
use jiff::SignedDuration;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use unship_core::estate;
use unship_core::history::{Ended, Staging};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::BlobRef;
use unship_core::lineage::Lineage;
use unship_core::log::Ledger;
use unship_core::operate::{Ask, count};
use unship_core::others::Others;
use unship_core::plan::{Plan, PlanId};
use unship_core::stages::{Stage, Ties};

/// What each relation is read by, in either of the releases, and which go together with a loader's
/// state.
pub fn ties(config: &Config, bench: &mut Workbench, ask: &Ask) -> CliResult<Ties> {
    if bench.engine.capabilities().engine == estate::ENGINE {
        return Err(CliError::usage(
            "a rollback in stages is of one warehouse, and this environment has several members",
        )
        .hint(
            "leave `--staged` out: members go back one after the other in any case; or bring parts \
             of it back with `--select`",
        ));
    }
    let live = bench.session().live()?.release;
    let target = bench.session().resolve(ask)?.target();
    let map = bench.ledger.history(|h| h.map(live))?.unwrap_or_default();
    let mut ties = Ties::default();
    for release in [Some(live), target].into_iter().flatten() {
        let Some(manifest) = scope::manifest(&bench.ledger, release)? else {
            continue;
        };
        let there = bench.ledger.history(|h| h.map(release))?;
        let lineage = Lineage::new(manifest);
        for name in there.unwrap_or_default().into_keys() {
            let readers = lineage.dependents(&name);
            ties.readers.entry(name).or_default().extend(readers);
        }
    }
    for state in loader::states(config, &bench.ledger, &map)? {
        let why = format!("{} says how far what it describes came", state.relation);
        let mut all = state.describes;
        all.insert(state.relation);
        ties.together.push((all, why));
    }
    Ok(ties)
}

/// Begins a plan in stages and carries out as many as come out as they should.
pub fn carry_out(
    context: &Context,
    bench: &mut Workbench,
    plan: &Plan,
    others: Others,
    prove: bool,
) -> CliResult {
    bench.session().begin_stages(plan, others)?;
    go_on(context, bench, prove)
}

/// Goes on with a rollback in stages, also with one that was held, and says where it stands then.
pub fn go_on(context: &Context, bench: &mut Workbench, prove: bool) -> CliResult {
    let checks = declared::checks(context)?;
    let keep = context.config.keep.parse()?;
    let started = Instant::now();
    let staging = bench.session().go_on_in_stages(Some(&checks))?;
    let took = SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    bench.terminal.finish();
    let plan = plan_of(&bench.ledger, &staging.blob)?;
    if staging.ended != Some(Ended::Done) {
        return held(context, &staging, &plan);
    }
    let live = staging.back.last().copied().unwrap_or(staging.first);
    if !context.json() {
        crate::say!(
            "{} {} is production in {} ({} in {})",
            paint(GOOD, "done:"),
            paint(BOLD, live),
            text::span(took),
            render::what(&plan),
            count(plan.stages.len(), "stage"),
        );
        print(&staging, &plan);
        crate::say!(
            "  what was live before is kept as {}; `unship undo` takes all stages back",
            staging.from
        );
    }
    let proof = match prove {
        true => Some(verify::prove(bench, live).map_err(|e| {
            e.production(format!(
                "{live}: all stages are back, and only the proof of all of it is missing"
            ))
        })?),
        false => None,
    };
    bench.tidy_up(&keep);
    if context.json() {
        let proved = proof.as_ref().map(|p| p.differences.is_empty());
        document(&staging, &plan, proved)?;
    }
    match proof {
        Some(proof) => verify::report(&proof, context.json()).map_err(|e| {
            e.production(format!(
                "{live}: it was restored, and does not hold what was recorded"
            ))
            .hint("`unship undo` takes it back; `unship diff` shows what differs")
        }),
        None => Ok(exit::OK),
    }
}

/// Says what is back, what is not, and what to do next.
fn held(context: &Context, staging: &Staging, plan: &Plan) -> CliResult {
    if context.json() {
        document(staging, plan, None)?;
        return Ok(exit::UNFINISHED);
    }
    print(staging, plan);
    let number = staging.held.unwrap_or(staging.settled + 1);
    let surprises = staging.surprises.get(&number).cloned().unwrap_or_default();
    Err(CliError::new(
        exit::UNFINISHED,
        format!(
            "held at stage {number} of {}: {}",
            staging.of,
            surprises.join("; ")
        ),
    )
    .production(standing(staging))
    .hint(next(staging)))
}

/// What production is while a rollback in stages has not ended.
pub fn standing(staging: &Staging) -> String {
    format!(
        "{} of {} stages back, the rest as in {}; nothing else is begun until this has ended",
        staging.back.len(),
        staging.of,
        staging.from
    )
}

/// What can be done about a rollback in stages that has not ended.
pub fn next(staging: &Staging) -> String {
    let on = match (staging.held, staging.held_is_back()) {
        (Some(number), true) if number == staging.of => {
            "`unship resume` takes it as it is and ends it".to_owned()
        }
        (Some(number), true) => format!(
            "`unship resume` takes it as it is and goes on with stage {}",
            number + 1
        ),
        (Some(number), false) => format!("`unship resume` tries stage {number} again"),
        (None, _) => "`unship resume` goes on".to_owned(),
    };
    let undo = match staging.back.len() {
        0 => "`unship undo` gives it up".to_owned(),
        n => format!("`unship undo` takes {} back", count(n, "stage")),
    };
    format!("{on}; {undo}")
}

/// The plan of a rollback in stages.
pub fn plan_of(ledger: &Ledger, blob: &BlobRef) -> CliResult<Plan> {
    Ok(Plan::parse(&ledger.get_blob(&blob.0)?)?)
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is back, and as it should be or accepted.
    Back,
    /// It is back, and was not looked at yet.
    Unseen,
    /// It is back, and not as it should be.
    BackAndHeld,
    /// It could not be done.
    NotDone,
    /// Its turn has not come.
    NotBack,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Back => "back",
            Self::Unseen => "back, not looked at",
            Self::BackAndHeld => "back, and held",
            Self::NotDone => "not done, held",
            Self::NotBack => "not back",
        }
    }
}

fn state(staging: &Staging, stage: &Stage) -> (State, Option<ReleaseId>) {
    let at = usize::try_from(stage.number).unwrap_or(usize::MAX);
    let release = at.checked_sub(1).and_then(|at| staging.back.get(at));
    let held = staging.held == Some(stage.number);
    let state = match (release, held) {
        (Some(_), true) => State::BackAndHeld,
        (Some(_), false) if stage.number > staging.settled => State::Unseen,
        (Some(_), false) => State::Back,
        (None, true) => State::NotDone,
        (None, false) => State::NotBack,
    };
    (state, release.copied())
}

/// Prints the stages and where each stands.
pub fn print(staging: &Staging, plan: &Plan) {
    let mut table = text::table(["stage", "relations", "rows", "release", "is"]);
    for stage in &plan.stages {
        let (state, release) = state(staging, stage);
        let word = state.word();
        table.add_row([
            stage.number.to_string(),
            relations(stage),
            text::number(stage.rows),
            release.map_or_else(|| "-".to_owned(), |release| release.to_string()),
            match state {
                State::BackAndHeld | State::NotDone => paint(BAD, word),
                State::Back => paint(GOOD, word),
                State::Unseen | State::NotBack => word.to_owned(),
            },
        ]);
    }
    text::print_table(&table);
    for (number, surprises) in &staging.surprises {
        for surprise in surprises {
            crate::say!("  stage {number}: {surprise}");
        }
    }
}

/// A stage's relations as a person reads them.
pub fn relations(stage: &Stage) -> String {
    let names: Vec<String> = stage
        .relations
        .iter()
        .map(RelationName::to_string)
        .collect();
    names.join(", ")
}

/// A rollback in stages, for machines.
#[derive(Serialize)]
pub struct Document {
    /// The plan that derives all stages.
    plan: PlanId,
    first: ReleaseId,
    from: ReleaseId,
    to: Option<ReleaseId>,
    /// The stage at which it is held.
    held: Option<u32>,
    ended: Option<Ended>,
    /// Whether all that is live now was proved, where all stages are back.
    proved: Option<bool>,
    stages: Vec<One>,
    next: Option<String>,
}

#[derive(Serialize)]
struct One {
    number: u32,
    relations: BTreeSet<String>,
    rows: u64,
    state: State,
    release: Option<ReleaseId>,
    surprises: Vec<String>,
}

impl Document {
    /// Of a rollback in stages.
    pub fn of(staging: &Staging, plan: &Plan, proved: Option<bool>) -> Self {
        let surprises: &BTreeMap<u32, Vec<String>> = &staging.surprises;
        let one = |stage: &Stage| {
            let (state, release) = state(staging, stage);
            One {
                number: stage.number,
                relations: stage.relations.iter().map(ToString::to_string).collect(),
                rows: stage.rows,
                state,
                release,
                surprises: surprises.get(&stage.number).cloned().unwrap_or_default(),
            }
        };
        Self {
            plan: staging.plan.clone(),
            first: staging.first,
            from: staging.from,
            to: plan.operation.target(),
            held: staging.held,
            ended: staging.ended,
            proved,
            stages: plan.stages.iter().map(one).collect(),
            next: staging.ended.is_none().then(|| next(staging)),
        }
    }
}

fn document(staging: &Staging, plan: &Plan, proved: Option<bool>) -> CliResult<()> {
    json("unship.stages/1", &Document::of(staging, plan, proved))
}
