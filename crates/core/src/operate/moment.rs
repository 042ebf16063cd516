//! Moments between releases, of tables that are written where they stand.

use super::{OperateError, Session};
use crate::ident::ReleaseId;
use crate::relation::RelationState;
use crate::release::{Operation, Stage, Version, VersionId};
use crate::restore::Map;
use jiff::Timestamp;

impl Session<'_> {
    /// The newest release that was production at a moment.
    pub(super) fn newest_at(&self, at: Timestamp) -> Result<ReleaseId, OperateError> {
        let env = self.ledger.env();
        let mut before = None;
        loop {
            let page = self.ledger.history(|h| h.releases(env, before, 100))?;
            let Some(last) = page.last() else {
                return Err(OperateError::NothingThen(at));
            };
            before = Some(last.id);
            let was = page.iter().find(|release| {
                release.stage == Stage::Published && release.closed.is_some_and(|then| then <= at)
            });
            if let Some(release) = was {
                return Ok(release.id);
            }
        }
    }

    /// Puts what tables with an undo log were at a moment, or when a writer had written nothing since
    /// a release, into the map that is wanted. Gives what is and what is not covered, each a sentence.
    pub(super) fn at_moment(
        &mut self,
        release: ReleaseId,
        at: Option<Timestamp>,
        operation: &Operation,
        live: &Map,
        wanted: &mut Map,
    ) -> Result<Vec<String>, OperateError> {
        let to = operation.target().unwrap_or(release);
        let by = operation.writer();
        if by.is_some() {
            // Only what the writer wrote is taken back, and that only where it can be told.
            wanted.clone_from(live);
        }
        let since = self.ledger.history(|h| h.published_map(to))?;
        let since = since.unwrap_or_default();
        let moments = self.engine.moments(at, by)?;
        let mut said = Vec::new();
        for (name, why) in &moments.uncovered {
            said.push(format!("{name} is not covered: it {why}"));
        }
        for (name, then) in moments.relations {
            let Some(now) = live.get(&name) else { continue };
            let Some(state) = &now.state else { continue };
            // A moment says where it is; a writer's changes are counted from the release on.
            let storage = match (at, since.get(&name).and_then(|v| v.state.as_ref())) {
                (Some(_), _) => Some(then.storage),
                (None, Some(state)) => state.storage.clone(),
                (None, None) => None,
            };
            let same = by.is_none() && storage == state.storage;
            if storage.is_none() || same {
                continue;
            }
            if at.is_some() {
                said.push(match then.last {
                    Some(last) => format!("{name} goes back to where it was after {last}"),
                    None => format!("{name} goes back to before its first recorded change"),
                });
            }
            let state = RelationState {
                storage,
                rows: None,
                fingerprint: None,
                ..state.clone()
            };
            let id = VersionId { release, drift: 0 };
            let version = Version {
                id,
                owned: true,
                state: Some(state),
            };
            wanted.insert(name, version);
        }
        if at.is_some() {
            said.push(format!(
                "what has no undo log goes back to {to}, the newest release of that moment"
            ));
        }
        Ok(said)
    }
}
