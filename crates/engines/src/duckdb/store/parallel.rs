//! Work spread over a few threads, in file order.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

/// More threads than this would only wait for memory or for the disk.
const MAX_THREADS: usize = 8;

/// Does `work` for every number below `count` and returns the results in order.
///
/// Numbers are handed out rising, so that a file is read nearly front to back, which is what a cold
/// disk likes. Every thread has a `state` of its own (buffers), so memory is bounded by the number
/// of threads. The first error stops the others at their next number. `done` hears how many are
/// finished; it is called on the calling thread only and so needs no lock.
pub(super) fn in_order<S, R: Send, E: Send>(
    count: u64,
    state: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, u64) -> Result<R, E> + Sync,
    done: &dyn Fn(u64),
) -> Result<Vec<R>, E> {
    let next = AtomicU64::new(0);
    let finished = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let run = |done: Option<&dyn Fn(u64)>| -> Result<Vec<(u64, R)>, E> {
        let mut state = state().inspect_err(|_| failed.store(true, Relaxed))?;
        let mut results = Vec::new();
        while !failed.load(Relaxed) {
            let number = next.fetch_add(1, Relaxed);
            if number >= count {
                break;
            }
            let result = work(&mut state, number).inspect_err(|_| failed.store(true, Relaxed))?;
            results.push((number, result));
            let finished = finished.fetch_add(1, Relaxed) + 1;
            if let Some(done) = done {
                done(finished);
            }
        }
        Ok(results)
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, MAX_THREADS)
        .min(usize::try_from(count).unwrap_or(MAX_THREADS));
    let mut results = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| run(None))).collect();
        let mut all = run(Some(done));
        for other in others {
            let theirs = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            all = all.and_then(|mut mine| {
                mine.extend(theirs?);
                Ok(mine)
            });
        }
        all
    })?;
    results.sort_unstable_by_key(|(number, _)| *number);
    done(count);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn results_come_in_order_and_progress_ends_at_the_total() {
        let last = Cell::new(0);
        let squares = in_order(1000, || Ok::<_, ()>(()), |(), n| Ok(n * n), &|n| {
            last.set(n)
        });
        assert_eq!(
            squares.unwrap(),
            (0..1000).map(|n| n * n).collect::<Vec<_>>()
        );
        assert_eq!(last.get(), 1000);
    }

    #[test]
    fn one_failure_is_the_answer() {
        let answer = in_order(
            1000,
            || Ok(()),
            |(), n| if n == 500 { Err(n) } else { Ok(n) },
            &|_| {},
        );
        assert_eq!(answer, Err(500));
    }
}
