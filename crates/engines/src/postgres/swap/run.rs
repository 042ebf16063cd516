//! Carrying a plan out so that nobody waits long behind it.
//!
//! A lock that waits is a lock that everybody else waits behind. So each lock is asked for with a
//! short timeout, below the one after which PostgreSQL looks for deadlocks and ends somebody's
//! query; if it is not had, everything is let go, and asked for again a little later.

use super::names::literal;
use super::plan::plan;
use super::request::SwapPlan;
use super::survey::{cell, failed, mark, name, survey};
use postgres::error::SqlState;
use postgres::{Client, Transaction};
use std::time::{Duration, Instant};
use unship_core::engine::{EngineError, ErrorKind};

/// How long to go on asking for locks.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody holds what is needed.
    Blocked(Blocked),
    /// COMMIT is about to be sent. If the connection breaks now, ask [`committed`] with this.
    Committing(String),
    /// A statement that could wait until after the move failed; production is as planned.
    Afterwards {
        /// The statement.
        statement: String,
        /// What PostgreSQL said.
        error: String,
    },
}

/// Who is in the way of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// How often it was tried.
    pub tries: u32,
    /// The sessions that hold locks on the relations, the oldest first, in words.
    pub by: Vec<String>,
}

/// Carries out a plan: prepares the incoming side, locks, makes sure that nothing changed since the
/// survey, then moves everything and runs `extra` in the same transaction.
///
/// An error before COMMIT changed nothing in production. An error of kind `Interrupted` after
/// [`Event::Committing`] leaves it open: connect again and ask [`committed`].
pub fn run(
    client: &mut Client,
    plan: &SwapPlan,
    extra: &[String],
    on: &dyn Fn(Event),
) -> Result<(), EngineError> {
    let watch: Vec<u32> = plan.watch.iter().copied().collect();
    let mut plan = plan.clone();
    client
        .batch_execute(
            "SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning",
        )
        .map_err(failed)?;
    // From PostgreSQL 14 on, and only on Linux: the server notices that this host is gone.
    let _ = client.batch_execute("SET client_connection_check_interval = '2s'");
    let _ = client.batch_execute("SET tcp_user_timeout = '30s'");
    // Where this role may: if there is a deadlock, it is ours to be ended, not a reader's query.
    let _ = client.batch_execute("SET deadlock_timeout = '10ms'");
    // Where nothing is prepared it is soon enough to look under the locks.
    if !plan.prepare.is_empty() && mark(client, &watch)? != plan.mark {
        plan = again(client, &plan)?;
    }
    let mut done = Ok(false);
    // What others do to a table (TRUNCATE, REFRESH, CREATE INDEX) may change the catalog without
    // changing the plan: then it is tried again, but not for ever.
    for _ in 0..5 {
        if !plan.prepare.is_empty() {
            plan.mark = prepare(client, &plan, &watch)?;
            plan.prepare.clear();
        }
        lost_access(client, &plan)?;
        done = locked(client, &plan, &watch, extra, on);
        if !matches!(done, Ok(false)) {
            break;
        }
        plan = again(client, &plan)?;
    }
    let done = match done {
        Ok(true) => Ok(()),
        Ok(false) => Err(EngineError::new(
            ErrorKind::Busy,
            "Others keep altering these relations; nothing was changed.",
        )
        .hint("Find out who does, and go on when they are done.")),
        Err(error) => Err(error),
    };
    if done.is_ok() {
        for statement in &plan.afterwards {
            if let Err(error) = client.batch_execute(statement) {
                on(Event::Afterwards {
                    statement: statement.clone(),
                    error: failed(error).message,
                });
            }
        }
    }
    let _ = client.batch_execute(
        "RESET idle_in_transaction_session_timeout; RESET client_min_messages; RESET lock_timeout; RESET statement_timeout",
    );
    let _ = client.batch_execute("RESET deadlock_timeout");
    done
}

/// Something changed since the survey. An earlier attempt may have prepared the incoming side; that
/// is all right if production would be changed in exactly the same way.
fn again(client: &mut Client, old: &SwapPlan) -> Result<SwapPlan, EngineError> {
    let found = survey(client, &old.request.scope())?;
    let moved = || {
        EngineError::new(
            ErrorKind::Refused,
            "The catalog changed since this was planned, and nothing was changed by it.",
        )
        .hint("Plan again, and look at what is different.")
    };
    let new = plan(&found, &old.request).map_err(|refusal| moved().because(refusal))?;
    let same = new.watch == old.watch
        && new.lock_incoming == old.lock_incoming
        && new.lock_production == old.lock_production
        && new.prepare.iter().all(|s| old.prepare.contains(s))
        && without_statistics(&new) == without_statistics(old);
    if same {
        Ok(SwapPlan {
            statements: old.statements.clone(),
            ..new
        })
    } else {
        Err(moved())
    }
}

/// The statements in order of text: extended statistics that were made meanwhile move with their
/// table rather than at the end.
fn without_statistics(plan: &SwapPlan) -> Vec<&String> {
    let mut all: Vec<&String> = plan.statements.iter().collect();
    all.sort();
    all
}

/// Runs the statements on the incoming side, and gives the catalog's mark as they leave it.
fn prepare(client: &mut Client, plan: &SwapPlan, watch: &[u32]) -> Result<String, EngineError> {
    let mut tx = client.transaction().map_err(failed)?;
    tx.batch_execute("SET LOCAL search_path = ''; SET LOCAL lock_timeout = '10s'")
        .map_err(failed)?;
    if mark(&mut tx, watch)? != plan.mark {
        return Err(EngineError::new(
            ErrorKind::Refused,
            "The catalog changed since this was planned, and nothing was changed by it.",
        )
        .hint("Plan again, and look at what is different."));
    }
    for statement in &plan.prepare {
        tx.batch_execute(statement).map_err(|e| {
            let error = failed(e);
            EngineError::new(
                match error.kind {
                    ErrorKind::Query => ErrorKind::Refused,
                    other => other,
                },
                format!(
                    "The new version cannot take over what the old one had: {}\n  {statement}",
                    error.message
                ),
            )
            .hint("Nothing was changed. Mend the new version, or drop this from production first if it is no longer wanted.")
            .because(error)
        })?;
    }
    let after = mark(&mut tx, watch)?;
    tx.commit().map_err(failed)?;
    Ok(after)
}

/// Nobody may have less access to the new version than to the old one.
fn lost_access(client: &mut Client, plan: &SwapPlan) -> Result<(), EngineError> {
    let (old, new): (Vec<u32>, Vec<u32>) = plan.access.iter().copied().unzip();
    let gone: Vec<u32> = plan.withdrawn.iter().map(|one| one.relation).collect();
    let roles: Vec<Option<&str>> = plan.withdrawn.iter().map(|one| one.to.as_deref()).collect();
    let rights: Vec<&str> = plan.withdrawn.iter().map(|one| &*one.privilege).collect();
    let lost: Vec<String> = client
        .query(
            include_str!("sql/lost.sql"),
            &[&old, &new, &gone, &roles, &rights],
        )
        .map_err(failed)?
        .iter()
        .map(|row| {
            let place = name(row, 0)?;
            let (role, privilege): (String, String) = (cell(row, 2)?, cell(row, 3)?);
            Ok(format!("{role} loses {privilege} on {place}"))
        })
        .collect::<Result<_, EngineError>>()?;
    if lost.is_empty() {
        return Ok(());
    }
    Err(EngineError::new(
        ErrorKind::Refused,
        format!(
            "Access would be lost, and production was not changed:\n  {}",
            lost.join("\n  ")
        ),
    )
    .hint("Grant it on the new version, or revoke it from the old one."))
}

/// Tries until every lock is had, then does everything in one go. False: the catalog is not as it
/// was when this was planned.
fn locked(
    client: &mut Client,
    plan: &SwapPlan,
    watch: &[u32],
    extra: &[String],
    on: &dyn Fn(Event),
) -> Result<bool, EngineError> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match attempt(client, plan, watch, extra, on, tries) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if error.kind != ErrorKind::Busy {
            return Err(error);
        }
        let by = holders(client, watch)?;
        if started.elapsed() > PATIENCE {
            let who = if by.is_empty() {
                "sessions that came and went".to_owned()
            } else {
                by.join("; ")
            };
            return Err(EngineError::new(
                ErrorKind::Busy,
                format!("The locks could not be had in {tries} tries; nothing was changed. In the way: {who}."),
            )
            .hint("Wait for them or end them, then go on.")
            .because(error));
        }
        on(Event::Blocked(Blocked { tries, by }));
        std::thread::sleep(pause(tries));
    }
}

/// A little longer each time, and never the same for two of us.
fn pause(tries: u32) -> Duration {
    let jitter = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::from(d.subsec_nanos()) / 1000 % 50);
    Duration::from_millis(20 + u64::from(tries.min(20)) * 10 + jitter)
}

fn attempt(
    client: &mut Client,
    plan: &SwapPlan,
    watch: &[u32],
    extra: &[String],
    on: &dyn Fn(Event),
    tries: u32,
) -> Result<bool, EngineError> {
    let mut tx = client.transaction().map_err(failed)?;
    // Short at first: most locks are free. Longer later, and always below deadlock_timeout.
    let patience = (5 * u64::from(tries)).min(100);
    let mut locks = vec![
        "SET LOCAL search_path = ''".to_owned(),
        "SET LOCAL jit = off".to_owned(),
        "SET LOCAL check_function_bodies = off".to_owned(),
        // Nobody waits behind us here; long enough for an autovacuum to be told to yield.
        "SET LOCAL lock_timeout = '3s'".to_owned(),
    ];
    locks.extend(plan.lock_incoming.iter().cloned());
    if tries > 1 {
        // An autovacuum yields to whoever waits for a second. This mode is in nobody's way but
        // its, so that the wait is nobody else's.
        let gentle = |l: &String| {
            l.strip_suffix("ACCESS EXCLUSIVE MODE")
                .map(|l| format!("{l}SHARE UPDATE EXCLUSIVE MODE"))
        };
        locks.extend(plan.lock_production.iter().filter_map(gentle));
    }
    locks.push(format!("SET LOCAL lock_timeout = '{patience}ms'"));
    // Whoever waits for the first of them waits for all the others too, each of which may take a
    // little: so there is a bound on the sum as well.
    let most = 2 * patience + watch.len() as u64 / 5;
    locks.push(format!("SET LOCAL statement_timeout = '{most}ms'"));
    locks.extend(plan.lock_production.iter().cloned());
    locks.push("SET LOCAL statement_timeout = 0".to_owned());
    tx.batch_execute(&locks.join(";\n")).map_err(|e| {
        // Ours are the only timeouts here, and what they end is a wait.
        let ended = e.code() == Some(&SqlState::QUERY_CANCELED);
        let mut error = failed(e);
        if ended {
            error.kind = ErrorKind::Busy;
        }
        error
    })?;
    if mark(&mut tx, watch)? != plan.mark {
        return Ok(false);
    }
    let token: String = tx
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    finish(tx, plan, extra, &token, on).map(|()| true)
}

fn finish(
    mut tx: Transaction<'_>,
    plan: &SwapPlan,
    extra: &[String],
    token: &str,
    on: &dyn Fn(Event),
) -> Result<(), EngineError> {
    on(Event::Committing(token.to_owned()));
    let mut all: Vec<&str> = plan.statements.iter().map(String::as_str).collect();
    all.extend(extra.iter().map(String::as_str));
    all.push("COMMIT");
    let sent = tx.batch_execute(&all.join(";\n"));
    // The batch ended the transaction itself, so that no second message stands between the locks
    // and their release; the rollback that follows here finds nothing to do.
    drop(tx);
    sent.map_err(|e| {
        let error = failed(e);
        let kind = match error.kind {
            ErrorKind::Io => ErrorKind::Interrupted,
            other => other,
        };
        let hint = match kind {
            ErrorKind::Interrupted => "The connection broke: whether it was done is in the ledger.",
            ErrorKind::Busy => "A lock was not to be had.",
            _ => "Nothing was changed.",
        };
        EngineError::new(kind, error.message.clone())
            .hint(hint)
            .because(error)
    })
}

/// Who holds locks on these relations.
fn holders(client: &mut Client, watch: &[u32]) -> Result<Vec<String>, EngineError> {
    client
        .query(include_str!("sql/holders.sql"), &[&watch])
        .map_err(failed)?
        .iter()
        .map(|row| cell(row, 0))
        .collect()
}

/// Whether the transaction that [`Event::Committing`] named was committed. Waits while it is still
/// running: a server process goes on for a moment after its client is gone.
pub fn committed(client: &mut Client, token: &str) -> Result<bool, EngineError> {
    let ask = format!("SELECT pg_xact_status({}::xid8)", literal(token));
    let started = Instant::now();
    loop {
        let status: Option<String> = client
            .query_one(&ask, &[])
            .and_then(|row| row.try_get(0))
            .map_err(failed)?;
        match status.as_deref() {
            Some("committed") => return Ok(true),
            Some("aborted") => return Ok(false),
            Some(_) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Some(_) => {
                return Err(EngineError::new(
                    ErrorKind::Busy,
                    format!("Transaction {token} is still running."),
                )
                .hint("Wait for it, then ask again."));
            }
            None => {
                return Err(EngineError::new(
                    ErrorKind::Missing,
                    format!("PostgreSQL no longer knows what became of transaction {token}."),
                )
                .hint("The ledger in the same database does."));
            }
        }
    }
}
