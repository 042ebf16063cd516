//! The crash matrix: each operation dies at each of its boundaries in turn, and afterwards
//! production is the old state or the new one, the ledger says which, and work goes on.

use crate::rig::{Oracle, Ran, State, World, points_of, python, rounds};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// More boundaries than any operation here has.
const FAR: usize = 400;

/// The release that the job after the crash makes.
const NEXT: i64 = 9;

/// The words of a command, for a project.
type Words = dyn Fn(&World) -> Vec<String>;

/// One operation, and what surrounds it.
pub struct Walk<'a> {
    pub oracle: &'a Oracle,
    /// The project as the operation finds it; every attempt works on a copy.
    pub base: World,
    pub words: Box<Words>,
    /// The exit code when nothing crashes.
    pub code: i32,
    /// Boundaries that it must come past, so that a walk that tests nothing is noticed.
    pub passes: &'static [&'static str],
    /// Whether production may refuse to open until it is resumed.
    pub may_be_sealed: bool,
    /// A release that one of several files may hold before it is resumed, though it is not kept.
    pub passing: Option<i64>,
    /// What a person has to do before work goes on.
    pub mend: Box<dyn Fn(&World) + 'a>,
    /// Makes the copies.
    pub copy: Box<dyn Fn(&World) -> World + 'a>,
    /// Whether `rollback` to the state before is part of what must work afterwards.
    pub and_back: bool,
}

impl<'a> Walk<'a> {
    pub fn new(oracle: &'a Oracle, base: World, words: &'static [&'static str]) -> Self {
        let words = words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        Self {
            oracle,
            base,
            words: Box::new(move |_| words.clone()),
            code: 0,
            passes: &[],
            may_be_sealed: false,
            passing: None,
            mend: Box::new(|_| {}),
            copy: Box::new(World::copy),
            and_back: true,
        }
    }

    fn job(
        oracle: &'a Oracle,
        base: World,
        how: &'static str,
        more: &'static [&'static str],
    ) -> Self {
        Self {
            words: Box::new(move |world| world.job(how, 4, more)),
            ..Self::new(oracle, base, &[])
        }
    }

    /// Runs the operation, dying at a boundary.
    fn attempt(&self, world: &World, at: usize) -> (Ran, bool, Vec<String>) {
        let words = (self.words)(world);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.dying_at(&words, at)
    }

    pub fn walk(self) {
        let old = self.base.look(self.oracle);
        let live = live_release(&self.base);
        let mut points = points_of(&self.base, self.oracle);
        if let Some(live) = &live {
            points.insert(live.clone(), old.clone());
        }

        let world = (self.copy)(&self.base);
        let (ran, died, names) = self.attempt(&world, FAR);
        assert!(!died && ran.code == Some(self.code), "{ran}");
        for name in self.passes {
            assert!(names.iter().any(|n| n == name), "no {name:?} in {names:?}");
        }
        let new = world.look(self.oracle);
        world.check_healthy();
        (self.mend)(&world);
        world.run("--aside", NEXT, &[]).ok();
        let next = world.look(self.oracle);
        assert_eq!(next[0].as_ref().unwrap().release(), NEXT);
        let known = Known {
            old,
            new,
            next,
            live,
            points,
        };

        // Seconds matter in the ordinary run: it takes one boundary in so many, others in each
        // operation; `make test-all` takes all, and looks thoroughly after each.
        let stride = rounds("UNSHIP_CRASH_STRIDE", 40).max(1);
        let every = rounds("UNSHIP_CRASH_EVERY", 8).max(1);
        for (at, name) in names.iter().enumerate() {
            if !(at + names.len()).is_multiple_of(stride as usize) {
                continue;
            }
            let world = (self.copy)(&self.base);
            let (ran, died, passed) = self.attempt(&world, at + 1);
            assert!(died, "{} {name}: {ran}", at + 1);
            let here = Place {
                text: format!("after {} {:?}", at + 1, passed.last().unwrap()),
                thorough: (at as u64).is_multiple_of(every),
            };
            self.check(&world, &known, &here);
        }
        println!("{} boundaries: {}", names.len(), names.join(", "));
    }

    fn check(&self, world: &World, known: &Known, here: &Place) {
        for (at, file) in [world.db(), world.extra()].iter().enumerate() {
            match self.oracle.try_look(file).transpose() {
                Ok(seen) => assert!(
                    seen == known.old[at]
                        || seen == known.new[at]
                        || seen.map(|seen| seen.release()) == self.passing,
                    "{here}: {} is neither the old nor the new state",
                    file.display()
                ),
                Err(error) => assert!(self.may_be_sealed, "{here}: {error}"),
            }
        }

        let status = world.unship(&["status", "--json"]);
        let document: Value = serde_json::from_str(&status.out).unwrap_or_default();
        let interrupted = !document["interrupted"].is_null();
        let expected = match (document["release"]["id"].as_str(), interrupted) {
            (None, _) => 75,
            (_, true) => 72,
            (_, false) => 0,
        };
        assert_eq!(status.code, Some(expected), "{here}: {status}");

        let resume = world.unship(&["resume"]);
        let taken_back =
            resume.code == Some(70) && resume.err.contains("production: as it was before");
        if interrupted {
            assert!(resume.code == Some(0) || taken_back, "{here}: {resume}");
        } else {
            assert_eq!(resume.code, Some(75), "{here}: {resume}");
        }

        let live = live_release(world);
        let now = world.look(self.oracle);
        // A state that unship only saw, and did not make, is the old one.
        let expected = if live == known.live || live.as_deref() == Some("R0") {
            &known.old
        } else {
            &known.new
        };
        assert_eq!(&now, expected, "{here}: {live:?} is live, says the ledger");
        world.check_healthy();
        for (release, state) in points_of(world, self.oracle) {
            if let Some(known) = known.points.get(&release) {
                for (seen, known) in state.iter().zip(known) {
                    assert!(
                        seen.is_none() || seen == known,
                        "{here}: the point {release}"
                    );
                }
            }
        }

        if !here.thorough {
            return;
        }
        (self.mend)(world);
        let ran = world.run("--aside", NEXT, &[]);
        assert_eq!(ran.code, Some(0), "{here}: {ran}");
        assert_eq!(world.look(self.oracle), known.next, "{here}: the next run");
        if let (true, Some(live)) = (self.and_back, &known.live) {
            let back = world.unship(&["rollback", "--to", live]);
            assert_eq!(back.code, Some(0), "{here}: {back}");
            assert_eq!(world.look(self.oracle), known.old, "{here}: and back");
        }
    }
}

struct Known {
    old: State,
    new: State,
    next: State,
    live: Option<String>,
    points: BTreeMap<String, State>,
}

/// Where it died.
struct Place {
    text: String,
    /// Whether it is also proved there that work goes on.
    thorough: bool,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the ledger says is live; `None` before anything was.
fn live_release(world: &World) -> Option<String> {
    let status = world.unship(&["status", "--json"]);
    let document: Value = serde_json::from_str(&status.out).ok()?;
    document["release"]["id"].as_str().map(str::to_owned)
}

/// A project whose production was there before unship, and three releases.
fn three_releases(python: &std::path::Path, oracle: &Oracle, two_files: bool) -> World {
    let world = World::new(python);
    if two_files {
        world.two_files();
    }
    world.begin(oracle);
    for release in 1..=3 {
        world.run("--aside", release, &[]).ok();
    }
    world
}

fn set_up() -> Option<(PathBuf, Oracle)> {
    let python = python()?;
    let oracle = Oracle::start(&python);
    Some((python, oracle))
}

#[test]
fn a_first_run() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = World::new(&python);
    world.begin(&oracle);
    Walk {
        passes: &[
            "release published",
            "clone named",
            "swap linked",
            "swap renamed",
            "step recorded",
        ],
        ..Walk::job(&oracle, world, "--aside", &[])
    }
    .walk();
}

#[test]
fn a_first_run_without_a_database() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    Walk {
        passes: &["swap renamed"],
        ..Walk::job(&oracle, World::new(&python), "--aside", &[])
    }
    .walk();
}

#[test]
fn a_run_aside() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    Walk {
        passes: &[
            "swap linked",
            "point packed",
            "point dropped",
            "housekeeping recorded",
        ],
        ..Walk::job(&oracle, world, "--aside", &[])
    }
    .walk();
}

#[test]
fn a_run_in_place() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    Walk {
        passes: &[
            "pack named",
            "point packed",
            "point recorded",
            "job recorded",
        ],
        ..Walk::job(&oracle, world, "--in-place", &[])
    }
    .walk();
}

#[test]
fn a_run_that_fails() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    Walk {
        code: 3,
        passes: &["build kept", "release abandoned"],
        ..Walk::job(&oracle, world, "--aside", &["--fail"])
    }
    .walk();
}

#[test]
fn a_rollback_by_rename() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    Walk {
        passes: &["swap linked", "swap renamed"],
        ..Walk::new(&oracle, world, &["rollback"])
    }
    .walk();
}

#[test]
fn a_rollback_from_a_packed_point() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    Walk {
        passes: &["unpacked", "unpacked file named", "swap renamed"],
        ..Walk::new(&oracle, world, &["rollback", "--to", "R0"])
    }
    .walk();
}

#[test]
fn a_rollback_of_relations_while_others_wrote() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    oracle.write(
        &world.db(),
        "insert into raw_events values (1000, 'a day later')",
    );
    Walk {
        passes: &[
            "drift recorded",
            "assemble cloned",
            "assemble restored",
            "assemble named",
        ],
        // The point that it would go back to holds the rows of others, as does production.
        ..Walk::new(&oracle, world, &["rollback"])
    }
    .walk();
}

#[test]
fn an_undo_and_a_redo() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    let undone = world.copy();
    Walk::new(&oracle, world, &["undo"]).walk();
    undone.unship(&["undo"]).ok();
    Walk::new(&oracle, undone, &["redo"]).walk();
}

#[test]
fn housekeeping() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, false);
    world.configure("[keep]\nlast = 1\nfor = \"0s\"\n");
    Walk {
        passes: &["point dropped", "housekeeping recorded"],
        and_back: false,
        ..Walk::new(&oracle, world, &["gc"])
    }
    .walk();
}

#[test]
fn a_run_on_two_files() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, true);
    Walk::job(&oracle, world, "--aside", &[]).walk();
}

#[test]
fn a_rollback_of_two_files() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, true);
    Walk::new(&oracle, world, &["rollback"]).walk();
}

/// The second file cannot be put in place, so the first one is taken back.
#[test]
fn a_run_that_is_taken_back() {
    let Some((python, oracle)) = set_up() else {
        return;
    };
    let world = three_releases(&python, &oracle, true);
    let in_the_way = world.home().join("points/R3/extra.duckdb");
    fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    fs::copy(world.extra(), &in_the_way).unwrap();
    fs::set_permissions(
        &in_the_way,
        std::os::unix::fs::PermissionsExt::from_mode(0o444),
    )
    .unwrap();
    Walk {
        code: 70,
        passing: Some(4),
        passes: &["undo started", "swap back linked", "undo applied"],
        mend: Box::new(|world| {
            fs::remove_file(world.home().join("points/R3/extra.duckdb")).unwrap();
        }),
        ..Walk::job(&oracle, world, "--aside", &[])
    }
    .walk();
}
