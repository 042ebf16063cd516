//! `kill -9` at random moments, of unship, of its job, or of both, in the middle of whatever it is
//! doing. The model knows what every release held and how many rows the loader has written.

use crate::rig::{Oracle, Ran, Seen, World, points_of, python, rounds, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// What unship releases; the raw table is the loader's.
const BUILT: [&str; 4] = ["orders", "customers", "facts", "latest"];

/// Numbers that are random enough, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Unship,
    Job,
    Both,
}

/// What the model knows.
struct Model {
    oracle: Oracle,
    world: World,
    /// What jobs had built when a release was live.
    states: BTreeMap<String, BTreeMap<String, String>>,
    /// Rows that the loader wrote.
    raw_rows: u64,
    /// How long each kind of command takes, so that kills fall within it.
    took: BTreeMap<String, Duration>,
    killed: u64,
    interrupted: u64,
}

impl Model {
    fn seen(&self) -> Seen {
        self.oracle.look(&self.world.db()).unwrap()
    }

    fn built(seen: &Seen) -> BTreeMap<String, String> {
        let built = |(name, digest): (&String, &String)| {
            let ours = BUILT.contains(&name.as_str());
            ours.then(|| (name.clone(), digest.clone()))
        };
        seen.digests.iter().filter_map(built).collect()
    }

    fn status(&self) -> Value {
        self.world.json(&["status", "--json"])
    }

    fn live(&self) -> String {
        self.status()["release"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs a command and kills somebody on the way. `None` if unship itself died.
    fn attempt(&mut self, words: &[String], dice: &mut Dice, victim: Victim) -> Option<Ran> {
        let kind = words[..2.min(words.len())].join(" ");
        let usual = *self
            .took
            .entry(kind.clone())
            .or_insert(Duration::from_millis(600));
        let pid_file = self.world.root.join("job.pid");
        let _ = fs::remove_file(&pid_file);
        let began = Instant::now();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = self
            .world
            .command(&words)
            .env("JOB_PID", &pid_file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let delay = usual.mul_f64(dice.below(1000) as f64 / 900.0);
        while began.elapsed() < delay && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let unship = Pid::from_raw(child.id() as i32);
        let job = || {
            let text = fs::read_to_string(&pid_file).ok()?;
            text.parse().ok().map(Pid::from_raw)
        };
        if child.try_wait().unwrap().is_none() {
            self.killed += 1;
            if victim != Victim::Job {
                kill(unship, Signal::SIGKILL).unwrap();
            }
            if victim != Victim::Unship
                && let Some(job) = job()
            {
                // It may have ended by itself.
                let _ = kill(job, Signal::SIGKILL);
            }
        }
        let output = child.wait_with_output().unwrap();
        // Whoever started the job's machine again would find none of its processes.
        if let Some(job) = job() {
            wait_for("the job's end", || kill(job, None).is_err());
        }
        if output.status.signal().is_some() {
            self.interrupted += 1;
            return None;
        }
        self.took.insert(kind, began.elapsed());
        Some(Ran::of(output))
    }

    /// Finishes what was interrupted, and says whether anything was.
    fn resume(&self, here: &str) -> bool {
        let status = self.world.unship(&["status", "--json"]);
        let interrupted =
            !serde_json::from_str::<Value>(&status.out).unwrap()["interrupted"].is_null();
        assert_eq!(
            status.code,
            Some(if interrupted { 72 } else { 0 }),
            "{here}: {status}"
        );
        let mut resume = self.world.unship(&["resume"]);
        for _ in 0..50 {
            // A worker that has not yet noticed that its unship is gone may hold the file.
            if resume.code != Some(71) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            resume = self.world.unship(&["resume"]);
        }
        let expected = if interrupted { 0 } else { 75 };
        assert_eq!(resume.code, Some(expected), "{here}: {resume}");
        interrupted
    }

    /// Compares production, and every restore point that is a file, with what the ledger says.
    fn check(&mut self, before: &str, run: Option<(i64, bool)>, here: &str) {
        let status = self.status();
        assert!(status["interrupted"].is_null(), "{here}: {status}");
        assert_eq!(status["untouched"], true, "{here}: {status}");
        let live = status["release"]["id"].as_str().unwrap().to_owned();
        let seen = self.seen();
        assert_eq!(
            seen.rows["raw_events"], self.raw_rows,
            "{here}: the loader's rows"
        );
        let built = Self::built(&seen);
        if live == before {
            assert_eq!(
                built, self.states[&live],
                "{here}: {live} is live as before"
            );
        } else if let Some(target) = status["release"]["operation"]["to"].as_str() {
            assert_eq!(
                built, self.states[target],
                "{here}: {live} is {target} again"
            );
        } else {
            let (number, whole) = run.unwrap_or_else(|| panic!("{here}: {live} from nowhere"));
            if whole {
                assert_eq!(seen.release(), number, "{here}");
            }
        }
        self.states.insert(live, built);
        for (release, state) in points_of(&self.world, &self.oracle) {
            if let (Some(known), Some(seen)) = (self.states.get(&release), &state[0]) {
                assert_eq!(&Self::built(seen), known, "{here}: the point {release}");
            }
        }
        self.world.check_healthy();
    }
}

#[test]
fn whatever_is_killed_when_production_is_one_release() {
    let Some(python) = python() else { return };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = rounds("UNSHIP_KILL_SEED", now.as_nanos() as u64 | 1);
    println!("UNSHIP_KILL_SEED={seed} plays these rounds again, as far as time lets it");
    let mut dice = Dice(seed);
    let world = World::new(&python);
    let oracle = Oracle::start(&python);
    world.begin(&oracle);
    for release in 1..=2 {
        world.run("--aside", release, &[]).ok();
    }
    let mut model = Model {
        oracle,
        world,
        states: BTreeMap::new(),
        raw_rows: 500,
        took: BTreeMap::new(),
        killed: 0,
        interrupted: 0,
    };
    for (release, state) in points_of(&model.world, &model.oracle) {
        model
            .states
            .insert(release, Model::built(state[0].as_ref().unwrap()));
    }
    let live = model.live();
    model.states.insert(live, Model::built(&model.seen()));

    for round in 0..rounds("UNSHIP_KILL_ROUNDS", 6) {
        let number = 10 + round as i64;
        if dice.below(3) == 0 {
            let row = format!("insert into raw_events values ({}, 'late')", 1000 + round);
            model.oracle.write(&model.world.db(), &row);
            model.raw_rows += 1;
        }
        let victim = [Victim::Unship, Victim::Job, Victim::Both][dice.below(3) as usize];
        let mut run = None;
        let words = match dice.below(9) {
            0..=2 => {
                run = Some((number, true));
                model.world.job("--aside", number, &["--slow"])
            }
            3 => {
                run = Some((number, false));
                model.world.job("--in-place", number, &["--slow"])
            }
            4 => model.world.job("--aside", number, &["--fail"]),
            5 => vec!["rollback".to_owned()],
            6 => vec!["undo".to_owned()],
            7 => vec!["redo".to_owned()],
            _ => vec!["gc".to_owned()],
        };
        let here = format!("seed {seed}, round {round}, {victim:?} killed in {words:?}");
        let before = model.live();
        let ended = model.attempt(&words, &mut dice, victim);
        if let Some(ran) = &ended {
            // Done, the job's own failure or its kill, or nothing to do.
            assert!(matches!(ran.code, Some(0 | 3 | 137 | 75)), "{here}: {ran}");
        }
        let resumed = model.resume(&here);
        assert!(!resumed || ended.is_none(), "{here}: {ended:?}");
        // Drift that nobody has looked at yet is no lie; a plan looks.
        let _ = model.world.unship(&["plan", "--to", "R0"]);
        model.check(&before, run, &here);
    }
    println!(
        "{} kills, {} of them of unship",
        model.killed, model.interrupted
    );
}
