//! What unship asks of an engine, and what an engine says of itself.
//!
//! Core decides *what* production shall become; an engine knows *how* to get there. Everything that
//! crosses this boundary is a value, so that plans can be stored, shown, signed and replayed.

mod error;
mod moment;
mod proving;
mod request;

pub use error::{EngineError, ErrorKind, FREE_SPACE};
pub use moment::{Change, Moment, Moments};
pub use proving::Proving;
pub use request::{Carry, PointMap, PublishRequest, RestoreRequest, Spell, Steps};

use crate::check::{Answer, Detail, RelationProfile};
use crate::diff::RelationDiff;
use crate::ident::{RelationName, ReleaseId};
use crate::ledger::Seal;
use crate::others::Written;
use crate::plan::{Fact, Step};
use crate::relation::RelationState;
use crate::release::{Version, VersionId};
use crate::rows::{RowsRequest, RowsSurvey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The largest thing an engine can change in one atomic act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Atomicity {
    /// Everything in one database.
    Database,
    /// Everything in one schema.
    Schema,
    /// A chosen set of relations.
    Relations,
    /// One relation at a time; a release of several is journaled.
    Relation,
}

/// What an engine can do on this connection, as data. Editions and file systems differ, so it is
/// probed, not assumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The engine's name, as in `unship.toml`.
    pub engine: String,
    /// The engine's version, where it could be asked.
    pub version: Option<String>,
    /// What changes in one atomic act.
    pub atomicity: Atomicity,
    /// How a restore point is kept, in words.
    pub restore_point: String,
    /// Whether a job can build beside production.
    pub aside: bool,
    /// Whether cloning costs no copy of the data.
    pub free_clone: bool,
    /// Whether a relation's `storage` proves that it is the very same one with the very same rows,
    /// so that what is only moved need never be read.
    pub proves_identity: bool,
    /// Whether chosen relations can be restored and the rest left as it is. `Err` says why not.
    pub relations: Result<(), String>,
    /// What moves along with a relation.
    pub carries: Vec<String>,
    /// What cannot be brought back here, each a sentence.
    pub not_protected: Vec<String>,
}

/// Which state of the warehouse is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Production.
    Live,
    /// What a job is building, or has built, for this release.
    Build(ReleaseId),
    /// The restore point of this release.
    Point(ReleaseId),
}

/// How closely to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// Catalog, row counts and storage digests; no row is read.
    Catalog,
    /// The same, and fingerprints of these relations.
    Rows(BTreeSet<RelationName>),
    /// The same, and fingerprints of every table.
    AllRows,
    /// The same, and fingerprints of every table whose storage digest differs from the one given
    /// here, and of the named ones.
    Changed {
        /// What is known already, by relation.
        known: BTreeMap<RelationName, RelationState>,
        /// Fingerprint these in any case.
        always: BTreeSet<RelationName>,
    },
}

/// Everything seen at a place.
pub type Observation = BTreeMap<RelationName, RelationState>;

/// Where a job shall build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The release being built.
    pub release: ReleaseId,
    /// Files to use in place of the production ones: (production, build). Equal in place.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Environment variables for the job.
    pub env: BTreeMap<String, String>,
}

/// A retained state of the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Whose state it is, as it was when it was last live (or when its build failed).
    pub release: ReleaseId,
    /// Where a person finds it, and how to read it.
    pub location: String,
    /// Whether it must be unpacked before it can be read or restored.
    pub packed: bool,
    /// Size in bytes when unpacked.
    pub bytes: u64,
    /// The databases that it holds; a partial restore may retire only one of several files.
    pub databases: BTreeSet<String>,
    /// What it holds, where relations are retained one by one, each under the release of its
    /// version. `None`: everything that its release was, in `databases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<BTreeMap<RelationName, VersionId>>,
}

/// How long restore points are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Releases whose points must stay.
    pub keep: BTreeSet<ReleaseId>,
    /// Of those, the ones that stay unpacked, ready to be renamed into place.
    pub plain: BTreeSet<ReleaseId>,
}

/// What housekeeping did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Housekeeping {
    /// Points packed.
    pub packed: Vec<ReleaseId>,
    /// Points dropped for good.
    pub dropped: Vec<ReleaseId>,
    /// Bytes of disk given back.
    pub freed: u64,
}

/// One line of `unship doctor` or `unship fsck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad a diagnosis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something is not protected or will be slow.
    Warning,
    /// unship cannot do its work.
    Error,
}

/// A release, as the table of restore points of the dbt package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// Which, with its environment: no other row has it.
    pub id: String,
    /// The environment, which dbt's target is named like.
    pub env: String,
    /// What was done.
    pub job: String,
    /// The commit that its job ran.
    pub commit: Option<String>,
    /// The schemas that it changed, as JSON: a list of objects with `database` and `schema`.
    pub schemas: String,
    /// How long ago it began, by the clock of whoever says so.
    pub began: Duration,
    /// How long ago it became production.
    pub ended: Duration,
}

/// Progress of one long piece of work: done and total, in bytes or rows.
pub type OnProgress<'a> = &'a (dyn Fn(&str, u64, u64) + Sync);

/// A warehouse that can be guarded and restored.
///
/// Methods that only look take `&mut self` because looking needs a connection. Only [`Engine::apply`],
/// [`Engine::revert`], [`Engine::begin_build`], [`Engine::keep_build`] and [`Engine::housekeep`]
/// change anything, and only the first two change production.
pub trait Engine {
    /// What can be done on this connection.
    fn capabilities(&mut self) -> Capabilities;

    /// Health, rights, versions, open writers, disk.
    fn doctor(&mut self) -> Vec<Diagnosis>;

    /// A cheap mark of production's identity: as long as it stays equal, nobody wrote. Reads no row.
    fn mark(&mut self) -> Result<String, EngineError>;

    /// Whether production seems to have been written to since a mark. A mark may move with what
    /// others write elsewhere in the same server; this tells what a person wants to know.
    fn touched(&mut self, mark: &str) -> Result<bool, EngineError> {
        Ok(self.mark()? != mark)
    }

    /// The databases in which a step of a plan of this engine changes something, where its steps
    /// change several warehouses one after the other. Only an estate tells.
    fn databases_of(&self, _step: &Step) -> Option<BTreeSet<String>> {
        None
    }

    /// Keeps everybody else from writing to production until the engine is dropped or a build in
    /// place begins, and brings what is only in a write-ahead log into its place.
    fn freeze(&mut self) -> Result<(), EngineError>;

    /// What stands at a place.
    fn observe(
        &mut self,
        place: Place,
        depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError>;

    /// Where a relation's `storage` proves that it is the very same one. Only an estate's answer is
    /// not one for all of its databases.
    fn proving(&mut self) -> Proving {
        match self.capabilities().proves_identity {
            true => Proving::Everywhere,
            false => Proving::Nowhere,
        }
    }

    /// Whether a plan made from what was seen at a mark may miss what others wrote since. Where
    /// relations prove their identity it cannot: the guards of its steps look at each of them.
    fn overlooks(&mut self, mark: &str) -> Result<bool, EngineError> {
        Ok(self.proving() == Proving::Nowhere && self.mark()? != mark)
    }

    /// Whether two states of the relation of this name are known to be of one and the same relation,
    /// whatever was written to it in between: then there is no copy of what it was before.
    fn same_relation(
        &self,
        _name: &RelationName,
        _one: &RelationState,
        _other: &RelationState,
    ) -> bool {
        false
    }

    /// Whether the relation of this name can become this state again where it stands: its engine
    /// writes down what changes in it. How far back that reaches is told when it is planned.
    fn goes_back(&self, _name: &RelationName, _state: &RelationState) -> bool {
        false
    }

    /// Where tables with an undo log stood at a moment, or now; only those that a writer wrote to,
    /// where one is named.
    fn moments(
        &mut self,
        _at: Option<Timestamp>,
        _writer: Option<&str>,
    ) -> Result<Moments, EngineError> {
        Ok(Moments::default())
    }

    /// What was written down of a table's changes, the newest first.
    fn changes(
        &mut self,
        _relation: &RelationName,
        _limit: u64,
    ) -> Result<Vec<Change>, EngineError> {
        Ok(Vec::new())
    }

    /// Says which version each relation of production is, as the ledger has it, right before a restore
    /// point is taken in place and before housekeeping: an engine that retains versions one by one
    /// names them by it. What is retained of the `pinned` releases must stay where it is.
    fn know(
        &mut self,
        _production: &BTreeMap<RelationName, Version>,
        _pinned: &BTreeSet<ReleaseId>,
    ) {
    }

    /// Opens a build aside, or takes the restore point for one in place. `live` names the release
    /// that is live and would be restored.
    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError>;

    /// Stops guarding a build, and keeps what was built as that release's point, readable by name.
    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError>;

    /// Removes what an interrupted build or restore left beside production.
    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError>;

    /// Reads what planning needs to know beyond the request, which is about these relations. The two
    /// plan methods look at nothing else.
    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError>;

    /// The same, for a restore, where it helps to know what is to come back.
    fn survey_for(&mut self, request: &RestoreRequest) -> Result<serde_json::Value, EngineError> {
        let relations = request.bring.keys().chain(&request.remove);
        self.survey(request.release, &relations.cloned().collect())
    }

    /// The survey that a publish is planned from, of one taken before the build was checked and one
    /// taken afterwards. What proves its identity is held to what was checked by the plan's guards,
    /// and what others wrote meanwhile has to be known; a file has to be the one that was checked.
    /// Asked only where [`Engine::proving`] differs from database to database.
    fn held_to(
        &mut self,
        _checked: serde_json::Value,
        now: serde_json::Value,
    ) -> Result<serde_json::Value, EngineError> {
        Ok(now)
    }

    /// Steps that make a build aside live, with what others wrote meanwhile. Pure.
    fn plan_publish(
        &self,
        survey: &serde_json::Value,
        request: &PublishRequest,
    ) -> Result<Steps, EngineError>;

    /// Steps that fulfil a restore request. Pure.
    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError>;

    /// Looks at what others wrote, since it was published, to relations that a request replaces.
    /// `published` is what they were then. What cannot be told is left out.
    fn survey_others(
        &mut self,
        _request: &RestoreRequest,
        _published: &BTreeMap<RelationName, RelationState>,
        _on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        Ok(BTreeMap::new())
    }

    /// Which of these relations, that changed in production while a job built a release aside, stay as
    /// others left them when it is published. An earlier job built them, and this one did not. None of
    /// them does where a whole file or schema changes places, which holds a copy; nor one that the job
    /// itself changed past its build, as far as what was written says who wrote it.
    ///
    /// # Errors
    /// Whatever keeps the engine from looking.
    fn left_alone(
        &mut self,
        _release: ReleaseId,
        _changed: &BTreeSet<RelationName>,
    ) -> Result<BTreeSet<RelationName>, EngineError> {
        Ok(BTreeSet::new())
    }

    /// Whether it takes the times in which others wrote to a relation to tell their rows from those of
    /// jobs: a table goes on from release to release, and what wrote to it does not say for whom.
    fn wants_spells(&self, _name: &RelationName) -> bool {
        false
    }

    /// What others wrote amidst of releases, since what a request brings back, to relations whose
    /// versions say nothing of it: a loader goes on while a job works in place. Only what others
    /// wrote to is named.
    fn survey_amidst(
        &mut self,
        _request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        Ok(BTreeMap::new())
    }

    /// Looks at the rows that a request is about: whether its predicate is one expression that means
    /// the same rows whenever it is asked, how the columns of the two versions fit, and what the
    /// relations will be.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] where it cannot be done without losing something or doing more than was
    /// asked for, with the reason.
    fn survey_rows(
        &mut self,
        _request: &RowsRequest,
        _on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        let text = "this engine brings back whole relations only";
        Err(EngineError::new(ErrorKind::Unsupported, text).hint("leave the choice of rows out"))
    }

    /// Steps that fulfil a request for rows. Pure.
    fn plan_rows(
        &self,
        _survey: &RowsSurvey,
        _request: &RowsRequest,
    ) -> Result<Steps, EngineError> {
        let text = "this engine brings back whole relations only";
        Err(EngineError::new(ErrorKind::Unsupported, text))
    }

    /// What is true now of a fact's subject.
    fn fact(&mut self, subject: &str) -> Result<String, EngineError>;

    /// The first of these facts that does not hold. An engine that can look at many things at once
    /// does so here.
    fn unmet(&mut self, facts: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        for fact in facts {
            let now = self.fact(&fact.subject)?;
            if now != fact.is {
                return Ok(Some(Unmet {
                    fact: fact.clone(),
                    now,
                }));
            }
        }
        Ok(None)
    }

    /// Carries out a step's action. The caller has journaled it and checked its guard.
    ///
    /// A seal is given where the ledger lies in the warehouse itself: its entries are written in the
    /// transaction that changes production. An error then means that neither was done, or that
    /// nobody can tell; what is in the ledger says which.
    fn apply(
        &mut self,
        step: &Step,
        seal: Option<&Seal>,
        on: OnProgress<'_>,
    ) -> Result<(), EngineError>;

    /// What a person should know of the step that was just carried out, each a sentence. Asked once.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// How many statements were sent so far, where the warehouse bills what statements take.
    fn statements_sent(&self) -> Option<u64> {
        None
    }

    /// Adds a release to the table of restore points that the dbt package keeps in this schema; says
    /// whether there can be one. It is no part of production.
    fn record_release(
        &mut self,
        _schema: &str,
        _record: &ReleaseRecord,
    ) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Carries out a step's undo.
    fn revert(&mut self, step: &Step, on: OnProgress<'_>) -> Result<(), EngineError>;

    /// The retained states.
    fn points(&mut self) -> Result<Vec<Point>, EngineError>;

    /// Proves that a point can be read, before anything relies on it.
    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError>;

    /// Compares a relation at one place with a relation at another, row by row: by key where one is
    /// given that is one, otherwise as whole rows. At most `examples` rows of each sort are shown.
    fn diff(
        &mut self,
        old: (Place, &RelationName),
        new: (Place, &RelationName),
        key: Option<&[String]>,
        examples: u64,
        on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError>;

    /// Measures relations at a place, with one scan each. What has no rows to read, or is not there,
    /// is left out of the answer.
    fn profile(
        &mut self,
        place: Place,
        relations: &BTreeMap<RelationName, Detail>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError>;

    /// The roles that there are, for telling whose access was lost; none where the engine has none.
    fn roles(&mut self) -> Result<BTreeSet<String>, EngineError> {
        Ok(BTreeSet::new())
    }

    /// How a query at a place names a relation: quoted, and wherever it physically lies there.
    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError>;

    /// Runs one query that only reads, at a place, and gives at most `limit` rows. Names without a
    /// schema mean the relations of that place.
    ///
    /// # Errors
    /// The query's own, and [`ErrorKind::Interrupted`] where it took longer than `timeout`.
    fn query(
        &mut self,
        place: Place,
        sql: &str,
        limit: u64,
        timeout: Duration,
    ) -> Result<Answer, EngineError>;

    /// Packs what has become old, drops what nobody keeps.
    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError>;

    /// Checks every retained byte.
    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError>;
}

/// Compares facts with the world.
pub fn holds(engine: &mut dyn Engine, facts: &[Fact]) -> Result<Result<(), Unmet>, EngineError> {
    Ok(engine.unmet(facts)?.map_or(Ok(()), Err))
}

/// A fact that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// What should be true.
    pub fact: Fact,
    /// What is.
    pub now: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.fact.subject, self.fact.is, self.now
        )
    }
}
