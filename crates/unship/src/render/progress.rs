//! Progress: what an operation tells while it runs. Everything goes to standard error, so that
//! standard output stays what was asked for.

use crate::render::text::{self, DIM};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use unship_core::execute::{Notice, Watch};
use unship_core::journal::Mark;

/// Work that takes less than this is over before a bar would help.
const PATIENCE: Duration = Duration::from_secs(1);

/// A person at a terminal, or a log.
pub struct Terminal {
    bar: ProgressBar,
    quiet: bool,
    phase: Mutex<Phase>,
}

struct Phase {
    name: String,
    since: Instant,
}

impl Terminal {
    /// Bars appear only on a terminal; with `json` nothing is told.
    pub fn new(json: bool) -> Self {
        let bar = ProgressBar::new(0);
        let shown = !json && std::io::stderr().is_terminal();
        bar.set_draw_target(if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        if let Ok(style) = ProgressStyle::with_template("  {msg} {wide_bar} {percent}% {eta}") {
            bar.set_style(style);
        }
        let phase = Phase {
            name: String::new(),
            since: Instant::now(),
        };
        Self {
            bar,
            quiet: json,
            phase: Mutex::new(phase),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| crate::say_aside!("{line}"));
        }
    }
}

impl Watch for Terminal {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            Notice::Phase(name) => {
                if let Ok(mut phase) = self.phase.lock() {
                    name.clone_into(&mut phase.name);
                    phase.since = Instant::now();
                }
                self.bar.reset();
                self.line(&text::paint(DIM, format!("unship: {name}")));
            }
            Notice::Progress(what, done, total) => {
                let Ok(phase) = self.phase.lock() else { return };
                if phase.since.elapsed() < PATIENCE {
                    return;
                }
                self.bar.set_length(total);
                self.bar.set_position(done);
                self.bar.set_message(format!("{what} ({})", phase.name));
            }
            Notice::Step(step, Mark::Succeeded) if step.production => {
                self.line(&text::paint(DIM, format!("unship: done: {}", step.explain)));
            }
            Notice::Step(step, Mark::Failed) => {
                self.line(&text::paint(
                    text::WARN,
                    format!("unship: failed: {}", step.explain),
                ));
            }
            Notice::Step(step, Mark::UndoFinished) => {
                self.line(&text::paint(
                    text::WARN,
                    format!("unship: taken back: {}", step.explain),
                ));
            }
            Notice::Step(..) => {}
            Notice::Note(note) => self.line(&format!("unship: {note}")),
        }
    }
}
