//! Publishing and going back, again and again, beside those who write to the same tables.

use super::support::{Output, Scratch};
use std::fmt;

/// A lake whose tables `left` and `right` are built together, and `orders`, to which others keep
/// adding rows.
pub trait Lakeside {
    fn scratch(&self) -> &Scratch;
    /// A job on production itself: it writes a number to the pair, and a row to the orders.
    fn in_place(&self, n: i64) -> Output;
    /// A job on branches that writes a number to the pair.
    fn aside(&self, n: i64) -> Output;
    /// A job on branches that writes to the orders besides.
    fn aside_with_orders(&self, n: i64) -> Output;
    /// The numbers of the pair.
    fn pair(&self) -> [i64; 2];
    /// While a job works on production itself, a reader sees its halves: that is no doing of unship's.
    fn at_work(&self, _working: bool) {}
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    in_place: usize,
    aside: usize,
    back: usize,
    forth: usize,
    /// Production was as it was, and the same was asked for once more.
    refused: usize,
    /// Builds aside that others had overtaken: nothing of them was published.
    overtaken: usize,
    /// Plans that were made anew because somebody was faster.
    anew: usize,
    /// Moves after which others had written again before the proof looked.
    written_since: usize,
}

impl Tally {
    pub fn rounds(&self) -> usize {
        self.in_place + self.aside + self.back + self.forth
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} publishes ({} in place, {} aside), {} back, {} forth; {} planned anew, {} refused and \
             asked again, {} builds overtaken, {} written to again before they were proved",
            self.in_place + self.aside,
            self.in_place,
            self.aside,
            self.back,
            self.forth,
            self.anew,
            self.refused,
            self.overtaken,
            self.written_since
        )
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    InPlace,
    Aside,
    AsideWithOrders,
    Back(&'static str),
    Forth(&'static str),
}

const STEPS: [Step; 9] = [
    Step::InPlace,
    Step::Back("rollback"),
    Step::Forth("undo"),
    Step::Aside,
    Step::Back("undo"),
    Step::Forth("redo"),
    Step::AsideWithOrders,
    Step::Back("undo"),
    Step::Forth("redo"),
];

/// How often one step is asked for before it is a defect that it is refused.
const PATIENCE: usize = 30;

/// Publishes and goes back and forth this often, and up to four times as often until enough was seen.
#[track_caller]
pub fn play(lake: &impl Lakeside, rounds: usize, enough: impl Fn() -> bool) -> Tally {
    let mut tally = Tally::default();
    let mut live = lake.pair()[0];
    let (mut next, mut other) = (live, live);
    'all: for cycle in 0..rounds * PATIENCE {
        let mut published = false;
        for step in STEPS {
            let done = tally.rounds();
            if done >= rounds && (enough() || done >= 4 * rounds) {
                break 'all;
            }
            next += 1;
            match step {
                Step::Back(word) | Step::Forth(word) => {
                    // What was not published cannot be taken back.
                    if !published {
                        continue;
                    }
                    go(lake, &mut tally, word);
                    std::mem::swap(&mut live, &mut other);
                    match step {
                        Step::Back(_) => tally.back += 1,
                        _ => tally.forth += 1,
                    }
                }
                _ => {
                    published = publish(lake, &mut tally, step, next);
                    if published {
                        other = live;
                        live = next;
                    }
                }
            }
        }
        assert_eq!(lake.pair(), [live, live], "after cycle {cycle}: {tally}");
    }
    assert_eq!(lake.pair(), [live, live], "at the end: {tally}");
    tally
}

/// Whether a job's work is production now.
#[track_caller]
fn publish(lake: &impl Lakeside, tally: &mut Tally, step: Step, n: i64) -> bool {
    let out = match step {
        Step::InPlace => {
            lake.at_work(true);
            let out = lake.in_place(n);
            lake.at_work(false);
            out
        }
        Step::Aside => lake.aside(n),
        _ => lake.aside_with_orders(n),
    };
    tally.anew += anew(&out);
    match step {
        Step::InPlace => {
            out.says(0, &["is production"]);
            tally.in_place += 1;
        }
        Step::AsideWithOrders if out.code == 73 => {
            out.says(73, &["orders"]);
            tally.overtaken += 1;
            return false;
        }
        // A catalog may refuse the job itself, whose snapshot's number others have just taken.
        Step::AsideWithOrders if out.stderr.contains("older than last sequence number") => {
            out.says(1, &["never became production"]);
            tally.overtaken += 1;
            return false;
        }
        _ => {
            out.says(0, &["is production"]);
            tally.aside += 1;
        }
    }
    true
}

#[track_caller]
fn go(lake: &impl Lakeside, tally: &mut Tally, word: &str) {
    for _ in 0..PATIENCE {
        let out = lake.scratch().unship(&[word, "--others", "set-aside"]);
        tally.anew += anew(&out);
        match out.code {
            0 => return,
            // Others may have committed again before the proof looked: that is told, too.
            74 => {
                tally.written_since += 1;
                return;
            }
            // Others were faster: production is as it was, and the next plan sees them.
            _ => out.says(out.code, &["production"]),
        }
        tally.refused += 1;
    }
    panic!("{word} was refused {PATIENCE} times: {tally}");
}

fn anew(out: &Output) -> usize {
    out.stderr.matches("planning anew").count()
}
