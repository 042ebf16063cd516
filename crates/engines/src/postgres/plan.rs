//! Planning for PostgreSQL. Pure: it sees the request and a survey, and nothing else.

use super::retained::{self, Retained};
use super::swap::{self, LeftKey, Move, Name, Request, SwapPlan};
use super::{layout, quote, writers};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, PublishRequest, RestoreRequest, Steps};
use unship_core::ident::RelationName;
use unship_core::operate::count;
use unship_core::plan::{Action, Fact, Step};
use unship_core::relation::RelationKind;
use unship_core::release::{Version, VersionId};

/// The engine's name in plans and configuration.
pub const ENGINE: &str = "postgres";

/// What planning needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// The catalog around the relations that are to be moved.
    pub swap: swap::Survey,
    /// What is retained of them.
    pub retained: Vec<Held>,
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
    },
    /// Moves relations, all in one transaction.
    Swap {
        /// Everything that it does.
        plan: Box<SwapPlan>,
        /// What is recorded with it.
        record: Vec<String>,
    },
}

impl PgAction {
    fn action(&self) -> Result<Action, EngineError> {
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

    /// Whether a schema is there.
    pub fn schema(name: &str) -> Fact {
        Fact::new(format!("schema {name}"), "yes")
    }
}

/// A version that gives way.
struct Leaving {
    version: VersionId,
    name: RelationName,
    oid: u32,
    away: Name,
}

/// Moves that are being put together.
#[derive(Default)]
struct Moves {
    list: Vec<Move>,
    leaving: Vec<Leaving>,
    keys: Vec<LeftKey>,
    record: Vec<String>,
    schemas: BTreeSet<String>,
    guard: Vec<Fact>,
    expect: Vec<Fact>,
    incoming: BTreeSet<u32>,
    relations: Vec<RelationName>,
}

fn place(name: &RelationName) -> Name {
    Name::new(&*name.schema, &*name.name)
}

fn oid_at(survey: &Survey, at: &Name) -> Option<u32> {
    let mut all = survey.swap.relations.values();
    all.find(|r| r.schema == at.schema && r.name == at.name)
        .map(|r| r.oid)
}

impl Moves {
    /// Production's relation goes to where its version is retained, if there is one.
    fn out(
        &mut self,
        survey: &Survey,
        name: &RelationName,
        live: Option<&Version>,
    ) -> Result<Option<u32>, EngineError> {
        let at = place(name);
        let oid = oid_at(survey, &at);
        self.guard.push(facts::relation(&at, oid));
        self.relations.push(name.clone());
        let Some(oid) = oid else {
            return Ok(None);
        };
        let version = live
            .filter(|v| v.state.is_some())
            .map(|v| v.id)
            .ok_or_else(|| {
                let text =
                    format!("{name} is in production, and no release is known to have made it");
                EngineError::new(ErrorKind::Refused, text)
                    .hint("somebody made it just now; run the command again to record it")
            })?;
        let schema = layout::retained(version.release, &name.schema)?;
        let away = Name::new(&*schema, &*name.name);
        self.expect.push(facts::relation(&away, Some(oid)));
        self.leaving.push(Leaving {
            version,
            name: name.clone(),
            oid,
            away: away.clone(),
        });
        self.schemas.insert(schema);
        self.list.push(Move {
            from: at,
            to: away,
            carry_from: None,
        });
        Ok(Some(oid))
    }

    /// A relation becomes production.
    fn bring(&mut self, name: &RelationName, from: Name, oid: u32, carry: bool) {
        let to = place(name);
        self.guard.push(facts::relation(&from, Some(oid)));
        self.expect.push(facts::relation(&to, Some(oid)));
        self.incoming.insert(oid);
        self.list.push(Move {
            from,
            carry_from: carry.then(|| to.clone()),
            to,
        });
    }

    /// The steps: the schemas first, which hurt nobody, then all moves at once.
    fn steps(mut self, survey: &Survey, method: String) -> Result<Steps, EngineError> {
        let mut known = survey.swap.clone();
        // The first release of a schema makes it, as the job itself would have.
        let places = self.list.iter().map(|one| &one.to.schema);
        let new: BTreeSet<String> = places
            .filter(|schema| !known.schemas.contains_key(*schema))
            .cloned()
            .collect();
        self.schemas.extend(new);
        for schema in &self.schemas {
            known.schemas.entry(schema.clone()).or_insert(true);
        }
        let request = Request {
            moves: self.list,
            keys: self.keys,
            ..Request::default()
        };
        let plan = swap::plan(&known, &request)
            .map_err(|refusal| EngineError::new(ErrorKind::Refused, refusal.to_string()))?;
        for one in self.leaving {
            let left = plan.left_keys.iter();
            let keys: Vec<_> = left.filter(|k| k.relation == one.away).collect();
            let (schema, name) = (&one.name.schema, &one.name.name);
            let writers = writers::of(&survey.swap, one.oid, &one.away);
            self.record.extend(writers.revoke);
            self.record.push(retained::record(
                one.version,
                schema,
                name,
                one.oid,
                &keys,
                &writers.grant,
            )?);
        }
        let warnings = plan.warnings.clone();
        let statements = [
            &plan.prepare,
            &plan.lock_incoming,
            &plan.lock_production,
            &plan.statements,
            &self.record,
            &plan.afterwards,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
        let schemas = Step {
            id: 1,
            after: Vec::new(),
            engine: ENGINE.to_owned(),
            relations: Vec::new(),
            statements: self
                .schemas
                .iter()
                .map(|s| format!("CREATE SCHEMA IF NOT EXISTS {}", quote::name(s)))
                .collect(),
            guard: Vec::new(),
            expect: self.schemas.iter().map(|s| facts::schema(s)).collect(),
            undo: None,
            production: false,
            explain: format!(
                "make sure of {}: where the release goes, and where what gives way is kept",
                count(self.schemas.len(), "schema")
            ),
            action: PgAction::Schemas {
                names: self.schemas,
            }
            .action()?,
        };
        let swap = Step {
            id: 2,
            after: vec![1],
            engine: ENGINE.to_owned(),
            explain: format!(
                "move {} in one transaction",
                count(self.relations.len(), "relation")
            ),
            relations: self.relations,
            statements,
            guard: self.guard,
            expect: self.expect,
            undo: None,
            production: true,
            action: PgAction::Swap {
                plan: Box::new(plan),
                record: self.record,
            }
            .action()?,
        };
        Ok(Steps {
            steps: vec![schemas, swap],
            method,
            irreversible: warnings,
            needs: Vec::new(),
            bytes: 0,
        })
    }
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
        moves.bring(name, at, new, old.is_some());
    }
    bound_to_staging(survey, &moves.incoming)?;
    let n = request.changes.len();
    let method = format!(
        "move what was built into place and what it replaces into schemas named after its release: \
         {}, one transaction",
        count(n, "relation")
    );
    moves.steps(survey, method)
}

/// Steps that bring retained versions back.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let mut moves = Moves::default();
    for (name, wanted) in &request.bring {
        let at = place(name);
        let held = survey
            .retained
            .iter()
            .find(|held| held.name == at && held.version == wanted.id)
            .ok_or_else(|| {
                let text = format!("no schema holds {name} as it was in {}", wanted.id);
                EngineError::new(ErrorKind::Missing, text)
                    .hint("`unship log` shows which releases can still be restored")
            })?;
        let old = moves.out(survey, name, request.live_map.get(name))?;
        let from = Name::new(
            layout::retained(wanted.id.release, &name.schema)?,
            &*name.name,
        );
        // Who was given access meanwhile keeps it.
        moves.bring(name, from, held.oid, old.is_some());
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
    let method = format!(
        "move {} back from where they are retained, and what is there now into schemas named after \
         its release: one transaction",
        count(request.bring.len() + request.remove.len(), "relation")
    );
    moves.steps(survey, method)
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
