//! Planning for PostgreSQL. Pure: it sees the request and a survey, and nothing else.

mod moves;

use self::moves::Moves;
use super::retained::{self, Retained};
use super::rows::{self, Exchange};
use super::swap::{self, Access, LeftKey, Name, Rebuild, Request, Rights, SwapPlan};
use super::{granted, layout, undo, writers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, PublishRequest, RestoreRequest, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::{Action, Fact};
use unship_core::relation::{RelationKind, RelationState};
use unship_core::release::VersionId;

/// The engine's name in plans and configuration.
pub const ENGINE: &str = "postgres";

/// What planning needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// The catalog around the relations that are to be moved.
    pub swap: swap::Survey,
    /// What is retained of them.
    pub retained: Vec<Held>,
    /// Who had which rights on them when they last became production, or stopped being it.
    #[serde(default)]
    pub granted: BTreeMap<u32, Rights>,
    /// Rows that can be put back into them.
    #[serde(default)]
    pub kept: Vec<Exchange>,
    /// Those of them whose changes are written down.
    #[serde(default)]
    pub undo: Vec<undo::Known>,
}

/// A retained version of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its production schema and name.
    pub name: Name,
    /// Which version.
    pub version: VersionId,
    /// Its identity.
    pub oid: u32,
    /// Foreign keys that it gets back with its place.
    #[serde(default)]
    pub keys: Vec<LeftKey>,
    /// Statements that give back who may write to it, where nothing in production says so.
    #[serde(default)]
    pub writers: Vec<String>,
}

impl Held {
    /// From the table of retained versions; none, if it is gone.
    pub fn of(one: &Retained) -> Option<Self> {
        one.kind.as_ref()?;
        Some(Self {
            name: Name::new(&*one.schema, &*one.name),
            version: one.version(),
            oid: one.relation,
            keys: one.keys.clone(),
            writers: one.writers.clone(),
        })
    }
}

/// What a step does. Serialised into [`Action`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum PgAction {
    /// Makes the schemas in which versions are retained, where they are missing.
    Schemas {
        /// Their names.
        names: BTreeSet<String>,
        /// Where views are built anew.
        #[serde(default)]
        staging: Option<Staging>,
    },
    /// Builds views anew beside production that read what is replaced and cannot be bound to
    /// anything else where they stand.
    Rebuild {
        /// In order: each may read the ones before it.
        views: Vec<Rebuild>,
    },
    /// Moves relations and what was built anew, all in one transaction. What is built has no
    /// identity yet, so that its statements are found when it is done.
    SwapAfterRebuild {
        /// What is moved.
        request: Box<Request>,
        /// What gives way.
        leaving: Vec<Leaving>,
        /// What is recorded with it besides.
        record: Vec<String>,
    },
    /// Puts rows in place of others, all in one transaction.
    Exchange {
        /// Of each relation.
        exchanges: Vec<Exchange>,
    },
    /// Moves relations, all in one transaction.
    Swap {
        /// Everything that it does.
        plan: Box<SwapPlan>,
        /// What is recorded with it.
        record: Vec<String>,
    },
    /// Brings tables back where they stand, all in one transaction.
    Undo {
        /// Everything that it does.
        statements: undo::Statements,
    },
}

/// Staging schemas of a release. Nothing that an earlier release left in them is there any more when
/// they have been made: it must not pass for what this one builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staging {
    /// The release that builds there.
    pub release: ReleaseId,
    /// The production schemas that they stand for.
    pub schemas: BTreeSet<String>,
}

impl PgAction {
    pub(super) fn action(&self) -> Result<Action, EngineError> {
        serde_json::to_value(self)
            .and_then(serde_json::from_value)
            .map_err(|e| {
                EngineError::new(ErrorKind::Io, "a step cannot be written down").because(e)
            })
    }

    /// Reads an action back from a plan.
    pub fn of(action: &Action) -> Result<Self, EngineError> {
        serde_json::to_value(action)
            .and_then(serde_json::from_value)
            .map_err(|e| {
                let text = "the plan has a step that is not known here";
                EngineError::new(ErrorKind::Unsupported, text)
                    .because(e)
                    .hint("it may come from a newer unship")
            })
    }
}

/// Facts, by what they look at.
pub mod facts {
    use super::*;

    /// What relation lies where.
    pub fn relation(at: &Name, oid: Option<u32>) -> Fact {
        let subject = serde_json::json!([at.schema, at.name]);
        let is = oid.map_or_else(|| "absent".to_owned(), |oid| oid.to_string());
        Fact::new(format!("relation {subject}"), is)
    }

    /// That a relation was made.
    pub fn made(at: &Name) -> Fact {
        let subject = serde_json::json!([at.schema, at.name]);
        Fact::new(format!("made {subject}"), "yes")
    }

    /// Whether a schema is there.
    pub fn schema(name: &str) -> Fact {
        Fact::new(format!("schema {name}"), "yes")
    }
}

/// A version that gives way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Which version.
    pub version: VersionId,
    /// Where it stood in production.
    pub name: Name,
    /// Its identity.
    pub oid: u32,
    /// Where it goes.
    pub away: Name,
}

fn place(name: &RelationName) -> Name {
    Name::new(&*name.schema, &*name.name)
}

fn oid_at(survey: &Survey, at: &Name) -> Option<u32> {
    let mut all = survey.swap.relations.values();
    all.find(|r| r.schema == at.schema && r.name == at.name)
        .map(|r| r.oid)
}

/// Statements that record what gives way, and keep it from being written to.
pub fn retain(
    survey: &swap::Survey,
    plan: &SwapPlan,
    leaving: &[Leaving],
) -> Result<Vec<String>, EngineError> {
    let arriving = plan.request.moves.iter();
    let arriving = arriving.filter(|one| layout::parse_retained(&one.to.schema).is_none());
    let places: BTreeSet<(&str, &str)> = arriving
        .map(|one| (&*one.from.schema, &*one.from.name))
        .collect();
    let coming = survey.relations.values();
    let coming = coming.filter(|r| places.contains(&(&*r.schema, &*r.name)));
    let both = coming
        .clone()
        .map(|r| r.oid)
        .chain(leaving.iter().map(|one| one.oid));
    let incoming = coming.clone().map(|r| r.oid).collect();
    // Before any right is taken from what leaves.
    let mut out = vec![
        granted::record(&both.collect()),
        rows::others::record(&incoming),
    ];
    let children = writers::children(survey);
    for one in leaving {
        let left = plan.left_keys.iter();
        let keys: Vec<_> = left.filter(|k| k.relation == one.away).collect();
        let writers = writers::of(survey, &children, one.oid, &one.away);
        out.extend(writers.revoke);
        let (schema, name) = (&one.name.schema, &one.name.name);
        let record = retained::record(one.version, schema, name, one.oid, &keys, &writers.grant)?;
        out.push(record);
    }
    Ok(out)
}

/// Steps that make what a job built production, and retain what it replaces.
pub fn publish(survey: &Survey, request: &PublishRequest) -> Result<Steps, EngineError> {
    let mut moves = Moves::default();
    for (name, version) in &request.changes {
        if let Some(state) = &version.state {
            movable(name, state.kind)?;
        }
        let old = moves.out(survey, name, request.live_map.get(name))?;
        if version.state.is_none() {
            continue;
        }
        let at = Name::new(layout::build(&name.schema)?, &*name.name);
        let new = oid_at(survey, &at).ok_or_else(|| {
            EngineError::new(
                ErrorKind::Missing,
                format!("the job did not leave {name} at {at}"),
            )
        })?;
        moves.bring(name, at, new, old.is_some(), None);
    }
    bound_to_staging(survey, &moves.incoming)?;
    let n = request.changes.len();
    let method = format!(
        "move what was built into place and what it replaces into schemas named after its release: \
         {}, one transaction",
        count(n, "relation")
    );
    moves.steps(survey, request.release, method)
}

/// Steps that bring retained versions back.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let (back, mixed) = put_back(survey, request)?;
    if !back.is_empty() {
        let n = count(back.len(), "relation");
        return Ok(Steps {
            method: format!(
                "put rows of {n} back that had given way to others, in one transaction"
            ),
            steps: vec![rows::step(1, back)?],
            mixed,
            ..Steps::default()
        });
    }
    let where_they_stand = undo::planned(survey, request)?;
    let stay: BTreeSet<_> = where_they_stand.relations.iter().collect();
    if !stay.is_empty() && stay.len() == request.bring.len() + request.remove.len() {
        return where_they_stand.alone();
    }
    let mut moves = Moves::default();
    for (name, wanted) in &request.bring {
        if stay.contains(name) {
            continue;
        }
        let at = place(name);
        let held = survey
            .retained
            .iter()
            .find(|held| held.name == at && held.version == wanted.id)
            .ok_or_else(|| {
                let text = format!("no schema holds {name} as it was in {}", wanted.id);
                let live = request.live_map.get(name);
                if live.is_some_and(|live| live.state.is_some() && live.id.drift > 0) {
                    // What no release replaced is not retained: there was only the one.
                    return EngineError::new(
                        ErrorKind::Missing,
                        format!("{text}: others put another in its place since"),
                    )
                    .hint("leave it as it is: `unship rollback --to R… --select …` without it");
                }
                EngineError::new(ErrorKind::Missing, text)
                    .hint("`unship log` shows which releases can still be restored")
            })?;
        let old = moves.out(survey, name, request.live_map.get(name))?;
        let from = Name::new(
            layout::retained(wanted.id.release, &name.schema)?,
            &*name.name,
        );
        let recorded = |oid| survey.granted.get(&oid).cloned();
        let access = old.and_then(|old| {
            Some(Access {
                own: recorded(held.oid)?,
                given: recorded(old)?,
            })
        });
        moves.bring(name, from, held.oid, old.is_some(), access);
        moves.keys.extend(held.keys.iter().cloned());
        if old.is_none() {
            moves.record.extend(held.writers.iter().cloned());
        }
        moves
            .record
            .push(retained::forget(wanted.id, &name.schema, &name.name));
    }
    for name in &request.remove {
        moves.out(survey, name, request.live_map.get(name))?;
    }
    for (name, statements) in &request.keep {
        let statements: Vec<String> = serde_json::from_value(statements.clone()).map_err(|e| {
            let text = format!("what is to be kept of {name} cannot be read");
            EngineError::new(ErrorKind::Io, text).because(e)
        })?;
        moves.last.extend(statements);
    }
    let method = format!(
        "move {} back from where they are retained, and what is there now into schemas named after \
         its release: one transaction",
        count(request.bring.len() + request.remove.len(), "relation")
    );
    let steps = moves.steps(survey, request.release, method)?;
    match stay.is_empty() {
        true => Ok(steps),
        false => where_they_stand.with(steps),
    }
}

/// What takes no move: versions that a relation is again when rows are put back into it. With them,
/// the ones that will not be what they were, because others wrote to the rest of the relation.
type Back = (
    Vec<(RelationName, Exchange)>,
    BTreeMap<RelationName, RelationState>,
);

fn put_back(survey: &Survey, request: &RestoreRequest) -> Result<Back, EngineError> {
    let mut back = Vec::new();
    let mut mixed = BTreeMap::new();
    let mut moved = request.remove.iter().next();
    for (name, wanted) in &request.bring {
        let at = place(name);
        let held = |held: &&Held| held.name == at && held.version == wanted.id;
        let kept = |one: &&Exchange| one.name == at && one.given == wanted.id;
        let whole = survey.retained.iter().find(held).is_some();
        let Some(kept) = survey.kept.iter().find(kept).filter(|_| !whole) else {
            moved = Some(name);
            continue;
        };
        let live = request.live_map.get(name);
        let live = live.filter(|live| live.id.release == kept.holds.release);
        let (Some(live), true) = (live, oid_at(survey, &at) == Some(kept.oid)) else {
            let text = format!(
                "{name} can be what it was in {} only from what it was in {}",
                wanted.id, kept.holds
            );
            return Err(EngineError::new(ErrorKind::Missing, text).hint(format!(
                "`unship rollback --to {}` first; from there it is one step more",
                kept.holds.release
            )));
        };
        let mut exchange = kept.clone();
        exchange.holds = live.id;
        if live.id != kept.holds {
            // What others wrote to the rest of the relation stays in it.
            exchange.given = VersionId {
                release: request.release,
                drift: 0,
            };
            let state = live.state.as_ref();
            let state = state.and_then(|state| rows::afterwards(state, kept));
            mixed.extend(state.map(|state| (name.clone(), state)));
        }
        back.push((name.clone(), exchange));
    }
    match (back.first(), moved) {
        (Some((first, _)), Some(other)) => Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("{first} gets rows back and {other} is moved, which is not one transaction"),
        )
        .hint("do it in two steps: `unship rollback --to R… --select …` for each")),
        _ => Ok((back, mixed)),
    }
}

fn movable(name: &RelationName, kind: RelationKind) -> Result<(), EngineError> {
    match kind {
        RelationKind::Macro | RelationKind::Type | RelationKind::File => Err(EngineError::new(
            ErrorKind::Unsupported,
            format!(
                "the job made the {} {name}, which cannot be released",
                kind.word()
            ),
        )
        .hint("make functions and types outside of the schemas that unship guards")),
        _ => Ok(()),
    }
}

/// Refuses to publish a view that reads what stays in staging and is dropped with it.
fn bound_to_staging(survey: &Survey, incoming: &BTreeSet<u32>) -> Result<(), EngineError> {
    let places: BTreeMap<u32, Name> = survey
        .swap
        .relations
        .values()
        .map(|r| (r.oid, Name::new(&*r.schema, &*r.name)))
        .chain(survey.swap.others.clone())
        .collect();
    for (view, read) in &survey.swap.reads {
        let staged = places
            .get(read)
            .filter(|at| layout::parse_build(&at.schema).is_some() && !incoming.contains(read));
        if let Some(read) = staged
            && incoming.contains(view)
        {
            let view = places
                .get(view)
                .map(ToString::to_string)
                .unwrap_or_default();
            return Err(EngineError::new(
                ErrorKind::Refused,
                format!("{view} reads {read}, which is no part of the release"),
            )
            .hint("let the job report what it builds, or build both in one run"));
        }
    }
    Ok(())
}
