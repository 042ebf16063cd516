//! A run from its trigger to its end.

use super::client::{Client, CloudError, Ended, Run, Trigger};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The waits between two looks at a run: short for a short one.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// How soon a signal is heard.
const TICK: Duration = Duration::from_millis(100);

/// How many looks at a run may fail after each other. Each is itself tried for minutes.
const BLIND: usize = 3;

/// A run that has ended.
#[derive(Debug)]
pub struct Followed {
    /// The run.
    pub run: Run,
    /// How.
    pub ended: Ended,
}

/// Triggers a job and follows the run to its end. `say` is given lines as they come; once `stop` is
/// set, the run is stopped, and its end awaited all the same: until then it writes.
///
/// # Errors
/// [`CloudError`], and with it the run's page, if there is a run by then.
pub fn follow(
    client: &Client,
    job: u64,
    trigger: &Trigger,
    stop: &AtomicBool,
    mut say: impl FnMut(&str),
) -> Result<Followed, (CloudError, Option<String>)> {
    let begun = client.trigger(job, trigger).map_err(|e| (e, None))?;
    let page = begun.href.clone();
    match &page {
        Some(page) => say(&format!("dbt Cloud run {}: {page}", begun.id)),
        None => say(&format!("dbt Cloud run {}", begun.id)),
    }
    let mut told = Told::default();
    let mut wait = FIRST;
    let mut stopped = false;
    let mut blind = 0;
    loop {
        if stop.load(Ordering::Relaxed) && !stopped {
            say("stopping it");
            client.cancel(begun.id).map_err(|e| (e, page.clone()))?;
            stopped = true;
        }
        match client.run(begun.id) {
            Ok(run) => {
                blind = 0;
                told.tell(&run, &mut say);
                if let Some(ended) = run.ended() {
                    return Ok(Followed { run, ended });
                }
            }
            Err(error) => {
                blind += 1;
                if blind == BLIND {
                    return Err((error, page));
                }
            }
        }
        let mut left = wait;
        while !left.is_zero() && (stopped || !stop.load(Ordering::Relaxed)) {
            let tick = left.min(TICK);
            std::thread::sleep(tick);
            left -= tick;
        }
        wait = (wait * 3 / 2).min(LONGEST);
    }
}

/// How much of each step's log was printed.
#[derive(Default)]
struct Told(BTreeMap<u64, usize>);

impl Told {
    fn tell(&mut self, run: &Run, say: &mut impl FnMut(&str)) {
        for step in &run.run_steps {
            let is_new = !self.0.contains_key(&step.index);
            let at = self.0.entry(step.index).or_default();
            if is_new {
                say(&format!("-- step {}: {}", step.index, step.name));
            }
            let logs = step.logs.as_deref().unwrap_or_default();
            // Whole lines; the last one may still grow.
            let new = logs.get(*at..).unwrap_or_default();
            let whole = match run.ended() {
                Some(_) => new.len(),
                None => new.rfind('\n').map_or(0, |end| end + 1),
            };
            for line in new.get(..whole).unwrap_or_default().lines() {
                say(line);
            }
            *at += whole;
        }
    }
}
