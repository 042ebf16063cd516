//! A server of a test's own: one that may die, or that listens where others do not.

use std::net::TcpListener;
use std::process::Command;
use tempfile::TempDir;

/// It is stopped and removed with this.
pub struct Cluster {
    dir: TempDir,
    /// How a superuser reaches it, over its socket.
    pub address: String,
}

impl Cluster {
    /// One that listens on a socket only.
    pub fn start() -> Self {
        Self::with_port("")
    }

    /// One that listens on this port of the machine too. A free one is given.
    pub fn listening() -> (Self, u16) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        (Self::with_port(&port.to_string()), port)
    }

    fn with_port(port: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut start = Self::command(&dir, "start");
        if !port.is_empty() {
            start.env("UNSHIP_POSTGRES_PORT", port);
        }
        let out = start.output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let address = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        Self { dir, address }
    }

    fn command(dir: &TempDir, what: &str) -> Command {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres");
        let mut command = Command::new(script);
        command.arg(what).env("CARGO_TARGET_DIR", dir.path());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Self::command(&self.dir, "stop").output();
    }
}
