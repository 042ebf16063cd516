//! A directory of Delta tables as an [`Engine`].

use super::act::Hands;
use super::action::DeltaAction;
use super::dir::Dir;
use super::kept::{KeptRelation, Store};
use super::lake::Lake;
use super::log;
use super::plan::{self, ENGINE, Found, Survey};
use super::point::{self, Eyes};
use super::reader::Reader;
use super::state::Seen;
use super::{doctor, foreign};
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, PublishRequest, RestoreRequest, Retention, Steps,
};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::others::Written;
use unship_core::plan::Step;

/// Where tables lie, and what of them is production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory that holds the namespaces.
    pub root: Dir,
    /// The name that relations begin with.
    pub catalog: String,
    /// The namespaces that are looked at, with those below them; all, if it is empty.
    pub namespaces: BTreeSet<Vec<String>>,
    /// Where it is written down what is retained.
    pub home: PathBuf,
    /// For how long restore points are to be kept, which tables must allow.
    pub promise: SignedDuration,
}

/// A directory of Delta tables.
pub struct Delta {
    pub(super) settings: Settings,
    lake: Lake,
    store: Store,
    reader: Reader,
    /// What was seen when production was looked at last.
    last: Option<BTreeMap<RelationName, Seen>>,
}

fn unsupported(text: &str) -> EngineError {
    EngineError::new(ErrorKind::Unsupported, text)
}

/// The hint where rows would have to be read.
const ENGINES_READ: &str = "query it with an engine that reads these tables; a retained version is \
                            a version there, as `unship log` names it";

impl Delta {
    /// Nothing is looked at yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            lake: Lake {
                root: settings.root.clone(),
                catalog: settings.catalog.clone(),
                namespaces: settings.namespaces.clone(),
            },
            store: Store::new(settings.home.clone()),
            reader: Reader::default(),
            settings,
            last: None,
        }
    }

    pub(super) fn eyes<R>(&mut self, work: impl FnOnce(&mut Eyes<'_>) -> R) -> R {
        work(&mut Eyes {
            lake: &self.lake,
            reader: &mut self.reader,
        })
    }

    /// What is retained, and whether it can be read.
    pub(super) fn proved(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        let store = self.store.clone();
        self.eyes(|eyes| point::fsck(eyes, &store, on))
    }

    fn hands<R>(&mut self, work: impl FnOnce(&mut Hands<'_>) -> R) -> R {
        self.last = None;
        work(&mut Hands {
            lake: &self.lake,
            store: &self.store,
            reader: &mut self.reader,
        })
    }
}

/// A table that is asked for, its directory below the root, and what is retained of it.
type Home<'a> = (&'a RelationName, String, Vec<&'a KeptRelation>);

/// A table as planning needs to know it. `kept` is what is retained of it.
fn found(
    eyes: &mut Eyes<'_>,
    name: &RelationName,
    path: &str,
    kept: &[&KeptRelation],
) -> Result<Option<Found>, EngineError> {
    let Some(seen) = eyes.table(&name.to_string(), path)? else {
        return Ok(None);
    };
    let refused = eyes.refused(name, &seen)?;
    let dir = eyes.lake.dir(path);
    let mut former = BTreeSet::new();
    for one in kept {
        let id = plan::identity(&one.state);
        if id != seen.id && !former.contains(id) && eyes.holds(&name.to_string(), &dir, one)? {
            former.insert(id.to_owned());
        }
    }
    let commits = match kept.iter().map(|one| one.version).min() {
        Some(since) => foreign::since(&dir, since, seen.version)?,
        None => Vec::new(),
    };
    Ok(Some(Found {
        path: seen.path,
        id: seen.id,
        version: seen.version,
        state: seen.state,
        refused,
        commits,
        former,
        aside: seen.aside,
    }))
}

impl Engine for Delta {
    fn capabilities(&mut self) -> Capabilities {
        Capabilities {
            engine: ENGINE.to_owned(),
            // The protocol is each table's own.
            version: None,
            atomicity: Atomicity::Relation,
            restore_point: "the version of each table, as long as its log and its files are kept"
                .to_owned(),
            aside: false,
            free_clone: true,
            proves_identity: true,
            relations: Ok(()),
            carries: [
                "rows",
                "columns",
                "partitioning",
                "constraints",
                "properties",
            ]
            .map(str::to_owned)
            .to_vec(),
            not_protected: [
                "tables whose directory is deleted: their versions go with it",
                "files and logs that somebody vacuums or cleans up before their time",
                "what others commit to a table while a job works on it: it counts as the job's",
                "a table's protocol, which never goes back, and what streams remember of how far \
                 they came",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    fn doctor(&mut self) -> Vec<Diagnosis> {
        doctor::examine(self)
    }

    /// Of every table's newest commit. No commit is read.
    fn mark(&mut self) -> Result<String, EngineError> {
        let tables: Vec<_> = self.lake.tables()?.into_iter().collect();
        let look = |eyes: &mut Eyes<'_>, (name, path): &(RelationName, String)| {
            let dir = eyes.lake.dir(path);
            let latest = log::Log::read(&dir)?.and_then(|log| log.latest());
            Ok(latest.map(|latest| format!("{name} {latest} {}", log::stamp(&dir, latest))))
        };
        let looked = self.eyes(|eyes| eyes.each(&tables, |_| (), look))?;
        let all: Vec<_> = looked.into_iter().flatten().collect();
        Ok(blake3::hash(all.join("\n").as_bytes()).to_hex().to_string())
    }

    /// Writers cannot be kept out, and need not be: every commit of unship's says what it follows.
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
                let seen = self.eyes(|eyes| eyes.everything(on))?;
                let states = seen.iter().map(|(name, s)| (name.clone(), s.state.clone()));
                let states = states.collect();
                self.last = Some(seen);
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
            Place::Build(_) => Err(unsupported("Delta tables are not built aside")),
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
            return Err(unsupported("a job cannot build Delta tables aside").hint(
                "let it work on production itself, with a restore point: `unship run --in-place -- …`",
            ));
        }
        // What the ledger knows of production. Where somebody committed since, that is what is
        // retained, and not what they have just made.
        let seen = match self.last.take() {
            Some(seen) => seen,
            None => self.eyes(|eyes| eyes.everything(on))?,
        };
        let store = self.store.clone();
        self.eyes(|eyes| point::take(eyes, &store, live, &seen))?;
        let root = self.settings.root.to_string();
        Ok(Build {
            release,
            files: Vec::new(),
            env: BTreeMap::from([
                ("UNSHIP_RELEASE".to_owned(), release.to_string()),
                ("UNSHIP_DELTA_ROOT".to_owned(), root),
            ]),
        })
    }

    /// A build in place is production.
    fn keep_build(&mut self, _release: ReleaseId) -> Result<(), EngineError> {
        Ok(())
    }

    /// Nothing is beside production but what is retained.
    fn discard_build(&mut self, _release: ReleaseId) -> Result<(), EngineError> {
        Ok(())
    }

    fn survey(
        &mut self,
        _release: ReleaseId,
        relations: &BTreeSet<RelationName>,
    ) -> Result<serde_json::Value, EngineError> {
        let mut survey = Survey {
            kept: self.store.all()?,
            stays: matches!(self.lake.root, Dir::Store(_)),
            ..Survey::default()
        };
        for kept in &mut survey.kept {
            kept.relations.retain(|name, _| relations.contains(name));
        }
        let homes = relations.iter().filter_map(|name| {
            let path = self.lake.path(name)?;
            let kept = survey.kept.iter();
            let kept: Vec<_> = kept.filter_map(|kept| kept.relations.get(name)).collect();
            Some((name, path, kept))
        });
        let homes: Vec<Home<'_>> = homes.collect();
        let looked = self.eyes(|eyes| {
            let look = |eyes: &mut Eyes<'_>, (name, path, kept): &Home<'_>| {
                let home = found(eyes, name, path, kept)?;
                let mut aside = Vec::new();
                for place in eyes.lake.places(path)? {
                    aside.extend(found(eyes, name, &place, kept)?);
                }
                Ok((home, aside))
            };
            eyes.each(&homes, |_| (), look)
        })?;
        let (mut tables, mut set_aside) = (Vec::new(), Vec::new());
        for ((name, ..), (home, aside)) in homes.iter().zip(looked) {
            let (gone, here): (Vec<_>, Vec<_>) = home.into_iter().partition(|one| one.aside);
            tables.extend(here.into_iter().map(|one| ((*name).clone(), one)));
            let all = gone.into_iter().chain(aside);
            set_aside.extend(all.map(|one| ((*name).clone(), one)));
        }
        let homes = homes.into_iter();
        survey.homes = homes.map(|(name, path, _)| (name.clone(), path)).collect();
        (survey.tables, survey.aside) = (tables, set_aside);
        serde_json::to_value(survey)
            .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be written").because(e))
    }

    fn plan_publish(
        &self,
        _survey: &serde_json::Value,
        _request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        Err(unsupported("Delta tables are not built aside"))
    }

    fn plan_restore(
        &self,
        survey: &serde_json::Value,
        request: &RestoreRequest,
    ) -> Result<Steps, EngineError> {
        let survey = Survey::deserialize(survey)
            .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))?;
        plan::restore(&survey, request)
    }

    /// A log does not say whose job made a commit: nothing is told here of others. What is asked for
    /// is looked at instead, so that a plan is refused which could not be carried out.
    fn survey_amidst(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<BTreeMap<RelationName, Written>, EngineError> {
        let all = self.store.all()?;
        self.eyes(|eyes| point::attainable(eyes, &all, request))?;
        Ok(BTreeMap::new())
    }

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        self.hands(|hands| hands.fact(subject))
    }

    fn apply(
        &mut self,
        step: &Step,
        _seal: Option<&Seal>,
        _on: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let action = DeltaAction::of(&step.action)?;
        self.hands(|hands| hands.carry_out(&action))
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let undo = step
            .undo
            .as_ref()
            .ok_or_else(|| unsupported(&format!("step {} cannot be taken back", step.id)))?;
        let action = DeltaAction::of(undo)?;
        self.hands(|hands| hands.carry_out(&action))
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        self.store.points(&self.settings.catalog)
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        let store = self.store.clone();
        self.eyes(|eyes| point::prove(eyes, &store, release))
    }

    fn diff(
        &mut self,
        _old: (Place, &RelationName),
        _new: (Place, &RelationName),
        _key: Option<&[String]>,
        _examples: u64,
        _on: OnProgress<'_>,
    ) -> Result<RelationDiff, EngineError> {
        Err(unsupported("unship reads no rows of Delta tables").hint(ENGINES_READ))
    }

    /// No row is read: what writers counted is compared as part of a relation's state.
    fn profile(
        &mut self,
        _place: Place,
        _relations: &BTreeMap<RelationName, Detail>,
        _on: OnProgress<'_>,
    ) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
        Ok(BTreeMap::new())
    }

    fn address(&mut self, place: Place, relation: &RelationName) -> Result<String, EngineError> {
        let gone = || EngineError::new(ErrorKind::Missing, format!("{relation} is not there"));
        let root = self.lake.clone();
        let plain = |path: &str| {
            let dir = root.dir(path).to_string();
            format!("delta.`{}`", dir.replace('`', "``"))
        };
        let Place::Point(release) = place else {
            return Ok(plain(&self.lake.path(relation).ok_or_else(gone)?));
        };
        let kept = self.store.read(release)?;
        let one = kept.and_then(|kept| kept.relations.get(relation).cloned());
        let one = one.ok_or_else(gone)?;
        let lies = self.eyes(|eyes| eyes.lies(relation, &one))?;
        let (path, _) = lies.ok_or_else(gone)?;
        Ok(format!("{} VERSION AS OF {}", plain(&path), one.version))
    }

    fn query(
        &mut self,
        _place: Place,
        _sql: &str,
        _limit: u64,
        _timeout: Duration,
    ) -> Result<Answer, EngineError> {
        Err(unsupported("unship reads no rows of Delta tables").hint(ENGINES_READ))
    }

    fn housekeep(
        &mut self,
        keep: &Retention,
        _on: OnProgress<'_>,
    ) -> Result<Housekeeping, EngineError> {
        point::housekeep(&self.store, keep)
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        self.proved(on)
    }
}
