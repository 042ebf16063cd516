//! `unship pin` and `unship unpin`

use crate::cli::{Global, Pin, Unpin};
use crate::context::{Context, Workbench};
use crate::error::{CliError, CliResult, exit};
use crate::refs;
use jiff::Timestamp;
use unship_core::engine::Point;
use unship_core::event::Event;
use unship_core::ident::ReleaseId;
use unship_core::ledger::{Backend, LeaseState};

/// Keeps a release's restore point.
pub fn pin(global: &Global, args: &Pin) -> CliResult {
    let context = Context::find(global)?;
    keep(args, &context).map_err(|e| context.told(e))
}

fn keep(args: &Pin, context: &Context) -> CliResult {
    let mut bench = context.look()?;
    let release = refs::release(&bench.ledger, &args.release)?.id;
    let live = bench
        .ledger
        .history(|h| h.live(&context.env))?
        .map(|l| l.release);
    if live != Some(release) && retained(&mut bench, release)?.is_none() {
        return Err(CliError::new(
            exit::NOTHING,
            format!("{release} has no restore point to keep"),
        )
        .hint("`unship log` shows which releases have one"));
    }
    bench.ledger.append(&[Event::Pinned {
        release,
        reason: args.reason.clone(),
    }])?;
    crate::say!("{release} is pinned: its restore point stays until `unship unpin {release}`");
    let lease = bench.ledger.store().lease(&context.env)?;
    if let Some(lease) = lease.filter(|l| l.state(Timestamp::now()) == LeaseState::Held) {
        crate::say!(
            "{} is at work and may have decided before what to drop: look at `unship show {release}` \
             when it has ended",
            lease.holder
        );
    }
    Ok(exit::OK)
}

/// The point that holds a release's state, under its own name or a later one's.
pub fn retained(bench: &mut Workbench, release: ReleaseId) -> CliResult<Option<Point>> {
    let mut points = bench.engine.points().map_err(CliError::from)?;
    points.sort_by_key(|point| std::cmp::Reverse(point.release));
    let ids: Vec<_> = points.iter().map(|point| point.release).collect();
    let under = bench.session().stand_in(release, &ids)?;
    Ok(points.into_iter().find(|p| Some(p.release) == under))
}

/// Lets the retention decide again.
pub fn unpin(global: &Global, args: &Unpin) -> CliResult {
    let context = Context::find(global)?;
    let_go(args, &context).map_err(|e| context.told(e))
}

fn let_go(args: &Unpin, context: &Context) -> CliResult {
    let mut ledger = context.read()?;
    let release = refs::release(&ledger, &args.release)?;
    if !release.pinned {
        return Err(CliError::new(
            exit::NOTHING,
            format!("{} is not pinned", release.id),
        ));
    }
    ledger.append(&[Event::Unpinned {
        release: release.id,
    }])?;
    crate::say!("{} is no longer pinned", release.id);
    Ok(exit::OK)
}
