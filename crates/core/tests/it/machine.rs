//! Random sequences of everything that can happen, against the model.

use crate::model::{Answer, Going, Model};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{ErrorKind, Place};
use unship_core::event::Event;
use unship_core::execute::ExecuteError;
use unship_core::history::History;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::{Ask, Keep, OperateError, Resumed};
use unship_core::release::Stage;
use unship_core::restore::WishError;
use unship_core::testing::faulty::{Fault, Side};
use unship_core::testing::memory::{Restoring, Warehouse, state};
use unship_core::testing::world::{Script, World, memory};
use unship_core::testing::{Contents, Table, Write};

/// The relations that anything happens to: some are only written by others, until a job is rash.
const NAMES: [(&str, &str); 6] = [
    ("main", "orders"),
    ("main", "items"),
    ("main", "raw"),
    ("other", "customers"),
    ("other", "visits"),
    ("other", "raw"),
];

fn name(index: usize) -> RelationName {
    let (database, name) = NAMES[index % NAMES.len()];
    RelationName::new(database, "s", name)
}

/// A write, before it is known what it finds.
#[derive(Debug, Clone)]
enum Change {
    Replace { on: usize, wide: bool },
    Insert { on: usize },
    Drop { on: usize },
}

#[derive(Debug, Clone)]
struct JobShape {
    changes: Vec<Change>,
    also_built: Option<usize>,
    fails: bool,
    in_place: bool,
}

#[derive(Debug, Clone)]
enum Back {
    Default {
        only: Option<BTreeSet<usize>>,
    },
    To {
        nth: usize,
        only: Option<BTreeSet<usize>>,
    },
    Undo,
    Redo,
}

#[derive(Debug, Clone)]
enum Op {
    Run(JobShape),
    Go(Back, bool),
    Others(Change),
    Pin(usize, bool),
    Housekeep(usize),
}

#[derive(Debug, Clone)]
struct Turn {
    op: Op,
    crash: Option<(u64, bool)>,
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..6_usize, any::<bool>()).prop_map(|(on, wide)| Change::Replace { on, wide }),
        2 => (0..6_usize).prop_map(|on| Change::Insert { on }),
        1 => (0..6_usize).prop_map(|on| Change::Drop { on }),
    ]
}

fn jobs() -> impl Strategy<Value = JobShape> {
    (
        prop::collection::vec(changes(), 0..4),
        prop::option::of(0..6_usize),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(changes, also_built, fails, in_place)| JobShape {
            changes,
            also_built,
            fails,
            in_place,
        })
}

fn backs() -> impl Strategy<Value = Back> {
    let only = || prop::option::weighted(0.3, prop::collection::btree_set(0..6_usize, 1..3));
    prop_oneof![
        2 => only().prop_map(|only| Back::Default { only }),
        2 => (0..40_usize, only()).prop_map(|(nth, only)| Back::To { nth, only }),
        3 => Just(Back::Undo),
        2 => Just(Back::Redo),
    ]
}

fn turns() -> impl Strategy<Value = Turn> {
    let ops = prop_oneof![
        4 => jobs().prop_map(Op::Run),
        5 => (backs(), prop::bool::weighted(0.8)).prop_map(|(back, aside)| Op::Go(back, aside)),
        2 => changes().prop_map(Op::Others),
        1 => (0..40_usize, any::<bool>()).prop_map(|(nth, pin)| Op::Pin(nth, pin)),
        1 => (0..3_usize).prop_map(Op::Housekeep),
    ];
    (
        ops,
        prop::option::weighted(0.15, (1..60_u64, any::<bool>())),
    )
        .prop_map(|(op, crash)| Turn { op, crash })
}

/// The real thing and the model, side by side.
struct Machine {
    world: World,
    warehouse: Warehouse,
    model: Model,
    values: i64,
}

impl Machine {
    fn new(restoring: Restoring) -> Self {
        let warehouse = memory(restoring);
        let mut machine = Self {
            world: World::new(Box::new(warehouse.clone())).unwrap(),
            warehouse,
            model: Model::default(),
            values: 0,
        };
        for on in [2, 5] {
            machine.others(&Change::Replace { on, wide: false });
        }
        machine
    }

    /// Turns a change into a write that can be done. No two writes write the same values.
    fn write(&mut self, change: &Change, contents: &mut Contents) -> Write {
        self.values += 1;
        let value = self.values;
        let table = |wide| match wide {
            true => Table::new(&["id", "value", "note"], [vec![1, value, 0]]),
            false => Table::new(&["id", "value"], [vec![1, value]]),
        };
        let write = match change {
            Change::Replace { on, wide } => Write::Replace(name(*on), table(*wide)),
            Change::Drop { on } if contents.contains_key(&name(*on)) => Write::Drop(name(*on)),
            Change::Drop { on } => Write::Replace(name(*on), table(false)),
            Change::Insert { on } => match contents.get(&name(*on)) {
                Some(there) => Write::Insert(name(*on), vec![vec![value; there.columns.len()]]),
                None => Write::Replace(name(*on), table(true)),
            },
        };
        write.apply(contents);
        write
    }

    fn others(&mut self, change: &Change) {
        let mut contents = self.model.production.clone();
        let write = self.write(change, &mut contents);
        self.world.harness.others_write(&write).unwrap();
        self.model.production = contents;
    }

    fn turn(&mut self, turn: &Turn) {
        let before = self.model.clone();
        match turn.crash {
            Some((n, after)) => {
                let side = if after { Side::After } else { Side::Before };
                self.world.fuse.arm(n, side, Fault::Crash);
            }
            None => self.world.fuse.disarm(),
        }
        match &turn.op {
            Op::Run(job) => self.run(job, before),
            Op::Go(back, set_aside) => self.go(back, *set_aside, before),
            Op::Others(change) => self.others(change),
            Op::Pin(nth, pin) => self.pin(*nth, *pin),
            Op::Housekeep(last) => self.housekeep(*last),
        }
        self.world.fuse.disarm();
        assert_eq!(self.world.production(), self.model.production);
        self.heads();
    }

    fn run(&mut self, job: &JobShape, before: Model) {
        let mut contents = self.model.production.clone();
        let writes: Vec<_> = job
            .changes
            .iter()
            .map(|change| self.write(change, &mut contents))
            .collect();
        let script = Script {
            writes,
            views: Vec::new(),
            also_built: job.also_built.map(name).into_iter().collect(),
            fails: job.fails,
            in_place: job.in_place,
        };
        let answer = self.world.run(&script);
        if self.world.fuse.blown().is_some() {
            self.after_crash(before, |model| {
                model.look();
                model.save();
                model.ran(&script.writes, &script.built(), !script.fails);
            });
            return;
        }
        let ran = answer.unwrap();
        self.model.look();
        self.model.save();
        if ran.published {
            self.model
                .ran(&script.writes, &script.built(), !script.fails);
        } else {
            assert!(script.fails);
            self.model.abandoned();
        }
    }

    fn go(&mut self, back: &Back, set_aside: bool, before: Model) {
        let names = |only: &Option<BTreeSet<usize>>| {
            only.as_ref()
                .map(|only| only.iter().map(|i| name(*i)).collect::<BTreeSet<_>>())
        };
        let going = match back {
            Back::Default { only } => Going::Rollback {
                to: None,
                only: names(only),
            },
            Back::To { nth, only } => Going::Rollback {
                to: Some(ReleaseId(*nth as u64 % (self.model.next().0 + 1))),
                only: names(only),
            },
            Back::Undo => Going::Undo,
            Back::Redo => Going::Redo,
        };
        let answer = self.world.back(&ask(&going), set_aside);
        if self.world.fuse.blown().is_some() {
            self.after_crash(before, |model| {
                assert_eq!(model.go(&going, set_aside), Answer::Done);
            });
            return;
        }
        if let Err(OperateError::Engine(error)) = &answer {
            assert_eq!(error.kind, ErrorKind::Missing, "{error}");
            self.not_retained(&going);
            return;
        }
        let answer = match answer {
            Ok(_) => Answer::Done,
            Err(error) => answer_of(error),
        };
        assert_eq!(answer, self.model.go(&going, set_aside), "{going:?}");
    }

    /// A refusal for want of a restore point must be true: a state that is needed lies nowhere.
    fn not_retained(&mut self, going: &Going) {
        let (_, wanted) = self.model.wanted(going).unwrap();
        let points = self.warehouse.points();
        let lost = wanted.iter().any(|(name, known)| {
            known.table.is_some()
                && !points.iter().any(|(release, databases)| {
                    databases.contains(&name.database) && self.model.holds(*release, name, known)
                })
        });
        assert!(lost, "{going:?} was refused though everything is there");
    }

    /// The model takes the new state if the ledger says that the operation came about, and the old
    /// one if it says that it did not. [`Machine::turn`] then compares.
    fn after_crash(&mut self, before: Model, happened: impl FnOnce(&mut Model)) {
        let first = before.live.is_none();
        self.model = before;
        let resumed = match self.world.resume(None) {
            Ok(resumed) => Some(resumed),
            Err(
                OperateError::NothingToResume
                | OperateError::TakenBack { .. }
                | OperateError::Execute(ExecuteError::Moved { .. }),
            ) => None,
            Err(error) => panic!("{error}"),
        };
        assert!(matches!(
            self.world.resume(None),
            Err(OperateError::NothingToResume)
        ));
        let Ok(live) = self.world.live() else {
            return;
        };
        if first {
            self.model.look();
        }
        let release = self.model.next();
        let Some(there) = self.head(release) else {
            // What others wrote may have been noticed before the crash, or not.
            self.world.session(|s| s.see_drift()).unwrap();
            self.model.look();
            self.model.save();
            return;
        };
        match (there.stage, resumed) {
            (Stage::Open, _) => panic!("{release} is still open"),
            (Stage::Abandoned, _) => {
                self.model.look();
                self.model.save();
                self.model.abandoned();
            }
            (Stage::Published, Some(Resumed::LeftInPlace { .. })) => {
                // Whatever the job had written is there, and counts as its own.
                self.model.look();
                self.model.save();
                self.model.production = self.world.production();
                // Only unship was interrupted, if the job had come to its end.
                let end = self.head(release).and_then(|r| r.end);
                let good = end.is_some_and(|end| end.exit_code == Some(0));
                self.model.ran(&[], &BTreeSet::new(), good);
                assert_eq!(live.release, release);
            }
            (Stage::Published, _) => {
                happened(&mut self.model);
                assert_eq!(live.release, release);
            }
        }
    }

    fn head(&self, id: ReleaseId) -> Option<unship_core::release::Release> {
        self.world.ledger.history(|h| h.release(id)).unwrap()
    }

    fn pin(&mut self, nth: usize, pin: bool) {
        self.world.fuse.disarm();
        if self.model.releases.is_empty() {
            return;
        }
        let nth = nth % self.model.releases.len();
        let release = ReleaseId(nth as u64);
        let event = match pin {
            true => Event::Pinned {
                release,
                reason: None,
            },
            false => Event::Unpinned { release },
        };
        self.world.ledger.append(&[event]).unwrap();
        self.model.releases[nth].pinned = pin;
    }

    /// What could be brought back before and must stay can be brought back afterwards.
    fn housekeep(&mut self, last: usize) {
        self.world.fuse.disarm();
        if self.model.live.is_none() {
            return;
        }
        let mut promised = vec![Ask::Undo, Ask::Redo];
        for (id, release) in (0..).zip(&self.model.releases) {
            if release.pinned {
                promised.push(Ask::Rollback {
                    to: Some(ReleaseId(id)),
                    select: None,
                });
            }
        }
        self.world.session(|s| s.see_drift()).unwrap();
        self.model.look();
        self.model.save();
        promised.retain(|ask| self.world.session(|s| s.plan(ask)).is_ok());
        let keep = Keep {
            last,
            within: jiff::SignedDuration::ZERO,
        };
        self.world.session(|s| s.housekeep(&keep)).unwrap();
        for ask in promised {
            if let Err(error) = self.world.session(|s| s.plan(&ask)) {
                panic!("{ask:?} was possible before housekeeping: {error}");
            }
        }
    }

    /// The heads of all releases, and what is live.
    fn heads(&mut self) {
        let heads = self
            .world
            .ledger
            .history(|h| h.releases("prod", None, 1000))
            .unwrap();
        assert_eq!(heads.len(), self.model.releases.len());
        for (head, release) in heads.iter().rev().zip(&self.model.releases) {
            let id = head.id;
            let published = head.stage == Stage::Published;
            assert_eq!(published, release.state.is_some(), "{id}");
            if published {
                assert_eq!(head.origin, release.origin, "{id}");
            }
            assert_eq!(head.pinned, release.pinned, "{id}");
            assert_eq!(head.verdict, release.verdict, "{id}: {:?}", head.reason);
        }
        let live = self.world.live().ok();
        assert_eq!(live.map(|l| l.release), self.model.live);
    }

    /// Every release's map says what was there, and every point of it holds that.
    fn maps(&mut self) {
        let points = self.warehouse.points();
        for (id, release) in (0..).map(ReleaseId).zip(&self.model.releases) {
            let Some(known) = &release.state else {
                continue;
            };
            let mapped = self.world.ledger.history(|h| shapes(h, id)).unwrap();
            let expected: BTreeMap<_, _> = known
                .iter()
                .filter_map(|(name, k)| Some((name.clone(), shape(k.table.as_ref()?))))
                .collect();
            assert_eq!(mapped, expected, "the map of {id}");
            let Some(databases) = points.get(&id).filter(|_| Some(id) != self.model.live) else {
                continue;
            };
            let held: BTreeMap<_, _> = self
                .warehouse
                .contents(Place::Point(id))
                .iter()
                .map(|(name, table)| (name.clone(), shape(table)))
                .collect();
            let mapped: BTreeMap<_, _> = mapped
                .into_iter()
                .filter(|(name, _)| databases.contains(&name.database))
                .collect();
            assert_eq!(held, mapped, "the point of {id}");
        }
    }
}

type Shape = (String, Option<unship_core::relation::Fingerprint>);

fn shape(table: &Table) -> Shape {
    let state = state(table, String::new(), true);
    (state.definition, state.fingerprint)
}

fn shapes(
    history: &History<'_>,
    id: ReleaseId,
) -> Result<BTreeMap<RelationName, Shape>, unship_core::history::ShelfError> {
    let map = history.map(id)?.unwrap_or_default();
    Ok(map
        .into_iter()
        .filter_map(|(name, v)| v.state.map(|s| (name, (s.definition, s.fingerprint))))
        .collect())
}

fn ask(going: &Going) -> Ask {
    match going {
        Going::Undo => Ask::Undo,
        Going::Redo => Ask::Redo,
        Going::Rollback { to, only } => Ask::Rollback {
            to: *to,
            select: only.clone().map(|only| ("chosen".to_owned(), only)),
        },
    }
}

fn answer_of(error: OperateError) -> Answer {
    match error {
        OperateError::NothingLive(_) => Answer::NothingLive,
        OperateError::Wish(WishError::NothingToDo(_)) => Answer::NothingToDo,
        OperateError::Wish(WishError::NothingSelected(_)) => Answer::NothingSelected,
        OperateError::NeverLive(_) => Answer::NeverLive,
        OperateError::NoSuchRelease(_) => Answer::NoSuchRelease,
        OperateError::NoUndo => Answer::NoUndo,
        OperateError::NoRedo => Answer::NoRedo,
        OperateError::NoTarget(_) => Answer::NoTarget,
        OperateError::OthersWrote(names) => Answer::OthersWrote(names.into_keys().collect()),
        other => panic!("{other:?}"),
    }
}

fn play(restoring: Restoring, turns: &[Turn]) {
    let mut machine = Machine::new(restoring);
    for turn in turns {
        machine.turn(turn);
    }
    machine.maps();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_ends_where_the_model_ends(turns in prop::collection::vec(turns(), 1..30)) {
        play(Restoring::Clones, &turns);
    }

    #[test]
    fn any_sequence_does_so_where_restore_points_are_moved_into_place(
        turns in prop::collection::vec(turns(), 1..30)
    ) {
        play(Restoring::Moves, &turns);
    }
}
