//! A warehouse, a ledger and a fuse: what an operation needs, and what can go wrong under it.

use super::faulty::{Fault, Faulty, Fuse, Side, ledger};
use super::memory::{Restoring, Warehouse};
use super::{Contents, Write};
use crate::engine::{Build, Engine, EngineError, ErrorKind, Place};
use crate::execute::Assume;
use crate::history::Live;
use crate::ident::{RelationName, ReleaseId};
use crate::log::{Ledger, LogError};
use crate::operate::{Ask, Done, JobResult, OperateError, Ran, Resumed, RunRequest, Session};
use crate::release::{Job, JobEnd};
use std::collections::{BTreeMap, BTreeSet};

/// A fresh warehouse of some engine, and ways to it that do not go through the engine: all that the
/// conformance suite has to be told of an engine.
pub trait Harness {
    /// An engine for it, as a new process would make one. The one before has been dropped.
    fn engine(&self) -> Box<dyn Engine>;

    /// The full name of a table. Test warehouses have two databases, 0 and 1; an engine that
    /// releases only one together maps both to it.
    fn relation(&self, database: usize, name: &str) -> RelationName;

    /// Writes as a job does that was started with this build, or fails as it would.
    ///
    /// # Errors
    /// What the job would print.
    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String>;

    /// Writes to production as somebody who knows nothing of unship.
    ///
    /// # Errors
    /// What the database answers.
    fn others_write(&self, write: &Write) -> Result<(), String>;

    /// Makes a view of the columns `id` and `value` of a table, or puts it in place of another view:
    /// as a job with that build, or as somebody who knows nothing of unship. Asked only of engines
    /// that say that views move along ([`Capabilities::carries`](crate::engine::Capabilities)).
    ///
    /// # Errors
    /// What the database answers.
    fn make_view(
        &self,
        build: Option<&Build>,
        view: &RelationName,
        of: &RelationName,
    ) -> Result<(), String>;

    /// Takes a restore point away, as a careless hand or a broken disk does.
    fn lose_point(&self, release: ReleaseId);

    /// Reads every row of everything at a place, views too, not through the engine.
    fn read(&self, place: Place) -> Contents;

    /// Whether a point holds all that its release was, and a build all that would be production.
    /// An engine that moves relations one by one retains what gave way, and a build of its holds
    /// what the job built: a job does not drop what it does not build.
    fn whole(&self) -> bool {
        true
    }

    /// Whether jobs build beside production. If not, all of them work on production itself, and the
    /// suite leaves out what a crash of a job leaves there.
    fn aside(&self) -> bool {
        true
    }

    /// The cases of the suite that this engine answers otherwise by design, with the reason.
    fn without(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

impl Harness for Warehouse {
    fn engine(&self) -> Box<dyn Engine> {
        Box::new(Warehouse::engine(self))
    }

    fn relation(&self, database: usize, name: &str) -> RelationName {
        RelationName::new(if database == 0 { "main" } else { "other" }, "s", name)
    }

    fn job_writes(&self, build: &Build, write: &Write) -> Result<(), String> {
        Warehouse::job_writes(self, build.release, write).map_err(|e| e.to_string())
    }

    fn others_write(&self, write: &Write) -> Result<(), String> {
        Warehouse::others_write(self, write).map_err(|e| e.to_string())
    }

    fn make_view(
        &self,
        _build: Option<&Build>,
        view: &RelationName,
        _of: &RelationName,
    ) -> Result<(), String> {
        Err(format!("{view}: a warehouse in memory has no views"))
    }

    fn lose_point(&self, release: ReleaseId) {
        Warehouse::lose_point(self, release);
    }

    fn without(&self) -> &'static [(&'static str, &'static str)] {
        &[(
            "a query reads a place and writes nothing",
            "a warehouse in memory knows no SQL",
        )]
    }

    fn read(&self, place: Place) -> Contents {
        self.contents(place)
    }
}

/// A warehouse in memory with two databases.
pub fn memory(restoring: Restoring) -> Warehouse {
    Warehouse::new(&["main", "other"], restoring)
}

/// What a job does and says.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// What it writes, in order.
    pub writes: Vec<Write>,
    /// The views that it makes after them, each of a table.
    pub views: Vec<(RelationName, RelationName)>,
    /// What its pipeline says that it built, beyond what it wrote.
    pub also_built: BTreeSet<RelationName>,
    /// Whether it fails after its writes.
    pub fails: bool,
    /// Whether it works on production.
    pub in_place: bool,
}

impl Script {
    /// A good job, beside production.
    pub fn good(writes: impl IntoIterator<Item = Write>) -> Self {
        Self {
            writes: writes.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same job, failing in the end.
    #[must_use]
    pub fn failing(mut self) -> Self {
        self.fails = true;
        self
    }

    /// The same job, on production itself.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }

    /// The same job, making a view of a table after its writes.
    #[must_use]
    pub fn viewing(mut self, view: RelationName, of: RelationName) -> Self {
        self.views.push((view, of));
        self
    }

    /// What its pipeline says that it built.
    pub fn built(&self) -> BTreeSet<RelationName> {
        let written = self.writes.iter().map(|w| w.relation().clone());
        let viewed = self.views.iter().map(|(view, _)| view.clone());
        let also = self.also_built.iter().cloned();
        written.chain(viewed).chain(also).collect()
    }
}

/// One thing that a job does.
enum Deed<'a> {
    Write(&'a Write),
    View(&'a RelationName, &'a RelationName),
}

/// One environment under test. Every operation runs in a session of its own, as a process would.
pub struct World {
    /// The warehouse.
    pub harness: Box<dyn Harness>,
    /// The ledger.
    pub ledger: Ledger,
    /// Where the next operation fails.
    pub fuse: Fuse,
}

impl World {
    /// A world in which nothing has happened.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn new(harness: Box<dyn Harness>) -> Result<Self, LogError> {
        let fuse = Fuse::default();
        Ok(Self {
            ledger: ledger("prod", "anna", &fuse)?,
            harness,
            fuse,
        })
    }

    /// Works in a session of its own.
    pub fn session<T>(&mut self, work: impl FnOnce(&mut Session<'_>) -> T) -> T {
        let mut engine = Faulty::new(self.harness.engine(), self.fuse.clone());
        let mut session = Session {
            engine: &mut engine,
            ledger: &mut self.ledger,
            watch: &(),
        };
        work(&mut session)
    }

    /// Guards a job.
    ///
    /// # Errors
    /// The operation's.
    pub fn run(&mut self, script: &Script) -> Result<Ran, OperateError> {
        let mut engine = Faulty::new(self.harness.engine(), self.fuse.clone());
        let mut session = Session {
            engine: &mut engine,
            ledger: &mut self.ledger,
            watch: &(),
        };
        let request = RunRequest {
            job: Job {
                command: vec!["build".to_owned()],
                program: None,
                directory: "/project".to_owned(),
                pipeline: None,
            },
            code: None,
            aside: !script.in_place && self.harness.aside(),
            replays: None,
            checks: None,
        };
        let (harness, fuse) = (&self.harness, &self.fuse);
        session.run(request, |build, _| {
            let mut fails = script.fails;
            let writes = script.writes.iter().map(Deed::Write);
            let views = script.views.iter().map(|(view, of)| Deed::View(view, of));
            for deed in writes.chain(views) {
                let written = fuse.pass("job writes", || {
                    match deed {
                        Deed::Write(write) => harness.job_writes(build, write),
                        Deed::View(view, of) => harness.make_view(Some(build), view, of),
                    }
                    .map_err(|e| EngineError::new(ErrorKind::Query, e))
                });
                match written {
                    Ok(()) => {}
                    Err(error) if error.kind == ErrorKind::Interrupted => return Err(error.into()),
                    Err(_) => {
                        fails = true;
                        break;
                    }
                }
            }
            Ok(JobResult {
                end: end(fails),
                built: script.built(),
                findings: Vec::new(),
                good: !fails,
            })
        })
    }

    /// Plans and carries out.
    ///
    /// # Errors
    /// The operation's.
    pub fn back(&mut self, ask: &Ask, set_aside: bool) -> Result<Done, OperateError> {
        self.session(|s| {
            let plan = s.plan(ask)?;
            s.apply(plan, set_aside)
        })
    }

    /// Back to a release, all of it.
    ///
    /// # Errors
    /// The operation's.
    pub fn back_to(&mut self, to: ReleaseId) -> Result<Done, OperateError> {
        let ask = Ask::Rollback {
            to: Some(to),
            select: None,
        };
        self.back(&ask, false)
    }

    /// Finishes what was interrupted, with a fuse that does not blow.
    ///
    /// # Errors
    /// The operation's.
    pub fn resume(&mut self, assume: Option<Assume>) -> Result<Resumed, OperateError> {
        self.fuse.disarm();
        self.session(|s| s.resume(assume, None))
    }

    /// Carries out an operation whose `n`-th boundary has a fault, and says whether it was reached.
    pub fn broken<T>(
        &mut self,
        n: u64,
        side: Side,
        fault: Fault,
        operate: impl FnOnce(&mut Self) -> T,
    ) -> (T, Option<String>) {
        self.fuse.arm(n, side, fault);
        let answer = operate(self);
        let blown = self.fuse.blown();
        self.fuse.disarm();
        (answer, blown)
    }

    /// What production holds.
    pub fn production(&self) -> Contents {
        self.harness.read(Place::Live)
    }

    /// What the ledger says is live.
    ///
    /// # Errors
    /// The operation's.
    pub fn live(&mut self) -> Result<Live, OperateError> {
        self.session(|s| s.live())
    }
}

fn end(fails: bool) -> JobEnd {
    JobEnd {
        exit_code: Some(i32::from(fails)),
        signal: None,
        milliseconds: 1,
        log: None,
        artefacts: BTreeMap::new(),
        packages: BTreeMap::new(),
        failures: Vec::new(),
    }
}
