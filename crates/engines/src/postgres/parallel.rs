//! The same work on many things, over several connections.

use super::connect::Connector;
use postgres::Client;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use unship_core::engine::{EngineError, ErrorKind, OnProgress};

/// Does `work` on every task, the last ones first, and gives the answers in no order. `ready` sets a
/// connection up. The first error stops all.
pub fn each<T: Send, A: Send>(
    connector: &Connector,
    tasks: Vec<T>,
    connections: usize,
    doing: &str,
    on: OnProgress<'_>,
    ready: &(dyn Fn(&mut Client) -> Result<(), EngineError> + Sync),
    work: &(dyn Fn(&mut Client, T) -> Result<A, EngineError> + Sync),
) -> Result<Vec<A>, EngineError> {
    let total = tasks.len() as u64;
    let connections = connections.min(tasks.len());
    let tasks = Mutex::new(tasks);
    let answers = Mutex::new(Vec::new());
    let done = AtomicU64::new(0);
    let worker = || -> Result<(), EngineError> {
        let mut client = connector.connect()?;
        ready(&mut client)?;
        loop {
            let Some(task) = lock(&tasks).pop() else {
                return Ok(());
            };
            on(doing, done.load(Ordering::Relaxed), total);
            let answer = work(&mut client, task).inspect_err(|_| lock(&tasks).clear())?;
            lock(&answers).push(answer);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..connections).map(|_| threads.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| {
                let text = "the thread of a connection ended early";
                Err(EngineError::new(ErrorKind::Query, text))
            })
        })
    })?;
    on(doing, total, total);
    Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
