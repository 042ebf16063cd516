//! Relations that change places: what moves where, and the steps that do it.

use super::{ENGINE, Leaving, PgAction, Staging, Survey, facts, oid_at, place, retain};
use crate::postgres::swap::{self, Access, LeftKey, Move, Name, Rebuild, Request};
use crate::postgres::{layout, quote, retained};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::{Fact, Step};
use unship_core::release::{Version, VersionId};

/// Moves that are being put together.
#[derive(Default)]
pub(super) struct Moves {
    list: Vec<Move>,
    leaving: Vec<Leaving>,
    /// Foreign keys that come back with their relations.
    pub(super) keys: Vec<LeftKey>,
    /// What is recorded with it.
    pub(super) record: Vec<String>,
    /// What is done when everything is in its place.
    pub(super) last: Vec<String>,
    schemas: BTreeSet<String>,
    guard: Vec<Fact>,
    expect: Vec<Fact>,
    /// What becomes production, by identity.
    pub(super) incoming: BTreeSet<u32>,
    relations: Vec<RelationName>,
}

impl Moves {
    /// Production's relation goes to where its version is retained, if there is one.
    pub(super) fn out(
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
            name: at.clone(),
            oid,
            away: away.clone(),
        });
        self.schemas.insert(schema);
        self.list.push(Move {
            from: at,
            to: away,
            carry_from: None,
            access: None,
        });
        Ok(Some(oid))
    }

    /// A relation becomes production.
    pub(super) fn bring(
        &mut self,
        name: &RelationName,
        from: Name,
        oid: u32,
        carry: bool,
        access: Option<Access>,
    ) {
        let to = place(name);
        self.guard.push(facts::relation(&from, Some(oid)));
        self.expect.push(facts::relation(&to, Some(oid)));
        self.incoming.insert(oid);
        self.list.push(Move {
            from,
            carry_from: carry.then(|| to.clone()),
            access,
            to,
        });
    }

    /// Views of others that must be built anew, or brought back, and go along.
    pub(super) fn along(&mut self, survey: &Survey, views: &[Rebuild]) {
        for one in views {
            let from = layout::parse_retained(&one.away.schema).map(|(release, _)| release);
            let (Some(release), Some(oid)) = (from, oid_at(survey, &one.view)) else {
                continue;
            };
            self.guard.push(facts::relation(&one.view, Some(oid)));
            self.expect.push(facts::relation(&one.away, Some(oid)));
            self.leaving.push(Leaving {
                version: VersionId { release, drift: 0 },
                name: one.view.clone(),
                oid,
                away: one.away.clone(),
            });
            self.schemas.insert(one.away.schema.clone());
            if let Some((release, _)) = layout::parse_retained(&one.at.schema) {
                let back = VersionId { release, drift: 0 };
                let (schema, name) = (&one.view.schema, &one.view.name);
                self.record.push(retained::forget(back, schema, name));
            }
            self.list.extend(one.moves());
        }
    }

    /// The steps: the schemas first, which hurt nobody, then what must be built anew, then all moves
    /// at once.
    pub(super) fn steps(
        mut self,
        survey: &Survey,
        release: ReleaseId,
        method: String,
    ) -> Result<Steps, EngineError> {
        let base = Request {
            moves: self.list.clone(),
            ..Request::default()
        };
        let views = swap::plan_closure(&survey.swap, &base);
        self.along(survey, &views);
        let request = Request {
            moves: self.list,
            keys: self.keys,
            ..Request::default()
        };
        let mut known = survey.swap.clone();
        // The first release of a schema makes it, as the job itself would have.
        let places = request.moves.iter().map(|one| &one.to.schema);
        let new: BTreeSet<String> = places
            .filter(|schema| !known.schemas.contains_key(*schema))
            .cloned()
            .collect();
        self.schemas.extend(new);
        for schema in &self.schemas {
            known.schemas.entry(schema.clone()).or_insert(true);
        }
        let anew: Vec<Rebuild> = views
            .into_iter()
            .filter(|one| one.statement.is_some())
            .collect();
        let make = Step {
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
                staging: (!anew.is_empty()).then(|| Staging {
                    release,
                    schemas: anew.iter().map(|one| one.view.schema.clone()).collect(),
                }),
            }
            .action()?,
        };
        let mut steps = vec![make];
        let (statements, action, warnings, notes);
        if anew.is_empty() {
            let plan = swap::plan(&known, &request)
                .map_err(|refusal| EngineError::new(ErrorKind::Refused, refusal.to_string()))?;
            let mut record = retain(&survey.swap, &plan, &self.leaving)?;
            record.append(&mut self.record);
            record.append(&mut self.last);
            let all = [
                &plan.prepare,
                &plan.lock_incoming,
                &plan.lock_production,
                &plan.statements,
                &record,
                &plan.afterwards,
            ];
            statements = all.into_iter().flatten().cloned().collect();
            warnings = plan.warnings.clone();
            notes = plan.notes.clone();
            let plan = Box::new(plan);
            action = PgAction::Swap { plan, record };
        } else {
            let names: Vec<_> = anew.iter().map(|one| one.view.to_string()).collect();
            let moves = request.moves.iter();
            statements = moves
                .map(|one| format!("-- {} becomes {}", one.from, one.to))
                .collect();
            warnings = Vec::new();
            notes = vec![format!(
                "built anew, with the rows of now: {}. What it takes to move is looked at again then",
                names.join(", ")
            )];
            steps.push(rebuild(anew)?);
            self.record.append(&mut self.last);
            action = PgAction::SwapAfterRebuild {
                request: Box::new(request),
                leaving: self.leaving,
                record: self.record,
            };
        }
        let before = steps.last().map_or(0, |step| step.id);
        steps.push(Step {
            id: before + 1,
            after: vec![before],
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
            action: action.action()?,
        });
        Ok(Steps {
            steps,
            method,
            irreversible: warnings,
            notes,
            ..Steps::default()
        })
    }
}

/// The step that builds views anew beside production.
fn rebuild(views: Vec<Rebuild>) -> Result<Step, EngineError> {
    let statements = views.iter().filter_map(|one| one.statement.clone());
    Ok(Step {
        id: 2,
        after: vec![1],
        engine: ENGINE.to_owned(),
        relations: Vec::new(),
        statements: statements.collect(),
        guard: Vec::new(),
        expect: views.iter().map(|one| facts::made(&one.at)).collect(),
        undo: None,
        production: false,
        explain: format!(
            "build {} anew that read what is replaced",
            count(views.len(), "view")
        ),
        action: PgAction::Rebuild { views }.action()?,
    })
}
