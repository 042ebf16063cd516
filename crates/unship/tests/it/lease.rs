//! One guarded run at a time, and what signals do.

use crate::rig::{Oracle, Ran, World, python, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

/// A project with a production, and a guarded job that has begun and goes on until it is let go.
struct Running {
    oracle: Oracle,
    world: World,
    child: Child,
}

/// A job that writes its process id, builds one table, and waits to be let go.
const WAITING: &str = "import duckdb, os, sys, time
con = duckdb.connect(os.environ['UNSHIP_DATABASE'])
con.execute('create or replace table orders as select 77 as release')
con.execute('checkpoint')
open('job.pid', 'w').write(str(os.getpid()))
while not os.path.exists('go'):
    time.sleep(0.01)
con.close()
";

impl Running {
    fn start() -> Option<Self> {
        let python = python()?;
        let oracle = Oracle::start(&python);
        let world = World::new(&python);
        world.begin(&oracle);
        world.run("--aside", 1, &[]).ok();
        fs::write(world.root.join("waiting.py"), WAITING).unwrap();
        let child = world
            .command(&[
                "run",
                "--aside",
                "--",
                python.to_str().unwrap(),
                "waiting.py",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // As a terminal starts it: in a group of its own.
            .process_group(0)
            .spawn()
            .unwrap();
        let running = Self {
            oracle,
            world,
            child,
        };
        wait_for("the job", || running.pid("job.pid").is_some());
        Some(running)
    }

    fn pid(&self, file: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.world.root.join(file)).ok()?;
        text.parse().ok().map(Pid::from_raw)
    }

    fn unship(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn let_go(&self) {
        fs::write(self.world.root.join("go"), "").unwrap();
    }

    fn release_in_production(&self) -> i64 {
        self.oracle.look(&self.world.db()).unwrap().release()
    }
}

#[test]
fn a_second_one_is_refused_with_the_name_of_the_first() {
    let Some(running) = Running::start() else {
        return;
    };
    let world = &running.world;
    for words in [
        &["rollback"][..],
        &["gc"],
        &["run", "--", "true"],
        &["resume"],
    ] {
        let second = world.unship(words);
        assert_eq!(second.code, Some(71), "{words:?}: {second}");
        let held = world.json(&["status", "--json"])["running"].clone();
        let holder = held["holder"].as_str().unwrap();
        for part in [
            gethostname::gethostname().to_str().unwrap(),
            &format!("process {}", running.child.id()),
            held["since"].as_str().unwrap(),
            "unship run -- ",
        ] {
            assert!(holder.contains(part), "{part:?} in {holder}");
            assert!(second.err.contains(part), "{part:?} in {second}");
        }
    }
    running.let_go();
    let world = running.world;
    let first = Ran::of(running.child.wait_with_output().unwrap());
    assert_eq!(first.code, Some(0), "{first}");
    world.check_healthy();
}

#[test]
fn a_killed_one_is_taken_over_at_once() {
    let Some(mut running) = Running::start() else {
        return;
    };
    kill(running.unship(), Signal::SIGKILL).unwrap();
    running.child.wait().unwrap();
    let world = &running.world;

    let status = world.unship(&["status"]);
    assert_eq!(status.code, Some(72), "{status}");
    assert!(status.out.contains("R2 was interrupted"), "{status}");
    let run = world.run("--aside", 3, &[]);
    assert_eq!(run.code, Some(71), "its job still runs: {run}");
    let resume = world.unship(&["resume"]).ok();
    assert!(resume.out.contains("R2 was dropped"), "{resume}");
    assert_eq!(running.release_in_production(), 1);

    // The job outlived its guard. What it does now does not matter, and the next one waits for it.
    running.let_go();
    let job = running.pid("job.pid").unwrap();
    wait_for("the job's end", || kill(job, None).is_err());
    running.world.run("--aside", 3, &[]).ok();
    assert_eq!(running.release_in_production(), 3);
    running.world.check_healthy();
}

#[test]
fn a_signal_ends_the_job_and_the_run_fails() {
    for (signal, to_group) in [
        (Signal::SIGTERM, false),
        (Signal::SIGINT, false),
        // What Ctrl-C in a terminal does: everybody hears it.
        (Signal::SIGINT, true),
        (Signal::SIGHUP, true),
    ] {
        let Some(running) = Running::start() else {
            return;
        };
        let here = format!("{signal}, to the group: {to_group}");
        let to = running.unship().as_raw();
        kill(Pid::from_raw(if to_group { -to } else { to }), signal).unwrap();
        assert_eq!(running.release_in_production(), 1, "{here}");
        let (world, oracle) = (running.world, running.oracle);
        let ended = Ran::of(running.child.wait_with_output().unwrap());
        assert!(!world.root.join("go").exists());
        assert!(
            ended.code == Some(128 + signal as i32) || ended.code == Some(1),
            "{here}: {ended}"
        );
        assert!(ended.out.contains("not published: R2"), "{here}: {ended}");

        world.unship(&["status"]).ok();
        let shown = world.json(&["show", "R2", "--json"]).to_string();
        assert!(shown.contains("abandoned"), "{here}: {shown}");
        assert_eq!(world.unship(&["resume"]).code, Some(75), "{here}");
        world.check_healthy();
        world.run("--aside", 3, &[]).ok();
        assert_eq!(oracle.look(&world.db()).unwrap().release(), 3, "{here}");
    }
}
