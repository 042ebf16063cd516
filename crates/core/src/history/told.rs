//! Incidents and notices: their fold, and how they are read.

use super::fold::Fold;
use super::keys::{
    INCIDENT, INCIDENT_OF, INCIDENT_STORY, INCIDENTS, INCIDENTS_OPEN, NOTICE, NOTICES_OPEN, STORY,
    key, number_at_end, numbered, read, write,
};
use super::{History, ShelfError};
use crate::event::Event;
use crate::ident::ReleaseId;
use crate::incident::{Incident, IncidentId, Review, Stamp};
use crate::notice::{Delivery, Outgoing};
use crate::release::{Operation, Release};

fn id_key(table: u8, id: u64) -> Vec<u8> {
    numbered(vec![table], id)
}

fn notice_key(table: u8, env: &str, name: &str) -> Vec<u8> {
    let mut key = key(table, env);
    key.extend_from_slice(name.as_bytes());
    key
}

impl History<'_> {
    /// An incident.
    pub fn incident(&self, id: IncidentId) -> Result<Option<Incident>, ShelfError> {
        self.load(&id_key(INCIDENT, id.0), "an incident")
    }

    /// The incident that a release has, if any.
    pub fn incident_of(&self, release: ReleaseId) -> Result<Option<Incident>, ShelfError> {
        let id: Option<IncidentId> =
            self.load(&id_key(INCIDENT_OF, release.0), "a release's incident")?;
        id.map_or(Ok(None), |id| self.incident(id))
    }

    fn next_incident(&self) -> Result<IncidentId, ShelfError> {
        let last = self.0.last_below(&[INCIDENT], &[INCIDENT + 1])?;
        let last = last.and_then(|(key, _)| number_at_end(&key)).unwrap_or(0);
        Ok(IncidentId(last + 1))
    }

    /// Incidents of an environment, the newest first.
    pub fn incidents(&self, env: &str, limit: usize) -> Result<Vec<Incident>, ShelfError> {
        self.incidents_in(INCIDENTS, env, limit)
    }

    /// Those that are not closed, the newest first.
    pub fn open_incidents(&self, env: &str) -> Result<Vec<Incident>, ShelfError> {
        self.incidents_in(INCIDENTS_OPEN, env, usize::MAX)
    }

    fn incidents_in(
        &self,
        table: u8,
        env: &str,
        limit: usize,
    ) -> Result<Vec<Incident>, ShelfError> {
        let prefix = key(table, env);
        let mut end = prefix.clone();
        end.extend_from_slice(&[0xff; 9]);
        let mut out = Vec::new();
        for (key, _) in self.0.scan_back(&prefix, &end, limit)? {
            if let Some(id) = number_at_end(&key) {
                out.extend(self.incident(IncidentId(id))?);
            }
        }
        Ok(out)
    }

    /// Where in the log a release's story stands: what was done and decided about it.
    pub fn story(&self, release: ReleaseId) -> Result<Vec<u64>, ShelfError> {
        self.places(&id_key(STORY, release.0))
    }

    /// Where in the log an incident's own entries stand.
    pub fn incident_story(&self, id: IncidentId) -> Result<Vec<u64>, ShelfError> {
        self.places(&id_key(INCIDENT_STORY, id.0))
    }

    fn places(&self, prefix: &[u8]) -> Result<Vec<u64>, ShelfError> {
        let pairs = self.0.scan(prefix, prefix, usize::MAX)?;
        Ok(pairs
            .iter()
            .filter_map(|(key, _)| number_at_end(key))
            .collect())
    }

    /// A notice.
    pub fn notice(&self, env: &str, name: &str) -> Result<Option<Outgoing>, ShelfError> {
        self.load(&notice_key(NOTICE, env, name), "a notice")
    }

    /// All notices of an environment, by their keys.
    pub fn notices(&self, env: &str) -> Result<Vec<Outgoing>, ShelfError> {
        let prefix = key(NOTICE, env);
        let pairs = self.0.scan(&prefix, &prefix, usize::MAX)?;
        let one = |(_, value): &super::Pair| read(value, "a notice");
        pairs.iter().map(one).collect()
    }

    /// Those that are to be sent still, in the order in which they were queued.
    pub fn unsent(&self, env: &str) -> Result<Vec<Outgoing>, ShelfError> {
        let prefix = key(NOTICES_OPEN, env);
        let mut out = Vec::new();
        for (key, _) in self.0.scan(&prefix, &prefix, usize::MAX)? {
            let name = key.get(prefix.len()..).unwrap_or_default();
            out.extend(self.notice(env, &String::from_utf8_lossy(name))?);
        }
        out.sort_by_key(|o: &Outgoing| o.queued);
        Ok(out)
    }
}

impl Fold<'_> {
    /// Remembers where a release's story stands.
    pub(super) fn place(&mut self, event: &Event) -> Result<(), ShelfError> {
        let release = match (event.story_of(), event.step_of()) {
            (Some(release), _) => Some(release),
            (None, Some(_)) => self.history(|h| h.open(self.env))?.map(|open| open.release),
            (None, None) => None,
        };
        match release {
            Some(release) => {
                let at = numbered(id_key(STORY, release.0), self.seq);
                self.shelf.put(&at, b"")
            }
            None => Ok(()),
        }
    }

    /// Folds what concerns incidents and notices. It comes after all else, so that releases are what
    /// the entry made of them.
    pub(super) fn told(&mut self, actor: &str, event: &Event) -> Result<(), ShelfError> {
        match event {
            Event::IncidentOpened { release, opening } => {
                if self.history(|h| h.incident_of(*release))?.is_some() {
                    return Ok(());
                }
                let incident = self.history(|h| h.next_incident())?;
                let back = match opening.rollback {
                    Some(id) => self.history(|h| h.release(id))?,
                    None => None,
                };
                let restored = match (&back, opening.reached_production) {
                    (Some(back), _) => back.closed,
                    (None, false) => Some(self.at),
                    (None, true) => None,
                };
                let new = Incident {
                    id: incident,
                    env: self.env.to_owned(),
                    release: *release,
                    opened: self.stamp(actor),
                    opening: (**opening).clone(),
                    acknowledged: None,
                    operations: opening.rollback.into_iter().collect(),
                    restored,
                    reviews: Vec::new(),
                    closed: None,
                    closing: None,
                };
                write(self.shelf, &id_key(INCIDENT_OF, release.0), &incident)?;
                let listed = numbered(key(INCIDENTS, self.env), incident.0);
                self.shelf.put(&listed, b"")?;
                let open = numbered(key(INCIDENTS_OPEN, self.env), incident.0);
                self.shelf.put(&open, b"")?;
                self.remember(incident)?;
                write(self.shelf, &id_key(INCIDENT, incident.0), &new)
            }
            Event::IncidentNoted { incident, .. } => self.incident(*incident, |_, _| {}),
            Event::IncidentAcknowledged { incident } => {
                let stamp = self.stamp(actor);
                self.incident(*incident, |i, _| {
                    i.acknowledged.get_or_insert(stamp);
                })
            }
            Event::ReviewAsked { incident, because } => self.incident(*incident, |i, _| {
                i.reviews.push(Review {
                    because: because.clone(),
                    came_to: None,
                    done: None,
                });
            }),
            Event::IncidentReviewed { incident, review } => {
                let stamp = self.stamp(actor);
                self.incident(*incident, |i, _| {
                    for open in i.reviews.iter_mut().filter(|r| r.done.is_none()) {
                        open.came_to = Some(review.clone());
                        open.done = Some(stamp.clone());
                    }
                })
            }
            Event::IncidentClosed { incident, closing } => {
                let stamp = self.stamp(actor);
                self.incident(*incident, |i, _| {
                    i.closed = Some(stamp);
                    i.closing = Some((**closing).clone());
                })?;
                let open = numbered(key(INCIDENTS_OPEN, self.env), incident.0);
                self.shelf.delete(&open)
            }
            Event::ReleasePublished { release, .. } => {
                match self.history(|h| h.release(*release))? {
                    Some(release) => self.moved_production(&release),
                    None => Ok(()),
                }
            }
            Event::NoticeQueued { notice } => {
                let at = notice_key(NOTICE, self.env, &notice.key);
                // The same thing is told once, however often it is asked for.
                if self.shelf.get(&at)?.is_some() {
                    return Ok(());
                }
                let new = Outgoing {
                    notice: (**notice).clone(),
                    queued: self.at,
                    delivery: Delivery::Queued,
                    attempts: 0,
                    tried: None,
                    error: None,
                };
                if let Some(incident) = notice.incident {
                    self.remember(incident)?;
                }
                let open = notice_key(NOTICES_OPEN, self.env, &notice.key);
                self.shelf.put(&open, b"")?;
                write(self.shelf, &at, &new)
            }
            Event::NoticeSending { key } => {
                let at = self.at;
                self.notice(key, |o| {
                    o.delivery = Delivery::Sending;
                    o.tried = Some(at);
                })
            }
            Event::NoticeSent { key, attempts } => self.notice(key, |o| {
                o.delivery = Delivery::Sent;
                o.attempts = *attempts;
            }),
            Event::NoticeFailed {
                key,
                attempts,
                error,
                given_up,
            } => {
                let at = self.at;
                self.notice(key, |o| {
                    o.delivery = match given_up {
                        true => Delivery::GivenUp,
                        false => Delivery::Failed,
                    };
                    o.attempts = *attempts;
                    o.tried = Some(at);
                    o.error = Some(error.clone());
                })
            }
            _ => Ok(()),
        }
    }

    fn stamp(&self, actor: &str) -> Stamp {
        Stamp {
            at: self.at,
            by: actor.to_owned(),
        }
    }

    fn remember(&mut self, id: IncidentId) -> Result<(), ShelfError> {
        let at = numbered(id_key(INCIDENT_STORY, id.0), self.seq);
        self.shelf.put(&at, b"")
    }

    fn incident(
        &mut self,
        id: IncidentId,
        edit: impl FnOnce(&mut Incident, &Self),
    ) -> Result<(), ShelfError> {
        let Some(mut incident) = self.history(|h| h.incident(id))? else {
            return self.story(format!("there is no {id}"));
        };
        edit(&mut incident, self);
        self.remember(id)?;
        write(self.shelf, &id_key(INCIDENT, id.0), &incident)
    }

    fn notice(&mut self, name: &str, edit: impl FnOnce(&mut Outgoing)) -> Result<(), ShelfError> {
        let Some(mut outgoing) = self.history(|h| h.notice(self.env, name))? else {
            return self.story(format!("there is no notice {name}"));
        };
        edit(&mut outgoing);
        if let Some(incident) = outgoing.notice.incident {
            self.remember(incident)?;
        }
        if matches!(outgoing.delivery, Delivery::Sent | Delivery::GivenUp) {
            let open = notice_key(NOTICES_OPEN, self.env, name);
            self.shelf.delete(&open)?;
        }
        write(self.shelf, &notice_key(NOTICE, self.env, name), &outgoing)
    }

    /// Leaving the state of a release that has an incident, or going back to before it, ends the harm;
    /// bringing it back begins it again.
    fn moved_production(&mut self, release: &Release) -> Result<(), ShelfError> {
        let Some(to) = release.operation.target() else {
            return Ok(());
        };
        // In the middle of a rollback in stages production is neither here nor there.
        if release.operation.stage().is_some_and(|s| s.is_between()) {
            return Ok(());
        }
        let before = match self.history(|h| h.left_by(release))? {
            Some(parent) => self.history(|h| h.release(parent))?.map(|r| r.origin),
            None => None,
        };
        let forward = matches!(release.operation, Operation::Redo { .. });
        for mut incident in self.history(|h| h.open_incidents(self.env))? {
            let bad = incident.release;
            let returns = release.origin == bad;
            let below = !forward && to < bad && Some(bad) <= release.parent;
            let leaves = !returns && (before == Some(bad) || below);
            if !(leaves || returns) || !incident.opening.reached_production {
                continue;
            }
            // It is gone already, and what is left now is another one.
            if leaves && incident.restored.is_some() {
                continue;
            }
            incident.operations.push(release.id);
            incident.restored = leaves.then_some(self.at);
            write(self.shelf, &id_key(INCIDENT, incident.id.0), &incident)?;
        }
        Ok(())
    }
}
