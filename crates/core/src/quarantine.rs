//! Quarantine: code that built a release which was rolled back must not build the next one as if
//! nothing had happened.

use crate::event::Event;
use crate::ident::{RelationName, ReleaseId};
use crate::release::{Code, Release};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A commit in quarantine, in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The commit.
    pub commit: String,
    /// The release that it built.
    pub release: ReleaseId,
    /// The release that took it back.
    pub by: ReleaseId,
    /// What it is blamed for: code that builds one of these otherwise is other code.
    pub blamed: BTreeSet<RelationName>,
    /// Since when.
    pub since: Timestamp,
}

/// What a rollback says of the code that built a release.
///
/// Nothing where the code is not known for certain: no repository, or uncommitted changes, whose
/// commit is not what ran. Nothing either where the release gone back to ran the same commit: what
/// went wrong then came with the data, and holding the code back would keep good data out as well.
pub fn of(
    bad: &Release,
    gone_back_to: Option<&Code>,
    by: ReleaseId,
    blamed: &BTreeSet<RelationName>,
) -> Option<Event> {
    let code = bad.code.as_ref().filter(|code| !code.dirty)?;
    if gone_back_to.is_some_and(|good| good.commit == code.commit && !good.dirty) {
        return None;
    }
    Some(Event::Quarantined {
        commit: code.commit.clone(),
        release: bad.id,
        by,
        blamed: blamed.clone(),
    })
}

/// What bringing a release back says of the code that built it.
pub fn lifted(good_again: &Release, by: ReleaseId) -> Option<Event> {
    let code = good_again.code.as_ref().filter(|code| !code.dirty)?;
    Some(Event::QuarantineLifted {
        commit: code.commit.clone(),
        reason: format!("{} was brought back by {by}", good_again.id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Operation, Stage, Verdict};

    fn code(commit: &str, dirty: bool) -> Code {
        Code {
            commit: commit.to_owned(),
            branch: None,
            author: "Ana".to_owned(),
            subject: "x".to_owned(),
            dirty,
            diff: None,
            directory: None,
        }
    }

    fn release(code: Option<Code>) -> Release {
        Release {
            id: ReleaseId(3),
            env: "prod".to_owned(),
            operation: Operation::Adopt,
            parent: None,
            origin: ReleaseId(3),
            opened: Timestamp::UNIX_EPOCH,
            closed: None,
            actor: "ana@laptop".to_owned(),
            stage: Stage::Published,
            verdict: Verdict::Bad,
            reason: None,
            job: None,
            end: None,
            code,
            changed: 1,
            pinned: false,
            statements: None,
        }
    }

    #[test]
    fn only_code_that_is_known_and_is_not_that_of_the_good_release_is_held() {
        let held = |bad: Option<Code>, good: Option<Code>| {
            let none = BTreeSet::new();
            of(&release(bad), good.as_ref(), ReleaseId(4), &none).is_some()
        };
        let (a, b) = (code("a", false), code("b", false));
        assert!(held(Some(a.clone()), Some(b)));
        assert!(held(Some(a.clone()), None));
        assert!(held(Some(a.clone()), Some(code("a", true))), "not what ran");
        assert!(!held(Some(a.clone()), Some(a)), "the data was bad");
        assert!(!held(Some(code("a", true)), None));
        assert!(!held(None, None));
    }
}
