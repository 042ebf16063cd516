//! PostgreSQL as an [`Engine`].

mod changes;
mod survey;

use super::connect::Connector;
use super::error::Doing;
use super::ledger::seal_statements;
use super::observe::{self, Look};
use super::plan::{self, ENGINE, PgAction, Survey};
use super::swap::{self, Name};
use super::{
    access, build, catalog, diff, doctor, granted, layout, profile, query, quote, record, retained,
    rows, session, undo,
};
use postgres::Client;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Change, Depth, Diagnosis, Engine, EngineError, ErrorKind,
    Housekeeping, Moments, Observation, OnProgress, Place, Point, PublishRequest, ReleaseRecord,
    RestoreRequest, Retention, Steps, Unmet,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::others::Written;
use unship_core::plan::{Fact, Step};
use unship_core::relation::RelationState;
use unship_core::rows::{RowsRequest, RowsSurvey};

/// One PostgreSQL database.
pub struct Postgres {
    pub(super) connector: Connector,
    /// The schemas that are looked at; empty means all of production.
    pub(super) guarded: BTreeSet<String>,
    pub(super) wanted: build::Wanted,
    client: Option<Client>,
    /// Whether it is known that nothing pools transactions on the way to the server.
    own_session: bool,
    notes: Vec<String>,
    undo: UndoLog,
}

/// Which tables have an undo log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoLog {
    /// Their schemas and names.
    pub tables: BTreeSet<(String, String)>,
    /// How long what they write down is kept; for ever, if this is none.
    pub keep: Option<jiff::SignedDuration>,
}

impl Postgres {
    /// Nothing is connected to yet. `guarded` are the schemas that are looked at, all of them if it
    /// is empty; `wanted` is what a job is about to build.
    pub fn new(connector: Connector, guarded: BTreeSet<String>, wanted: build::Wanted) -> Self {
        Self {
            connector,
            guarded,
            wanted,
            client: None,
            own_session: false,
            notes: Vec::new(),
            undo: UndoLog::default(),
        }
    }

    /// Writes down what changes in tables that are written where they stand.
    #[must_use]
    pub fn with_undo_log(mut self, undo: UndoLog) -> Self {
        self.undo = undo;
        self
    }

    /// The connection; a new one, where the last was lost.
    pub(super) fn client(&mut self) -> Result<&mut Client, EngineError> {
        if self.client.as_ref().is_some_and(Client::is_closed) {
            self.client = None;
        }
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(self.connector.connect()?)),
        }
    }

    /// The tables that are to have an undo log.
    pub(super) fn undo_tables(&self) -> BTreeSet<(String, String)> {
        self.undo.tables.clone()
    }

    fn schemas(&self) -> Option<Vec<String>> {
        let list: Vec<_> = self.guarded.iter().cloned().collect();
        (!list.is_empty()).then_some(list)
    }
}

impl Engine for Postgres {
    fn capabilities(&mut self) -> Capabilities {
        let version = self.client().and_then(|client| {
            let row = client
                .query_one("SHOW server_version", &[])
                .doing("ask for the version")?;
            row.try_get::<_, String>(0).doing("ask for the version")
        });
        Capabilities {
            engine: ENGINE.to_owned(),
            version: version.ok(),
            atomicity: Atomicity::Relations,
            restore_point:
                "the old relations themselves, moved to schemas named after the release \
                            that built them"
                    .to_owned(),
            aside: true,
            free_clone: false,
            proves_identity: true,
            relations: Ok(()),
            carries: [
                "rows",
                "columns",
                "views",
                "keys",
                "indexes",
                "defaults",
                "constraints",
                "triggers",
                "policies",
                "comments",
                "options",
                "owner",
                "privileges",
                "owned sequences",
            ]
            .map(str::to_owned)
            .to_vec(),
            not_protected: vec![
                "what a job in place does to tables that have no undo log".to_owned(),
                "rows that others write into a released relation: they are noticed, and retained \
                 with it"
                    .to_owned(),
                "functions and types that a job makes".to_owned(),
                "numbers that a free sequence has given out".to_owned(),
            ],
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        doctor::examine(self)
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        let only = self.schemas();
        let client = self.client()?;
        catalog::settle(client)?;
        let scopes = catalog::production(&catalog::namespaces(client)?, only.as_deref());
        let oids: Vec<u32> = scopes.iter().map(|s| s.oid).collect();
        let row = client
            .query_one(catalog::sql::MARK, &[&oids])
            .doing("look whether anybody wrote")?;
        row.try_get(0).doing("look whether anybody wrote")
    }

    /// The first word of a mark counts every transaction of the server, unship's own too; the rest
    /// is of the relations that are guarded.
    fn touched(&mut self, mark: &str) -> Result<bool, EngineError> {
        let guarded = |mark: &str| mark.split_once(' ').map(|(_, rest)| rest.to_owned());
        Ok(guarded(&self.mark()?) != guarded(mark))
    }

    /// Writers need not be kept out: what they write to what is not released stays, and what they
    /// write to what is released is found before it is replaced. What follows relies on a session.
    fn freeze(&mut self) -> Result<(), EngineError> {
        if !self.own_session {
            let connector = self.connector.clone();
            session::own(self.client()?, &connector)?;
            self.own_session = true;
        }
        let tables = self.undo.tables.clone();
        let notes = undo::ensure(self.client()?, &tables)?;
        self.notes.extend(notes);
        Ok(())
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        let connector = self.connector.clone();
        let only = self.schemas();
        let look = Look {
            connector: &connector,
            schemas: only.as_deref(),
            database: connector.database(),
        };
        observe::observe(self.client()?, &look, place, depth, on)
    }

    /// A table's storage begins with its identity, which it keeps wherever it is moved.
    fn same_relation(
        &self,
        _name: &RelationName,
        one: &RelationState,
        other: &RelationState,
    ) -> bool {
        let identity = |state: &RelationState| -> Option<String> {
            let storage = state.storage.as_deref()?;
            storage.split(' ').next().map(str::to_owned)
        };
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }

    fn moments(
        &mut self,
        at: Option<jiff::Timestamp>,
        writer: Option<&str>,
    ) -> Result<Moments, EngineError> {
        let database = self.connector.database().to_owned();
        undo::moments(self.client()?, &database, at, writer)
    }

    fn changes(&mut self, relation: &RelationName, limit: u64) -> Result<Vec<Change>, EngineError> {
        let at = Name::new(&*relation.schema, &*relation.name);
        undo::changes(self.client()?, &at, limit)
    }

    fn goes_back(&self, _name: &RelationName, state: &RelationState) -> bool {
        let storage = state.storage.as_deref();
        storage.and_then(undo::Position::read).is_some()
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        _live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        if !aside {
            return self.begin_in_place(release);
        }
        let (connector, wanted) = (self.connector.clone(), self.wanted.clone());
        build::begin(&connector, self.client()?, release, &wanted, on)?;
        let mut env = BTreeMap::from([
            ("UNSHIP_RELEASE".to_owned(), release.to_string()),
            ("UNSHIP_SCHEMA_PREFIX".to_owned(), layout::BUILD.to_owned()),
        ]);
        if let Some(schema) = wanted.schemas.first().filter(|_| wanted.schemas.len() == 1) {
            env.insert("UNSHIP_SCHEMA".to_owned(), layout::build(schema)?);
        }
        Ok(Build {
            release,
            files: Vec::new(),
            env,
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        build::keep(self.client()?, release)
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        build::discard(self.client()?, release)
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        build::analyze(self.client()?, release)?;
        serde_json::to_value(self.survey_of(release, relations)?)
            .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be written").because(e))
    }

    fn plan_publish(
        &self,
        survey: &serde_json::Value,
        request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        plan::publish(&read_survey(survey)?, request)
    }

    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError> {
        plan::restore(&read_survey(survey)?, request)
    }

    fn survey_others(
        &mut self,
        request: &RestoreRequest,
        published: &BTreeMap<RelationName, RelationState>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let client = self.client()?;
        let mut out = undo::others::survey(client, request, published)?;
        let mut rest = published.clone();
        rest.retain(|name, _| !out.contains_key(name));
        out.extend(rows::others::survey(client, request, &rest, on)?);
        Ok(out)
    }

    fn survey_amidst(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let wanted = request.bring.iter();
        let states = wanted.filter_map(|(name, v)| Some((name.clone(), v.state.clone()?)));
        let mut out = undo::others::survey(self.client()?, request, &states.collect())?;
        out.retain(|_, written| written.added + written.lost > 0);
        Ok(out)
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        rows::survey(self.client()?, request, on)
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        rows::plan(survey, request)
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let answers = undo::facts::with(self.client()?, &[subject], facts)?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    fn unmet(&mut self, facts_: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        let subjects: Vec<_> = facts_.iter().map(|f| f.subject.as_str()).collect();
        let now = undo::facts::with(self.client()?, &subjects, facts)?;
        Ok(facts_
            .iter()
            .zip(now)
            .find(|(fact, now)| fact.is != *now)
            .map(|(fact, now)| Unmet {
                fact: fact.clone(),
                now,
            }))
    }

    fn apply(
        &mut self,
        step: &Step,
        seal: Option<&Seal>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let client = self.client()?;
        match PgAction::of(&step.action)? {
            PgAction::Schemas { names, staging } => {
                for table in [retained::TABLE, granted::TABLE, rows::others::TABLE] {
                    client
                        .batch_execute(table)
                        .doing("make unship's own schema")?;
                }
                for name in names {
                    let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quote::name(&name));
                    client
                        .batch_execute(&sql)
                        .doing(&format!("make the schema {name}"))?;
                    boundary("schema made");
                }
                if let Some(staging) = staging {
                    for schema in &staging.schemas {
                        build::another(client, staging.release, schema)?;
                    }
                }
                Ok(())
            }
            PgAction::Rebuild { views } => {
                swap::build_closure(client, &views)?;
                boundary("views built anew");
                Ok(())
            }
            PgAction::SwapAfterRebuild {
                request,
                leaving,
                record,
            } => {
                let found = swap::survey(client, &request.scope())?;
                let plan = swap::plan(&found, &request)
                    .map_err(|refusal| EngineError::new(ErrorKind::Refused, refusal.to_string()))?;
                let mut all = plan::retain(&found, &plan, &leaving)?;
                all.extend(record);
                all.extend(seal.into_iter().flat_map(seal_statements));
                self.swap(&plan, &all, on)
            }
            PgAction::Exchange { exchanges } => {
                let seal: Vec<_> = seal.into_iter().flat_map(seal_statements).collect();
                rows::run(client, &exchanges, &seal, on)
            }
            PgAction::Undo { statements } => {
                let record: Vec<_> = seal.into_iter().flat_map(seal_statements).collect();
                self.undo_in_place(&statements, &record, on)
            }
            PgAction::Swap { plan, mut record } => {
                record.extend(seal.into_iter().flat_map(seal_statements));
                self.swap(&plan, &record, on)
            }
        }
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn record_release(
        &mut self,
        schema: &str,
        record: &ReleaseRecord,
    ) -> Result<bool, EngineError> {
        let statement = record::release(schema, record);
        let client = self.client()?;
        client
            .batch_execute(&statement)
            .doing("add the release to the dbt package's restore points")?;
        Ok(true)
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        Err(EngineError::new(
            ErrorKind::Unsupported,
            format!("step {} cannot be taken back", step.id),
        ))
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        let database = self.connector.database().to_owned();
        let client = self.client()?;
        let points = retained::points(client, &database)?;
        Ok(rows::points(&rows::list(client)?, &database, points))
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        retained::prove(self.client()?, release)
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        _on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        diff::diff(self.client()?, old, new, key, examples)
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        let connector = self.connector.clone();
        profile::profiles(&connector, self.client()?, place, relations, on)
    }

    fn roles(&mut self) -> Result<BTreeSet<String>, EngineError> {
        access::roles(self.client()?)
    }

    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        let schema = profile::schema(self.client()?, place, relation)?.ok_or_else(|| {
            EngineError::new(ErrorKind::Missing, format!("{relation} is not there"))
        })?;
        Ok(quote::relation(&schema, &relation.name))
    }

    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError> {
        let only = self.schemas();
        query::query(self.client()?, place, only.as_deref(), sql, limit, timeout)
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        let client = self.client()?;
        let mut done = retained::housekeep(client, keep, on)?;
        let (dropped, freed) = rows::housekeep(client, &keep.keep)?;
        rows::forget_gone(client)?;
        if !done.dropped.is_empty() {
            rows::others::forget_gone(client)?;
        }
        done.freed += freed;
        let all: BTreeSet<_> = done.dropped.iter().copied().chain(dropped).collect();
        done.dropped = all.into_iter().collect();
        if let Some(within) = self.undo.keep {
            on("trimming the undo log", 0, 0);
            done.freed += undo::trim(self.client()?, within)?;
        }
        Ok(done)
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        retained::fsck(self.client()?, on)
    }
}

fn read_survey(survey: &serde_json::Value) -> Result<Survey, EngineError> {
    Survey::deserialize(survey)
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))
}

/// What is true now of each subject, in one query for all relations and one for all schemas.
fn facts(client: &mut Client, subjects: &[&str]) -> Result<Vec<String>, EngineError> {
    let unknown = |subject: &str| {
        let text = format!("the plan asks for {subject:?}");
        EngineError::new(ErrorKind::Unsupported, text).hint("it may come from a newer unship")
    };
    let mut schemas = Vec::new();
    let mut names = Vec::new();
    let mut made = Vec::new();
    for subject in subjects {
        made.push(subject.starts_with("made "));
        match subject.split_once(' ').ok_or_else(|| unknown(subject))? {
            ("schema", name) => {
                schemas.push(name.to_owned());
                names.push(None);
            }
            ("relation" | "made", place) => {
                let [schema, name]: [String; 2] =
                    serde_json::from_str(place).map_err(|_| unknown(subject))?;
                schemas.push(schema);
                names.push(Some(name));
            }
            _ => return Err(unknown(subject)),
        }
    }
    let sql = "
        SELECT CASE WHEN w.name IS NULL THEN CASE WHEN n.oid IS NULL THEN 'no' ELSE 'yes' END
                    ELSE coalesce(c.oid::text, 'absent') END
          FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(schema, name, place)
          LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
          LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
         ORDER BY w.place";
    let rows = client
        .query(sql, &[&schemas, &names])
        .doing("look at production")?;
    rows.iter()
        .zip(made)
        .map(|(row, made)| {
            let is: String = row.try_get(0).doing("look at production")?;
            Ok(match (made, is.as_str()) {
                (true, "absent") => "no".to_owned(),
                (true, _) => "yes".to_owned(),
                (false, _) => is,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
