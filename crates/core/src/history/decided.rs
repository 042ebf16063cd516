//! What was decided, approved and put in quarantine, as the views have it.

use super::keys::{
    APPROVALS, BREAKER, DECISION, GLASS, JOBS, PATHS, QUARANTINE, REQUEST, REQUESTS, ROLLBACKS,
    key, keyed, numbered, read, release_key,
};
use super::{History, ShelfError};
use crate::approve::{Approval, Request};
use crate::decide::{Decision, Measured};
use crate::ident::ReleaseId;
use crate::plan::PlanId;
use crate::quarantine::Quarantine;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A decision, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// When.
    pub at: Timestamp,
    /// The decision.
    pub decision: Decision,
}

/// That a release was made without what the policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenGlass {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was passed over, each a sentence.
    pub passed: Vec<String>,
}

/// How many earlier measurements tell how long something takes: enough for a middle, and few
/// enough to follow a warehouse that grows.
const MEASUREMENTS: usize = 20;

impl History<'_> {
    /// The newest decision about a release.
    pub fn decided(&self, id: ReleaseId) -> Result<Option<Decided>, ShelfError> {
        self.load(&release_key(DECISION, id), "a decision")
    }

    /// What a release was made without, if somebody broke the glass for it.
    pub fn broken_glass(&self, id: ReleaseId) -> Result<Option<BrokenGlass>, ShelfError> {
        self.load(&release_key(GLASS, id), "a broken glass")
    }

    /// How many automatic rollbacks an environment had in the 24 hours before a moment.
    pub fn automatic(&self, env: &str, now: Timestamp) -> Result<u32, ShelfError> {
        let since = now.saturating_sub(SignedDuration::from_hours(24));
        let since = since.unwrap_or(Timestamp::MIN);
        // Newest first, and clocks may differ: an entry out of order ends nothing, 1,000 do.
        let times: Vec<Timestamp> = self.newest(key(BREAKER, env), 1_000, "the circuit breaker")?;
        let count = times.iter().filter(|at| **at > since).count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// How long the latest rollbacks and good jobs took.
    pub fn measured(&self, env: &str) -> Result<Measured, ShelfError> {
        Ok(Measured {
            rollbacks: self.newest(key(ROLLBACKS, env), MEASUREMENTS, "a rollback's time")?,
            jobs: self.newest(key(JOBS, env), MEASUREMENTS, "a job's time")?,
        })
    }

    /// Who asked for a plan first.
    pub fn request(&self, env: &str, plan: &PlanId) -> Result<Option<Request>, ShelfError> {
        self.load(&keyed(REQUEST, env, &plan.0), "a request")
    }

    /// The plans whose id begins so, of those that somebody asked approvals for.
    pub fn requests_like(&self, env: &str, digits: &str) -> Result<Vec<Request>, ShelfError> {
        let mut prefix = key(REQUEST, env);
        prefix.extend_from_slice(digits.as_bytes());
        self.0
            .scan(&prefix, &prefix, 10)?
            .iter()
            .map(|(_, value)| read(value, "a request"))
            .collect()
    }

    /// The newest plans that somebody asked approvals for.
    pub fn requests(&self, env: &str, limit: usize) -> Result<Vec<Request>, ShelfError> {
        let plans: Vec<PlanId> = self.newest(key(REQUESTS, env), limit, "a request")?;
        let mut out = Vec::new();
        for plan in plans {
            out.extend(self.request(env, &plan)?);
        }
        Ok(out)
    }

    /// All approvals of a plan, whether they count or not, the oldest first.
    pub fn approvals(&self, plan: &PlanId) -> Result<Vec<Approval>, ShelfError> {
        self.all(&keyed(APPROVALS, "", &plan.0), "an approval")
    }

    /// The paths that were approved in an environment, expired ones included, the oldest first.
    pub fn paths(&self, env: &str) -> Result<Vec<Approval>, ShelfError> {
        self.all(&key(PATHS, env), "an approved path")
    }

    /// The commits that must not run in an environment.
    pub fn quarantine(&self, env: &str) -> Result<Vec<Quarantine>, ShelfError> {
        self.all(&key(QUARANTINE, env), "a quarantine")
    }

    fn all<T: DeserializeOwned>(&self, prefix: &[u8], what: &str) -> Result<Vec<T>, ShelfError> {
        self.0
            .scan(prefix, prefix, usize::MAX)?
            .iter()
            .map(|(_, value)| read(value, what))
            .collect()
    }

    fn newest<T: DeserializeOwned>(
        &self,
        prefix: Vec<u8>,
        limit: usize,
        what: &str,
    ) -> Result<Vec<T>, ShelfError> {
        let end = numbered(prefix.clone(), u64::MAX);
        self.0
            .scan_back(&prefix, &end, limit)?
            .iter()
            .map(|(_, value)| read(value, what))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::ledger::{BlobRef, SqliteLedger};
    use crate::log::Ledger;
    use crate::release::{Operation, Stage};
    use std::collections::{BTreeMap, BTreeSet};

    fn ledger(dir: &std::path::Path) -> Ledger {
        let store = SqliteLedger::create(&dir.join("l"), Ledger::views()).unwrap();
        Ledger::new(store, "prod", "ana@laptop")
    }

    #[test]
    fn only_the_first_who_asks_for_a_plan_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger(dir.path());
        let blob = BlobRef(ledger.put_blob(b"a plan", "plan").unwrap());
        let plan = PlanId("ab12".repeat(16));
        let asked = |signer: &str| Event::ApprovalAsked {
            plan: plan.clone(),
            blob,
            signer: Some(signer.to_owned()),
        };
        ledger.append(&[asked("ana"), asked("lea")]).unwrap();
        let found = ledger.history(|h| h.requests_like("prod", "ab12")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].signer.as_deref(), Some("ana"));
        assert_eq!(found[0].actor, "ana@laptop");
        let none = ledger.history(|h| h.requests_like("prod", "ab13")).unwrap();
        assert_eq!(none, []);
        let elsewhere = ledger.history(|h| h.requests("staging", 10)).unwrap();
        assert_eq!(elsewhere, []);
    }

    #[test]
    fn automatic_rollbacks_count_for_24_hours_and_quarantine_until_it_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger(dir.path());
        let release = ReleaseId(3);
        let held = |commit: &str| Event::Quarantined {
            commit: commit.to_owned(),
            release,
            by: ReleaseId(4),
            blamed: BTreeSet::new(),
        };
        let rule = "critical".to_owned();
        let rolled_back = Event::RolledBackByPolicy { release, rule };
        let lifted = Event::QuarantineLifted {
            commit: "c1".to_owned(),
            reason: "fixed by hand".to_owned(),
        };
        ledger
            .append(&[rolled_back.clone(), held("c1"), held("c2"), lifted])
            .unwrap();
        ledger.append(&[rolled_back]).unwrap();
        let now = Timestamp::now();
        let count = |now| ledger.history(|h| h.automatic("prod", now)).unwrap();
        assert_eq!(count(now), 2);
        assert_eq!(count(now + SignedDuration::from_hours(25)), 0);
        let still = ledger.history(|h| h.quarantine("prod")).unwrap();
        assert_eq!(still.len(), 1);
        assert_eq!(still[0].commit, "c2");
        let elsewhere = ledger.history(|h| h.quarantine("dev")).unwrap();
        assert_eq!(elsewhere, []);
    }

    #[test]
    fn what_rollbacks_took_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger(dir.path());
        let opened = |release, operation, parent| Event::ReleaseOpened {
            release,
            operation,
            parent,
            job: None,
            code: None,
        };
        let published = |release| Event::ReleasePublished {
            release,
            changes: BTreeMap::new(),
            mark: String::new(),
            moved: BTreeMap::new(),
        };
        let (zero, one) = (ReleaseId(0), ReleaseId(1));
        ledger
            .append(&[opened(zero, Operation::Adopt, None), published(zero)])
            .unwrap();
        let back = Operation::Rollback {
            to: zero,
            select: None,
            rows: None,
            stage: None,
        };
        ledger.append(&[opened(one, back, Some(zero))]).unwrap();
        ledger.append(&[published(one)]).unwrap();
        let measured = ledger.history(|h| h.measured("prod")).unwrap();
        assert_eq!(measured.rollbacks.len(), 1, "adopting is no rollback");
        let release = ledger.history(|h| h.release(one)).unwrap().unwrap();
        assert_eq!(release.stage, Stage::Published);
    }
}
