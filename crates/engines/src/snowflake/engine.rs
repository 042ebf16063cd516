//! Snowflake as an [`Engine`].

use super::build::{self, Wanted};
use super::catalog::{self, Extent};
use super::client::Client;
use super::level::Level;
use super::plan::{self, Change, ENGINE, SfAction};
use super::point::{self, Known};
use super::session::Session;
use super::sql::{self, Place as At};
use super::survey::{self, Survey};
use super::{diff, doctor, exchange, facts, layout, measure, observe, retained, unanswered};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, PublishRequest, ReleaseRecord, RestoreRequest,
    Retention, Steps, Unmet,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::plan::{Action, Fact, Step};
use unship_core::relation::RelationState;
use unship_core::release::Version;

/// One database of a Snowflake account.
pub struct Snowflake {
    pub(super) session: Session,
    /// The schemas that are looked at; empty means all of production.
    pub(super) guarded: BTreeSet<String>,
    wanted: Wanted,
    pub(super) level: Level,
    version: Option<String>,
    notes: Vec<String>,
    /// What production is, until it is needed: it is soon something else.
    known: Option<Known>,
    /// What the restore point of a release's job in place is made of, as far as this process made it.
    made: Option<(ReleaseId, BTreeSet<At>)>,
    /// Whether this process has carried something out. What it begins with may be what another one
    /// was at when it died.
    acted: bool,
}

impl Snowflake {
    /// Nothing is sent yet. `guarded` are the schemas that are looked at, all of them if it is empty;
    /// `wanted` is what a job is about to build.
    pub fn new(client: Client, guarded: BTreeSet<String>, wanted: Wanted) -> Self {
        Self {
            session: Session::new(client),
            guarded,
            wanted,
            level: Level::default(),
            version: None,
            notes: Vec::new(),
            known: None,
            made: None,
            acted: false,
        }
    }

    /// The same, exchanging more than tables at once, where that is possible.
    #[must_use]
    pub fn at_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Carries out an action. `step` and the release are what Snowflake's history shows.
    fn act(&mut self, action: &Action, step: u32) -> Result<(), EngineError> {
        let release = action.args.get("release").and_then(|r| r.as_str());
        let release = release.unwrap_or("?").to_owned();
        let action = SfAction::of(action)?;
        if !std::mem::replace(&mut self.acted, true) && !action.may_be_repeated() {
            // A plan does not begin with such a step: it is being resumed.
            let tag = format!("unship {release} step ");
            if unanswered::wait_for(&self.session, &tag)? {
                let text = "a statement that an interrupted unship had sent ended just now";
                return Err(EngineError::new(ErrorKind::Interrupted, text));
            }
        }
        let tag = format!("unship {release} step {step}");
        self.session.tag(tag.clone());
        let done = self.carry_out(&action);
        self.session.tag("unship".to_owned());
        match done {
            Err(error) if error.kind == ErrorKind::Interrupted => {
                unanswered::wait_for(&self.session, &tag)?;
                Err(error)
            }
            done => done,
        }
    }

    fn carry_out(&mut self, action: &SfAction) -> Result<(), EngineError> {
        let database = self.session.database().to_owned();
        if let SfAction::Swap {
            live,
            other,
            token,
            rows,
            access,
        } = action
        {
            let said =
                exchange::tables(&self.session, live, other, token.as_deref(), *rows, access)?;
            self.notes.extend(said);
            return Ok(());
        }
        if let SfAction::SwapSchemas {
            live,
            other,
            held,
            access,
        } = action
        {
            let said = exchange::schemas(&self.session, live, other, held, access)?;
            self.notes.extend(said);
            return Ok(());
        }
        if let SfAction::Grants { changes } = action {
            return self.grants(changes);
        }
        if let SfAction::Move {
            from: place,
            created: Some(created),
            ..
        }
        | SfAction::DropTable { place, created } = action
        {
            let now = facts::now(&self.session, &[&facts::table(place, None).subject])?;
            if now.first() != Some(created) {
                let text = format!("{place} is another table than the one that was looked at");
                return Err(EngineError::new(ErrorKind::Refused, text));
            }
        }
        for statement in action.statements(&database) {
            self.session.run(&statement, "change what stands where")?;
            boundary("statement run");
        }
        Ok(())
    }

    /// Takes the restore point for a job that works on production itself.
    fn begin_in_place(
        &mut self,
        release: ReleaseId,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        let known = self.known.take().ok_or_else(|| {
            let text = "which version each relation of production is has not been said";
            EngineError::new(ErrorKind::Unsupported, text)
        })?;
        self.session.tag(format!("unship {release} restore point"));
        let (_, made) = self.made.insert((release, BTreeSet::new()));
        let taken = point::take(&self.session, &self.guarded, &known, made, on);
        self.session.tag("unship".to_owned());
        self.notes.extend(taken?);
        let mut env = BTreeMap::from([
            ("UNSHIP_RELEASE".to_owned(), release.to_string()),
            // A script that builds aside, too, finds production by the same names.
            ("UNSHIP_SCHEMA_PREFIX".to_owned(), String::new()),
            (
                "UNSHIP_DATABASE".to_owned(),
                self.session.database().to_owned(),
            ),
        ]);
        let mut schemas = self.guarded.iter();
        if let (Some(schema), None) = (schemas.next(), schemas.next()) {
            env.insert("UNSHIP_SCHEMA".to_owned(), schema.clone());
        }
        Ok(Build {
            release,
            files: Vec::new(),
            env,
        })
    }

    fn grants(&self, changes: &[Change]) -> Result<(), EngineError> {
        for change in changes {
            let what = format!("change who may read {}", change.place);
            self.session.run(&change.statement(), &what)?;
            boundary("privilege changed");
        }
        Ok(())
    }
}

impl Engine for Snowflake {
    fn capabilities(&mut self) -> Capabilities {
        if self.version.is_none() {
            let rows = self.session.rows(&sql::session(), "ask for the version");
            let row = rows.ok().and_then(|rows| rows.into_iter().next());
            self.version = row.and_then(|row| super::session::text(super::session::cell(&row, 1)));
        }
        Capabilities {
            engine: ENGINE.to_owned(),
            version: self.version.clone(),
            atomicity: match self.level {
                Level::Table => Atomicity::Relation,
                Level::Schema => Atomicity::Schema,
            },
            restore_point: "the old tables themselves, moved to schemas named after the release \
                            that built them; Time Travel is not relied on"
                .to_owned(),
            aside: true,
            free_clone: true,
            proves_identity: true,
            relations: Ok(()),
            carries: [
                "rows",
                "columns",
                "views",
                "keys",
                "defaults",
                "clustering",
                "comments",
                "privileges",
                "Time Travel history",
            ]
            .map(str::to_owned)
            .to_vec(),
            not_protected: vec![
                "rows that others write into a released relation: they are noticed, and retained \
                 with it"
                    .to_owned(),
                "streams, pipes, dynamic tables, materialized views, policies and shares on a \
                 table: a release that would lose one is refused by name"
                    .to_owned(),
                "functions, procedures, stages, tasks and sequences that a job makes".to_owned(),
                "what others write to a table while a job works on it in place: it counts as the \
                 job's"
                    .to_owned(),
            ],
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        doctor::examine(self)
    }

    fn mark(&mut self) -> Result<String, EngineError> {
        let all = catalog::schemas(&self.session)?;
        let scope = catalog::production(&all, &self.guarded);
        let mut hasher = blake3::Hasher::new();
        for (at, relation) in catalog::load(&self.session, &scope, Extent::All)? {
            let line =
                serde_json::json!([at, relation.created, relation.token, relation.definition()]);
            hasher.update(line.to_string().as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Nobody can be kept out: what others write to what is not released stays, and what they write
    /// to what is released is found before it is replaced.
    fn freeze(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        observe::observe(&self.session, &self.guarded, place, depth, on)
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

    fn know(&mut self, production: &BTreeMap<RelationName, Version>, pinned: &BTreeSet<ReleaseId>) {
        self.known = Some(Known {
            production: production.clone(),
            pinned: pinned.clone(),
        });
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        _live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        if !aside {
            return self.begin_in_place(release, on);
        }
        self.session.tag(format!("unship {release} build"));
        let begun = build::begin(&self.session, release, &self.wanted, self.level, on);
        self.session.tag("unship".to_owned());
        begun?;
        let mut env = BTreeMap::from([
            ("UNSHIP_RELEASE".to_owned(), release.to_string()),
            ("UNSHIP_SCHEMA_PREFIX".to_owned(), layout::BUILD.to_owned()),
            (
                "UNSHIP_DATABASE".to_owned(),
                self.session.database().to_owned(),
            ),
        ]);
        let mut schemas = self.wanted.schemas.iter();
        if let (Some(schema), None) = (schemas.next(), schemas.next()) {
            env.insert("UNSHIP_SCHEMA".to_owned(), layout::build(schema)?);
        }
        Ok(Build {
            release,
            files: Vec::new(),
            env,
        })
    }

    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        build::keep(&self.session, &self.guarded, release)
    }

    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        // A restore point that no job ran after is a copy of what production is.
        if let Some((_, made)) = self.made.take_if(|(of, _)| *of == release) {
            point::forget(&self.session, &made)?;
        }
        build::discard(&self.session, &self.guarded, release)
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        let survey = survey::survey(&self.session, release, relations, self.level)?;
        serde_json::to_value(survey)
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

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let now = facts::now(&self.session, &[subject])?;
        Ok(now.into_iter().next().unwrap_or_default())
    }

    fn unmet(&mut self, facts: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        if facts.is_empty() {
            return Ok(None);
        }
        let subjects: Vec<&str> = facts.iter().map(|fact| fact.subject.as_str()).collect();
        let now = facts::now(&self.session, &subjects)?;
        let unmet = facts.iter().zip(now).find(|(fact, now)| fact.is != *now);
        Ok(unmet.map(|(fact, now)| Unmet {
            fact: fact.clone(),
            now,
        }))
    }

    fn apply(
        &mut self,
        step: &Step,
        _seal: Option<&Seal>,
        _on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        // Whatever is carried out may move copies: they are no longer what a job begins with.
        self.made = None;
        self.act(&step.action, step.id)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn statements_sent(&self) -> Option<u64> {
        Some(self.session.client().statements())
    }

    fn record_release(
        &mut self,
        schema: &str,
        record: &ReleaseRecord,
    ) -> Result<bool, EngineError> {
        let statement = sql::record_release(self.session.database(), schema, record);
        let what = "add the release to the dbt package's restore points";
        self.session.run(&statement, what)?;
        Ok(true)
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let undo = step.undo.as_ref().ok_or_else(|| {
            EngineError::new(
                ErrorKind::Unsupported,
                format!("step {} cannot be taken back", step.id),
            )
        })?;
        self.act(undo, step.id)
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        retained::points(&self.session, &self.guarded)
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        retained::prove(&self.session, &self.guarded, release)?;
        match &self.made {
            Some((_, made)) => point::prove(&self.session, made, release),
            None => Ok(()),
        }
    }

    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        _on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        diff::diff(&self.session, old, new, key, examples)
    }

    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        measure::profiles(&self.session, place, relations, on)
    }

    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        Ok(sql::full(&measure::needed(&self.session, place, relation)?))
    }

    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError> {
        measure::query(&self.session, place, &self.guarded, sql, limit, timeout)
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        let known = self.known.take();
        self.made = None;
        let done = retained::housekeep(&self.session, &self.guarded, keep, on)?;
        if let Some(known) = known {
            point::sweep(&self.session, &self.guarded, &known)?;
        }
        Ok(done)
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        retained::fsck(&self.session, &self.guarded, on)
    }
}

fn read_survey(survey: &serde_json::Value) -> Result<Survey, EngineError> {
    Survey::deserialize(survey)
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))
}
