//! Who may run in an environment.
//!
//! A lease keeps two jobs out of each other's way; it does not make anything safe by itself,
//! because a clock can jump and a process can sleep through its lease's end. The fencing number
//! does: it grows with every lease that is taken, every append carries it, and the append is
//! refused in the same transaction that would write it if a later number exists. A clock that
//! jumps forward lets a second holder in early, and the first one's next append is refused; a
//! clock that jumps back keeps a dead holder's lease for longer. Neither can put entries of two
//! holders in doubt.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Who holds a lease: enough to find the process, and to prove that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The person or account.
    pub user: String,
    /// The host's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: a pid is used again, a pid with its
    /// start time is not. `None` where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The kernel's boot id and the pid namespace: only there does the pid mean this process.
    /// `None` where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The command line.
    pub command: String,
    /// Since when.
    pub since: Timestamp,
}

impl Holder {
    /// This process, on behalf of `user`, running `command` from now on.
    pub fn current(user: impl Into<String>, command: impl Into<String>) -> Self {
        let pid = std::process::id();
        Self {
            user: user.into(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            pid,
            started: process::stat(pid).map(|stat| stat.started),
            machine: process::machine(),
            command: command.into(),
            since: Timestamp::now(),
        }
    }

    /// Whether the process is certainly gone.
    ///
    /// Only a process of the same host, the same boot and the same pid namespace can be judged;
    /// any other may be alive. After a reboot a lease therefore runs until it expires: nothing
    /// tells a rebooted machine from another one of the same name.
    pub fn is_provably_dead(&self) -> bool {
        let (Some(started), Some(machine)) = (self.started, &self.machine) else {
            return false;
        };
        gethostname::gethostname().to_string_lossy() == self.host
            && process::machine().as_ref() == Some(machine)
            && process::is_gone(self.pid, started)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{} (process {}, since {}, `{}`)",
            self.user, self.host, self.pid, self.since, self.command
        )
    }
}

/// When a lease ends that is taken or renewed at `now`. A time to live beyond all calendars lasts
/// until their end.
pub fn expiry(now: Timestamp, ttl: Duration) -> Timestamp {
    SignedDuration::try_from(ttl)
        .ok()
        .and_then(|ttl| now.checked_add(ttl).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The right to run in an environment, until it expires or is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The environment.
    pub env: String,
    /// The fencing number: larger than that of every lease on `env` before it.
    pub number: u64,
    /// Who has it.
    pub holder: Holder,
    /// When it ends unless it is renewed, by the store's clock.
    pub expires_at: Timestamp,
}

impl Lease {
    /// What to append with while holding this lease.
    pub fn fence(&self) -> Fence {
        Fence {
            env: self.env.clone(),
            number: self.number,
        }
    }

    /// How the lease stands at `now`, as far as this host can tell.
    pub fn state(&self, now: Timestamp) -> LeaseState {
        if self.holder.is_provably_dead() {
            LeaseState::HolderDied
        } else if self.expires_at <= now {
            LeaseState::Expired
        } else {
            LeaseState::Held
        }
    }
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Its holder has it.
    Held,
    /// It was not renewed in time: its holder may be dead, asleep or cut off.
    Expired,
    /// Its holder is dead, on this host.
    HolderDied,
}

impl LeaseState {
    /// Whether the lease may be taken over.
    pub fn is_free(self) -> bool {
        self != LeaseState::Held
    }
}

/// Proof that comes with an append that the writer still holds its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The environment.
    pub env: String,
    /// The lease's fencing number.
    pub number: u64,
}

/// What Linux tells about processes. A container can hide other processes from `/proc`, so that a
/// missing directory alone proves nothing.
#[cfg(target_os = "linux")]
mod process {
    use std::fs;

    pub(super) struct Stat {
        pub(super) started: u64,
        exited: bool,
    }

    pub(super) fn stat(pid: u32) -> Option<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name in parentheses may hold anything, parentheses too.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let state = *fields.first()?;
        let threads: u64 = fields.get(17)?.parse().ok()?;
        Some(Stat {
            started: fields.get(19)?.parse().ok()?,
            // A first thread that has exited is shown as a zombie while others go on.
            exited: state == "X" || (state == "Z" && threads <= 1),
        })
    }

    pub(super) fn machine() -> Option<String> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{} {}", boot.trim(), namespace.to_string_lossy()))
    }

    pub(super) fn is_gone(pid: u32, started: u64) -> bool {
        use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
        match stat(pid) {
            Some(stat) => stat.exited || stat.started != started,
            None => i32::try_from(pid)
                .is_ok_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn any_process_name_is_read_past() {
            let tail = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 777 1 1";
            for name in ["cat", "a) Z 1 (b", "", "x y", "❤"] {
                let stat = parse(&format!("12 ({name}) {tail}")).unwrap();
                assert!(stat.started == 777 && !stat.exited, "{name}");
            }
            for bad in [
                "",
                ")",
                "1 (x) S",
                "1 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 a 0 b",
            ] {
                assert!(parse(bad).is_none(), "{bad}");
            }
        }
    }
}

/// Elsewhere nothing is provable, and leases end by expiring.
#[cfg(not(target_os = "linux"))]
mod process {
    pub(super) struct Stat {
        pub(super) started: u64,
    }

    pub(super) fn stat(_pid: u32) -> Option<Stat> {
        None
    }

    pub(super) fn machine() -> Option<String> {
        None
    }

    pub(super) fn is_gone(_pid: u32, _started: u64) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn holder_of(pid: u32) -> Holder {
        Holder {
            pid,
            started: process::stat(pid).map(|stat| stat.started),
            ..Holder::current("anna", "test")
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_dead_only_when_that_is_certain() {
        let me = Holder::current("anna", "test");
        assert!(!me.is_provably_dead());

        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let theirs = holder_of(child.id());
        assert!(!theirs.is_provably_dead());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(theirs.is_provably_dead());

        let elsewhere = |change: fn(&mut Holder)| {
            let mut other = theirs.clone();
            change(&mut other);
            other.is_provably_dead()
        };
        assert!(!elsewhere(|h| h.host.push('x')));
        assert!(!elsewhere(|h| h.machine = Some("another boot".into())));
        assert!(!elsewhere(|h| h.machine = None));
        assert!(!elsewhere(|h| h.started = None));

        let reused = Holder {
            started: me.started.map(|s| s - 1),
            ..me
        };
        assert!(reused.is_provably_dead());
    }
}
