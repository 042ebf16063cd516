//! An Iceberg catalog as an [`Engine`].

use super::act::{self, Hands};
use super::action::IcebergAction;
use super::kept::Store;
use super::look::{self, Scope, Seen};
use super::plan::{self, Can, ENGINE, Survey};
use super::rest::{self, Client, Doing, Endpoint, Identifier, Snapshots};
use super::{doctor, name, point};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use unship_core::check::{Answer, Detail, RelationProfile};
use unship_core::diff::RelationDiff;
use unship_core::engine::{
    Atomicity, Build, Capabilities, Depth, Diagnosis, Engine, EngineError, ErrorKind, Housekeeping,
    Observation, OnProgress, Place, Point, PublishRequest, RestoreRequest, Retention, Steps, Unmet,
};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::Seal;
use unship_core::plan::{Fact, Step};

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
}

/// An Iceberg catalog.
pub struct Iceberg {
    pub(super) settings: Settings,
    pub(super) store: Store,
    client: Option<Client>,
    /// What was seen when production was looked at last.
    last: Option<Observation>,
    /// The same, until it was asked for: a mark and what it is of are one look.
    fresh: Option<(Instant, Observation)>,
}

/// For how long what a mark was taken of is what production is.
const FRESH: Duration = Duration::from_secs(1);

fn unsupported(text: &str) -> EngineError {
    EngineError::new(ErrorKind::Unsupported, text)
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
            fresh: None,
        }
    }

    /// The catalog, asked what it can do the first time.
    pub(super) fn client(&mut self) -> Result<&Client, EngineError> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => {
                let made = Client::connect(&self.settings.rest);
                Ok(none.insert(made.doing("ask the catalog what it can do")?))
            }
        }
    }

    fn everything(&mut self, on: OnProgress<'_>) -> Result<Seen, EngineError> {
        self.client()?;
        let scope = Scope {
            catalog: &self.settings.catalog,
            namespaces: &self.settings.namespaces,
        };
        match &self.client {
            Some(client) => look::everything(client, &scope, on),
            None => Ok(Seen::default()),
        }
    }

    fn hands<R>(
        &mut self,
        work: impl FnOnce(&Hands<'_>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.fresh = None;
        let store = self.store.clone();
        let client = self.client()?;
        work(&Hands {
            client,
            store: &store,
        })
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
            aside: false,
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
        let states = self.everything(&|_, _, _| ())?.states()?;
        let bytes = serde_json::to_vec(&states).map_err(|e| {
            EngineError::new(ErrorKind::Io, "what was seen cannot be written").because(e)
        })?;
        self.last = Some(states.clone());
        self.fresh = Some((Instant::now(), states));
        Ok(blake3::hash(&bytes).to_hex().to_string())
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
                let states = match self.fresh.take() {
                    Some((at, states)) if at.elapsed() < FRESH => states,
                    _ => self.everything(on)?.states()?,
                };
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
            Place::Build(_) => Err(unsupported("an Iceberg catalog is not built aside")),
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
            return Err(
                unsupported("a job cannot build aside in an Iceberg catalog yet").hint(
                    "let it work on production itself, with a restore point: leave `--aside` out",
                ),
            );
        }
        self.fresh = None;
        let seen = self.everything(on)?;
        let (store, known) = (self.store.clone(), self.last.take());
        point::take(self.client()?, &store, live, &seen, known.as_ref())?;
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
        Ok(Build {
            release,
            files: Vec::new(),
            env,
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
        let wanted: Vec<Identifier> = relations.iter().filter_map(name::identifier).collect();
        let mut kept = self.store.all()?;
        for one in &mut kept {
            one.relations.retain(|name, _| relations.contains(name));
        }
        let places: BTreeSet<Identifier> = kept
            .iter()
            .flat_map(|kept| kept.relations.values())
            .filter_map(|one| one.aside.clone())
            .collect();
        let places: Vec<_> = places.into_iter().collect();
        let catalog = self.settings.catalog.clone();
        let client = self.client()?;
        let seen = look::some(client, &catalog, &wanted, &|_, _, _| ())?;
        let aside = look::each(&places, "tables", &|_, _, _| (), |at| {
            client.table(at, Snapshots::Refs)
        });
        let aside = aside.doing("look at what was set aside")?;
        let aside = places.into_iter().zip(aside);
        let survey = Survey {
            tables: seen.tables,
            views: seen.views,
            aside: aside.filter_map(|(at, table)| Some((at, table?))).collect(),
            kept,
            can: Can {
                transaction: client.offers(Endpoint::Transaction),
                rename: client.offers(Endpoint::Rename),
                register: client.offers(Endpoint::Register),
                namespaces: client.offers(Endpoint::CreateNamespace),
                views: client.offers(Endpoint::ChangeViews),
            },
        };
        serde_json::to_value(survey)
            .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be written").because(e))
    }

    fn plan_publish(
        &self,
        _survey: &serde_json::Value,
        _request: &PublishRequest,
    ) -> Result<Steps, EngineError> {
        Err(unsupported("an Iceberg catalog is not built aside"))
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

    fn fact(&mut self, subject: &str) -> Result<String, EngineError> {
        let answers = self.hands(|hands| act::facts(hands, &[subject]))?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    fn unmet(&mut self, facts: &[Fact]) -> Result<Option<Unmet>, EngineError> {
        let subjects: Vec<_> = facts.iter().map(|f| f.subject.as_str()).collect();
        let now = self.hands(|hands| act::facts(hands, &subjects))?;
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
        let action = IcebergAction::of(&step.action)?;
        self.hands(|hands| hands.carry_out(&action))
    }

    fn revert(&mut self, step: &Step, _on: OnProgress<'_>) -> Result<(), EngineError> {
        let undo = step
            .undo
            .as_ref()
            .ok_or_else(|| unsupported(&format!("step {} cannot be taken back", step.id)))?;
        let action = IcebergAction::of(undo)?;
        self.hands(|hands| hands.carry_out(&action))
    }

    fn points(&mut self) -> Result<Vec<Point>, EngineError> {
        self.store.points(&self.settings.catalog)
    }

    fn prove_point(&mut self, release: ReleaseId) -> Result<(), EngineError> {
        self.hands(|hands| point::prove(hands.client, hands.store, release, &|_, _, _| ()))
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
        let Place::Point(release) = place else {
            return Ok(plain);
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
        self.hands(|hands| point::housekeep(hands.client, hands.store, keep, on))
    }

    fn fsck(&mut self, on: OnProgress<'_>) -> Result<Vec<Diagnosis>, EngineError> {
        self.hands(|hands| point::fsck(hands.client, hands.store, on))
    }
}
