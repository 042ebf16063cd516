//! An Iceberg catalog as an [`Engine`].

use super::act::{self, Hands};
use super::action::IcebergAction;
use super::build::{self, Left, Yard};
use super::kept::Store;
use super::look::{self, Scope};
use super::plan::{self, ENGINE, Survey};
use super::point::Taken;
use super::rest::{self, Client, Doing, Endpoint, Snapshots};
use super::rows::{self, Sql};
use super::sight::{Look, Sight};
use super::{bring, doctor, foreign, keep, name, point, survey};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, PublishRequest, RestoreRequest, Retention, Steps, Unmet,
};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::others::Written;
use unship_core::plan::{Action, Fact, Step};
use unship_core::relation::RelationState;
use unship_core::rows::{RowsRequest, RowsSurvey};

/// Which catalog, and what of it is production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is, and who asks.
    pub rest: rest::Settings,
    /// Its name, as relations begin with it.
    pub catalog: String,
    /// The namespaces that are looked at, with those below them; all, if it is empty.
    pub namespaces: BTreeSet<Vec<String>>,
    /// Where it is written down what is retained.
    pub home: PathBuf,
    /// What exchanges rows, where a part of a table comes back.
    pub sql: Option<Sql>,
}

/// An Iceberg catalog.
pub struct Iceberg {
    pub(super) settings: Settings,
    pub(super) store: Store,
    client: Option<Client>,
    /// What the ledger knows of production.
    last: Option<Observation>,
    /// What was seen of production last.
    sight: Sight,
    /// A restore point that was just taken, until it is proved.
    taken: Option<Taken>,
    /// What was seen of the release that is being built.
    built: Option<(ReleaseId, Left)>,
    /// What a person should know.
    notes: Vec<String>,
}

fn unsupported(text: &str) -> EngineError {
    EngineError::new(ErrorKind::Unsupported, text)
}

fn read_survey(survey: &serde_json::Value) -> Result<Survey, EngineError> {
    Survey::deserialize(survey)
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))
}

/// The hint where rows would have to be read.
const ENGINES_READ: &str = "query it with the engine that reads these tables; a retained version \
                            is a tag there, as `unship log` names it";

impl Iceberg {
    /// Nothing is asked for yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            store: Store::new(settings.home.clone()),
            settings,
            client: None,
            last: None,
            sight: Sight::default(),
            taken: None,
            built: None,
            notes: Vec::new(),
        }
    }

    /// The catalog, asked what it can do the first time.
    pub(super) fn client(&mut self) -> Result<&Client, EngineError> {
        connected(&mut self.client, &self.settings)
    }

    /// What production is, by the last look where that may still be gone by.
    fn look(&mut self, on: OnProgress<'_>) -> Result<&mut Look, EngineError> {
        let client = connected(&mut self.client, &self.settings)?;
        self.sight.look(client, &scope(&self.settings), on)
    }

    /// Does something to production. Where it is not sure that it worked, everything that was seen
    /// is forgotten; otherwise what it was done to is.
    fn change(&mut self, step: &Step, action: &Action) -> Result<(), EngineError> {
        let action = IcebergAction::of(action)?;
        if let IcebergAction::Commit { commits, .. } = &action {
            self.sight.expect(&self.settings.catalog, commits);
        }
        let done = self.hands(|hands, _| hands.carry_out(&action));
        match done {
            Ok(()) => self.sight.touch(&step.relations),
            Err(_) => self.sight.forget(),
        }
        done
    }

    fn hands<R>(
        &mut self,
        work: impl FnOnce(&Hands<'_>, &mut Sight) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let hands = Hands {
            client: connected(&mut self.client, &self.settings)?,
            store: &self.store,
            scope: scope(&self.settings),
        };
        work(&hands, &mut self.sight)
    }
}

fn connected<'a>(
    client: &'a mut Option<Client>,
    settings: &Settings,
) -> Result<&'a Client, EngineError> {
    match client {
        Some(client) => Ok(client),
        none => {
            let made = Client::connect(&settings.rest);
            Ok(none.insert(made.doing("ask the catalog what it can do")?))
        }
    }
}

fn written(survey: &Survey) -> Result<serde_json::Value, EngineError> {
    serde_json::to_value(survey)
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be written").because(e))
}

/// What of the catalog is production.
fn scope(settings: &Settings) -> Scope<'_> {
    Scope {
        catalog: &settings.catalog,
        namespaces: &settings.namespaces,
    }
}

impl Iceberg {
    /// What others wrote to these relations, told from what jobs wrote.
    fn told_apart(
        &mut self,
        request: &RestoreRequest,
        names: Vec<&RelationName>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let ids: Vec<_> = names.iter().copied().filter_map(name::identifier).collect();
        let sql = self.settings.sql.is_some();
        let seen = self.hands(|hands, _| {
            let catalog = hands.scope.catalog;
            look::some(hands.client, catalog, &ids, Snapshots::All, on)
        })?;
        let told = names.into_iter().filter_map(|name| {
            let wanted = request.bring.get(name);
            let asked = keep::Asked {
                target: wanted.and_then(|version| version.state.as_ref()),
                spells: request.spells.get(name).map_or(&[], Vec::as_slice),
                sql,
            };
            let written = keep::written(name, &seen.tables.get(name)?.metadata, &asked)?;
            Some((name.clone(), written))
        });
        Ok(told.collect())
    }

    fn yard<R>(
        &mut self,
        work: impl FnOnce(&Yard<'_>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.hands(|hands, _| work(&Yard(hands)))
    }

    /// Opens a build aside: production is looked at, and nothing of it is changed.
    fn begin_aside(
        &mut self,
        release: ReleaseId,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        let known = self.last.take();
        let look = self.look(on)?;
        let production = known.unwrap_or_else(|| look.states.clone());
        let branch = name::branch(release);
        let stale = build::with_branch(&look.seen, &branch);
        // Whatever a job does from now on was not seen yet.
        self.sight.forget();
        self.yard(|yard| yard.begin(release, &production, &stale))?;
        let mut env = self.told(release);
        env.insert(
            "UNSHIP_ICEBERG_NAMESPACE_PREFIX".to_owned(),
            name::prefix(release),
        );
        if let Some(only) = self.settings.namespaces.first()
            && self.settings.namespaces.len() == 1
        {
            let own = name::schema(&name::beside(release, only));
            env.insert("UNSHIP_ICEBERG_NAMESPACE".to_owned(), own);
        }
        // What a session of Spark is started with that the job starts on this machine.
        let spark = format!("-Dspark.wap.branch={branch}");
        env.insert("SPARK_SUBMIT_OPTS".to_owned(), spark);
        env.insert("UNSHIP_ICEBERG_BRANCH".to_owned(), branch);
        Ok(Build {
            release,
            files: Vec::new(),
            env,
        })
    }

    /// What a job is told of the catalog.
    fn told(&self, release: ReleaseId) -> BTreeMap<String, String> {
        let rest = &self.settings.rest;
        let mut env = BTreeMap::from([
            ("UNSHIP_RELEASE".to_owned(), release.to_string()),
            ("UNSHIP_ICEBERG_URI".to_owned(), rest.uri.clone()),
            (
                "UNSHIP_ICEBERG_CATALOG".to_owned(),
                self.settings.catalog.clone(),
            ),
        ]);
        env.extend(
            rest.warehouse
                .iter()
                .map(|name| ("UNSHIP_ICEBERG_WAREHOUSE".to_owned(), name.clone())),
        );
        env
    }

    /// What a job built aside, as production would be with it.
    fn observe_build(
        &mut self,
        release: ReleaseId,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        let begun = self.store.begun(release)?.ok_or_else(|| {
            let text = format!("{release} is not being built aside");
            EngineError::new(ErrorKind::Missing, text)
        })?;
        let production = self.look(on)?.seen.clone();
        let built = self.yard(|yard| yard.look(release, production, on))?;
        self.built = Some((release, built.left()));
        self.notes.extend(build::beside_the_branch(&begun, &built)?);
        build::would_be(release, begun, &built)
    }
}

impl Engine for Iceberg {
    fn capabilities(&mut self) -> Capabilities {
        let together = self.client().map(|c| c.offers(Endpoint::Transaction));
        Capabilities {
            engine: ENGINE.to_owned(),
            // The protocol has one version and no number for what lies behind it.
            version: None,
            atomicity: match together {
                Ok(false) => Atomicity::Relation,
                _ => Atomicity::Relations,
            },
            restore_point: "a tag on each table's snapshot, that no expiry takes away by its age"
                .to_owned(),
            aside: true,
            free_clone: true,
            proves_identity: true,
            relations: Ok(()),
            carries: [
                "rows",
                "columns",
                "partition spec",
                "sort order",
                "properties",
                "views",
            ]
            .map(str::to_owned)
            .to_vec(),
            not_protected: [
                "files that somebody deletes in storage, and tables that are dropped with their \
                 files (purge)",
                "what others commit to a table while a job works on it: it counts as the job's",
                "a table's format version, which never goes back",
                "rights that the catalog grants: they stay as they are",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        doctor::examine(self)
    }

    /// Of all that can be brought back, and of nothing that unship adds itself.
    fn mark(&mut self) -> Result<String, EngineError> {
        if let Some(mark) = self.sight.recorded() {
            return Ok(mark);
        }
        let look = self.look(&|_, _, _| ())?;
        let (mark, states) = (look.call(), look.states.clone());
        self.last = Some(states);
        Ok(mark)
    }

    /// Writers cannot be kept out, and need not be: every commit of unship's says what it expects.
    fn freeze(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn observe(
        &mut self,
        place: Place,
        _depth: &Depth,
        on: OnProgress<'_>,
    ) -> Result<Observation, EngineError> {
        match place {
            Place::Live => {
                let states = self.look(on)?.record();
                self.last = Some(states.clone());
                Ok(states)
            }
            Place::Point(release) => {
                let kept = self.store.read(release)?.ok_or_else(|| {
                    let text = format!("there is no restore point of {release}");
                    EngineError::new(ErrorKind::Missing, text)
                })?;
                let relations = kept.relations.into_iter();
                Ok(relations.map(|(name, one)| (name, one.state)).collect())
            }
            Place::Build(release) => self.observe_build(release, on),
        }
    }

    fn begin_build(
        &mut self,
        release: ReleaseId,
        live: ReleaseId,
        aside: bool,
        on: OnProgress<'_>,
    ) -> Result<Build, EngineError> {
        if aside {
            return self.begin_aside(release, on);
        }
        let known = self.last.take();
        let seen = self.look(on)?.seen.clone();
        let tagged = self.hands(|hands, _| point::take(hands, live, &seen, known.as_ref(), on))?;
        // Whatever a job does from now on was not seen yet.
        self.sight.forget();
        self.taken = Some(Taken { live, seen, tagged });
        Ok(Build {
            release,
            files: Vec::new(),
            env: self.told(release),
        })
    }

    /// A build in place is production.
    fn keep_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        if !self.store.builds(release) {
            return Ok(());
        }
        self.sight.forget();
        self.yard(|yard| yard.keep(release, &|_, _, _| ()))
    }

    /// Nothing is beside production but what is retained and what is being built.
    fn discard_build(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        if !self.store.builds(release) {
            return Ok(());
        }
        let known = self.built.take().filter(|(of, _)| *of == release);
        let known = known.map(|(_, left)| left);
        match &known {
            Some(left) => self
                .sight
                .touch(&left.branched.iter().cloned().collect::<Vec<_>>()),
            None => self.sight.forget(),
        }
        self.yard(|yard| yard.discard(release, known))
    }

    fn survey(
        &mut self,
        release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        let builds = self.store.builds(release);
        let survey = self.hands(|hands, _| match builds {
            true => survey::built(hands, release, relations),
            false => survey::whole(hands, relations),
        })?;
        written(&survey)
    }

    fn survey_for(&mut self, request: &RestoreRequest) -> Result<serde_json::Value, EngineError> {
        let sql = self.settings.sql.clone();
        let survey = self.hands(|hands, sight| {
            let mut survey = survey::lean(hands, sight, request)?;
            bring::over(hands, sql.as_ref(), request, &mut survey)?;
            Ok(survey)
        })?;
        let brought: Vec<_> = survey
            .brought
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        self.sight.touch(&brought);
        written(&survey)
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

    fn left_alone(
        &mut self,
        release: ReleaseId,
        changed: &BTreeSet<RelationName>,
    ) -> Result<BTreeSet<RelationName>, EngineError> {
        let seen = &self.look(&|_, _, _| ())?.seen;
        let branch = name::branch(release);
        Ok(foreign::not_by_who_builds(&seen.tables, &branch, changed))
    }

    fn wants_spells(&self, _name: &RelationName) -> bool {
        true
    }

    /// Rows are counted by what snapshots say of themselves.
    fn survey_others(
        &mut self,
        request: &RestoreRequest,
        published: &BTreeMap<RelationName, RelationState>,
        on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        self.told_apart(request, published.keys().collect(), on)
    }

    /// A job adds to what others added before it, and going back over both takes back both.
    fn survey_amidst(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let live = |name: &RelationName| {
            let now = request.live_map.get(name);
            now.is_some_and(|now| now.id.drift > 0)
        };
        let names = request.spells.keys().filter(|name| !live(name));
        self.told_apart(request, names.collect(), &|_, _, _| ())
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.sight.notes());
        notes
    }

    fn survey_rows(
        &mut self,
        request: &RowsRequest,
        on: OnProgress<'_>,
    ) -> Result<RowsSurvey, EngineError> {
        let sql = self.settings.sql.clone();
        self.hands(|hands, _| rows::survey(hands, sql.as_ref(), request, on))
    }

    fn plan_rows(&self, survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
        rows::plan(survey, request)
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let answers = self.hands(|hands, sight| act::facts(hands, sight, &[subject]))?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    fn unmet(&mut self, facts: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        let subjects: Vec<_> = facts.iter().map(|f| f.subject.as_str()).collect();
        let now = self.hands(|hands, sight| act::facts(hands, sight, &subjects))?;
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
        self.change(step, &step.action)
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let undo = step
            .undo
            .as_ref()
            .ok_or_else(|| unsupported(&format!("step {} cannot be taken back", step.id)))?;
        self.change(step, undo)
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        self.store.points(&self.settings.catalog)
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let taken = self.taken.take().filter(|taken| taken.live == release);
        self.hands(|hands, _| point::prove(hands, release, taken, &|_, _, _| ()))
    }

    fn diff(
        &mut self,
        _old: (Place, &RelationName),
        _new: (Place, &RelationName),
        _key: Option<&[String]>,
        _examples: u64,
        _on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        Err(unsupported("unship reads no rows of Iceberg tables").hint(ENGINES_READ))
    }

    /// No row is read: what a snapshot says of itself is compared as part of a relation's state.
    fn profile(
        &mut self,
        _place: Place,
        _relations: &BTreeMap<RelationName, Detail>,
        _on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        Ok(BTreeMap::new())
    }

    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        let plain = format!("{}.{}", relation.schema, relation.name);
        let release = match place {
            Place::Live => return Ok(plain),
            Place::Build(release) => {
                return Ok(format!("{plain} VERSION AS OF '{}'", name::branch(release)));
            }
            Place::Point(release) => release,
        };
        let kept = self.store.read(release)?;
        let one = kept.and_then(|kept| kept.relations.get(relation).cloned());
        let one = one.ok_or_else(|| {
            EngineError::new(ErrorKind::Missing, format!("{relation} is not there"))
        })?;
        Ok(match (one.aside, one.tag) {
            (Some(at), _) => format!("{}.{}", name::schema(&at.namespace), at.name),
            (None, Some(tag)) => format!("{plain} VERSION AS OF '{tag}'"),
            (None, None) => plain,
        })
    }

    fn query(
        &mut self,
        _place: Place,
        _sql: &str,
        _limit: u64,
        _timeout: Duration,
    ) -> Result<Answer, EngineError> {
        Err(unsupported("unship reads no rows of Iceberg tables").hint(ENGINES_READ))
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        if self.store.releases()?.is_subset(&keep.keep) {
            return Ok(Housekeeping::default());
        }
        self.sight.forget();
        self.hands(|hands, _| point::housekeep(hands, keep, on))
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        self.hands(|hands, _| point::fsck(hands.client, hands.store, on))
    }
}
