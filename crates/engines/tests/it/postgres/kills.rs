//! `kill -9` at random moments of a publish or a rollback: of the process that does it, and of the
//! server's own process for it. Two tables are always released together; they are never of two
//! releases, and the ledger says which release they are of.

use super::cluster::Cluster;
use super::{Database, server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use unship_core::ident::ReleaseId;
use unship_core::ledger::verify::Blobs;
use unship_core::ledger::{Head, SqliteLedger, Store, verify_chain};
use unship_core::log::Ledger;
use unship_core::operate::{Ask, OperateError};
use unship_core::release::Operation;
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};
use unship_engines::postgres::address::Address;
use unship_engines::postgres::connect::Connector;
use unship_engines::postgres::ledger::PostgresLedger;

/// What tells the process that is to be killed what to do: server, database, replica, value to
/// build. No value means to go back.
const CHILD: &str = "UNSHIP_TEST_KILLED";

fn rounds() -> u64 {
    let rounds = std::env::var("UNSHIP_KILL_ROUNDS");
    rounds.map_or(8, |text| text.parse().unwrap())
}

fn open(server: &str, name: &str, replica: &Path) -> World {
    let database = Database {
        server: server.to_owned(),
        name: name.to_owned(),
    };
    let connector = Connector::new(Address::parse(&database.text()).unwrap()).unwrap();
    let shared = PostgresLedger::create(connector).unwrap();
    let file = SqliteLedger::create(replica, Ledger::views()).unwrap();
    let store = Store::shared(Box::new(shared), file).unwrap();
    let mut world = World::new(Box::new(database)).unwrap();
    world.ledger = Ledger::new(store, "prod", "anna");
    world
}

fn run(world: &mut World, value: i64) -> bool {
    let tables = ["orders", "customers"].map(|name| {
        let rows = (0..200).map(|id| vec![id, value]);
        let name = world.harness.relation(0, name);
        Write::Replace(name, Table::new(&["id", "value"], rows))
    });
    world.run(&Script::good(tables)).is_ok()
}

/// The process that is killed. It is no test of its own.
#[test]
fn whoever_is_killed() {
    let Ok(text) = std::env::var(CHILD) else {
        return;
    };
    let parts: Vec<&str> = text.split('|').collect();
    let mut world = open(parts[0], parts[1], Path::new(parts[2]));
    let done = match parts[3].parse() {
        Ok(value) => run(&mut world, value),
        Err(_) => {
            let ask = Ask::Rollback {
                to: None,
                select: None,
            };
            world.back(&ask, false).is_ok()
        }
    };
    // The database is somebody else's to drop.
    std::process::exit(i32::from(!done));
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}

pub struct Model {
    database: Database,
    dir: TempDir,
    /// What each release that was tried builds, by its number.
    built: Vec<(ReleaseId, i64)>,
}

impl Model {
    /// Two releases in a database that was just made.
    pub fn new(database: Database) -> Self {
        let mut model = Self {
            database,
            dir: TempDir::new().unwrap(),
            built: Vec::new(),
        };
        for value in 1..=2 {
            model.remember(value);
            let mut world = model.world();
            assert!(run(&mut world, value));
            std::mem::forget(world.harness);
        }
        model
    }

    fn world(&self) -> World {
        let replica = self.dir.path().join("replica.db");
        open(&self.database.server, &self.database.name, &replica)
    }

    pub fn remember(&mut self, value: i64) {
        let world = self.world();
        let next = world.ledger.history(|h| h.next_id()).unwrap();
        // The first look at production is a release too.
        let next = ReleaseId(next.0.max(1));
        self.built.push((next, value));
        std::mem::forget(world.harness);
    }

    pub fn start(&self, what: &str) -> Child {
        let replica = self.dir.path().join("replica.db");
        let (server, name) = (&self.database.server, &self.database.name);
        Command::new(std::env::current_exe().unwrap())
            .args(["postgres::kills::whoever_is_killed", "--exact"])
            .env(
                CHILD,
                format!("{server}|{name}|{}|{what}", replica.display()),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// A session of the server that works for the child; none, if it has none now.
    fn backend(&self, dice: &mut Dice) -> Option<Pid> {
        let mut client = self.database.try_client()?;
        let ask = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid";
        let rows = client.query(ask, &[]).ok()?;
        let n = dice.below(rows.len().max(1) as u64);
        rows.get(usize::try_from(n).unwrap())
            .map(|row| Pid::from_raw(row.get(0)))
    }

    /// The server is up, and nobody is at work any more: what a dead client had sent may still be
    /// carried out.
    pub fn quiet(&self) {
        let began = Instant::now();
        loop {
            let ask = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                           WHERE datname = current_database() AND pid <> pg_backend_pid()
                               AND backend_type = 'client backend')";
            let client = self.database.try_client();
            let row = client.and_then(|mut client| client.query_one(ask, &[]).ok());
            if row.is_some_and(|row| row.get(0)) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "somebody hangs");
            sleep(Duration::from_millis(20));
        }
    }

    /// What both tables hold, as one reader sees them.
    pub fn value(&self) -> i64 {
        let ask = "SELECT count(DISTINCT value), count(*), min(value) FROM
                   (SELECT value FROM s.orders UNION ALL SELECT value FROM s.customers) both_";
        let row = self.database.client().query_one(ask, &[]).unwrap();
        let (values, rows): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!((values, rows), (1, 400), "production is mixed");
        row.get(2)
    }

    pub fn checked(&self, at: &str) -> bool {
        let mut world = self.world();
        let resumed = world.resume(None);
        let interrupted = match &resumed {
            Ok(_) => true,
            Err(OperateError::NothingToResume) => false,
            Err(error) => panic!("{at}: {error:?}"),
        };
        let live = world.live().unwrap();
        let mut state = live.release;
        loop {
            let release = world.ledger.history(|h| h.release(state)).unwrap().unwrap();
            match release.operation {
                Operation::Rollback { to, .. } => state = to,
                _ => break,
            }
        }
        let expected = self
            .built
            .iter()
            .rev()
            .find(|(release, _)| *release == state);
        let expected = expected.map(|(_, value)| *value);
        assert_eq!(Some(self.value()), expected, "{at}: {live:?}, {resumed:?}");
        let live = world.session(|s| s.see_drift().unwrap().0);
        let drifts = world.live().unwrap().drifts;
        assert_eq!(drifts, 0, "{at}: our own work passes for others'");
        let proof = world.session(|s| s.verify(live)).unwrap();
        assert!(proof.differences.is_empty(), "{at}: {proof:?}");
        let chain = verify_chain(world.ledger.store(), &Head::genesis(), None, Blobs::Check);
        assert!(chain.unwrap().is_good(), "{at}");
        std::mem::forget(world.harness);
        interrupted
    }
}

fn killing(server: &str, rounds: u64, backends: bool) {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut model = Model::new(Database::new(server));
    let mut usual = [Duration::from_millis(600); 2];
    let (mut killed, mut interrupted) = (0, 0);
    for round in 0..rounds {
        // Back every third time: there always is a release to go back to.
        let back = round % 3 == 2;
        let value = i64::try_from(round).unwrap() + 10;
        let what = match back {
            true => "back".to_owned(),
            false => value.to_string(),
        };
        if !back {
            model.remember(value);
        }
        let began = Instant::now();
        let mut child = model.start(&what);
        let usual = &mut usual[usize::from(back)];
        let micros = u64::try_from(usual.as_micros()).unwrap();
        sleep(Duration::from_micros(dice.below(micros * 5 / 4)));
        if backends {
            if let Some(pid) = model.backend(&mut dice)
                && child.try_wait().unwrap().is_none()
            {
                let _ = kill(pid, Signal::SIGKILL);
                killed += 1;
            }
        } else if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        let status = child.wait().unwrap();
        if status.success() {
            *usual = (*usual + began.elapsed()) / 2;
        }
        model.quiet();
        interrupted += u64::from(model.checked(&format!("round {round}, {what}")));
    }
    println!("{rounds} rounds, {killed} killed, {interrupted} interrupted");
    // A few rounds may all have ended before.
    assert!(
        rounds < 20 || killed * 4 >= rounds,
        "{killed} of {rounds} were killed"
    );
}

#[test]
fn a_killed_process_leaves_one_release_whole() {
    let Some(server) = server() else { return };
    killing(&server, rounds(), false);
}

/// A server process that is killed takes the whole server down for a moment, so this has one of its
/// own.
#[test]
fn a_killed_server_leaves_one_release_whole() {
    if server().is_none() {
        return;
    }
    let cluster = Cluster::start();
    killing(&cluster.address, rounds().div_ceil(4), true);
}
