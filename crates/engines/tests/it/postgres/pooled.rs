//! A server behind pgbouncer.

use super::{Database, SCHEMA};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;
use unship_core::engine::{Engine, Level};
use unship_core::testing::skipped;
use unship_engines::postgres::Postgres;
use unship_engines::postgres::address::Address;
use unship_engines::postgres::build::Wanted;
use unship_engines::postgres::connect::Connector;

/// It is stopped and removed with this.
struct Proxy {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Proxy {
    fn start(program: &Path, database: &Database, mode: &str, size: u32) -> Self {
        let address = Address::parse(&database.text()).unwrap();
        let of = |key| address.get(key).unwrap_or_default().to_owned();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let dir = TempDir::new().unwrap();
        let settings = dir.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host={host} port={db_port} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n",
            name = of("dbname"),
            host = of("host"),
            db_port = of("port"),
            user = of("user"),
        );
        fs::write(&settings, text).unwrap();
        // It refuses to run as root.
        let mut command = if fs::metadata(dir.path()).unwrap().uid() == 0 {
            chown(dir.path(), Some(65534), None).unwrap();
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        let process = command.arg("-q").arg(&settings).spawn().unwrap();
        let listens = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(listens, "on port {port}");
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    fn engine(&self, database: &Database) -> Postgres {
        let text = format!(
            "{} host=127.0.0.1 port={} sslmode=disable",
            database.text(),
            self.port
        );
        let connector = Connector::new(Address::parse(&text).unwrap()).unwrap();
        Postgres::new(connector, [SCHEMA.to_owned()].into(), Wanted::default())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// With one client it looks like a session, and a release may even succeed.
#[test]
fn a_proxy_that_pools_transactions_is_refused() {
    let Some(server) = super::server() else {
        return;
    };
    let Some(program) = program("pgbouncer") else {
        skipped("pgbouncer is not installed");
        return;
    };
    let database = Database::new(&server);
    for (mode, size, refused) in [
        ("transaction", 5, true),
        ("transaction", 1, true),
        ("statement", 5, true),
        ("session", 5, false),
    ] {
        let proxy = Proxy::start(&program, &database, mode, size);
        let mut engine = proxy.engine(&database);
        let answer = engine.freeze().map_err(|e| e.to_string());
        let found = engine.doctor();
        let wrong: Vec<_> = found.iter().filter(|d| d.level == Level::Error).collect();
        if refused {
            let told = answer.unwrap_err();
            assert!(
                told.contains("another session") || mode == "statement",
                "{mode}: {told}"
            );
            assert!(!wrong.is_empty(), "{mode} {size}: {found:?}");
        } else {
            assert_eq!(answer, Ok(()), "{mode}");
            assert!(wrong.is_empty(), "{mode}: {wrong:?}");
        }
    }
}

/// Where Debian puts it is on no ordinary user's search path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    all.map(|dir| dir.join(name)).find(|file| file.is_file())
}
