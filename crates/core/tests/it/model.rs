//! What operations should do, said as simply as possible: full copies of every state, no engine, no
//! log, no plan.

use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::release::Verdict;
use unship_core::testing::{Contents, Table, Write};

/// What is known of one relation. `stamp` is another for every version that was ever noticed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    pub table: Option<Table>,
    pub stamp: u64,
    pub owned: bool,
    pub drifted: bool,
}

impl Known {
    fn stamp(&self) -> Option<u64> {
        self.table.as_ref().map(|_| self.stamp)
    }
}

pub type State = BTreeMap<RelationName, Known>;

/// One release.
#[derive(Debug, Clone)]
pub struct Release {
    pub origin: ReleaseId,
    pub verdict: Verdict,
    /// Whether it is bad only because it was rolled back.
    pub taken: bool,
    /// Its state when it was last live; `None` if it never was.
    pub state: Option<State>,
    pub pinned: bool,
}

/// What an ask to go back should end in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    NothingLive,
    NothingToDo,
    NothingSelected,
    NeverLive,
    NoSuchRelease,
    NoUndo,
    NoRedo,
    NoTarget,
    OthersWrote(BTreeSet<RelationName>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Going {
    Rollback {
        to: Option<ReleaseId>,
        only: Option<BTreeSet<RelationName>>,
    },
    Undo,
    Redo,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub production: Contents,
    /// What was last noticed of production.
    pub known: State,
    pub releases: Vec<Release>,
    pub live: Option<ReleaseId>,
    /// Releases whose states undo and redo move along.
    pub stack: Vec<ReleaseId>,
    pub cursor: usize,
    pub taken: Option<ReleaseId>,
    stamps: u64,
}

impl Model {
    pub fn next(&self) -> ReleaseId {
        ReleaseId(self.releases.len() as u64)
    }

    fn release(&self, id: ReleaseId) -> Option<&Release> {
        self.releases.get(usize::try_from(id.0).unwrap())
    }

    /// Whether a release, when it was last live, had this version of a relation.
    pub fn holds(&self, id: ReleaseId, name: &RelationName, known: &Known) -> bool {
        let state = self.release(id).and_then(|r| r.state.as_ref());
        state.and_then(|s| s.get(name)?.stamp()) == known.stamp()
    }

    fn release_mut(&mut self, id: ReleaseId) -> &mut Release {
        self.releases
            .get_mut(usize::try_from(id.0).unwrap())
            .unwrap()
    }

    /// Notices what differs in production; says which relations.
    fn notice(&mut self, owns: impl Fn(&RelationName, bool) -> bool, drift: bool) {
        let names: BTreeSet<_> = self
            .known
            .keys()
            .chain(self.production.keys())
            .cloned()
            .collect();
        for name in names {
            let known = self.known.entry(name.clone()).or_default();
            let now = self.production.get(&name).cloned();
            let changed = known.table != now;
            let owned = known.owned || owns(&name, changed);
            if changed || (owned && !known.owned) {
                self.stamps += 1;
                *known = Known {
                    table: now,
                    stamp: self.stamps,
                    owned,
                    drifted: drift,
                };
            }
        }
    }

    /// The first look, or another look at what others wrote.
    pub fn look(&mut self) {
        if self.live.is_none() {
            self.notice(|_, _| false, false);
            self.publish(None);
        } else {
            self.notice(|_, _| false, true);
        }
    }

    /// A new release is live, with what is known now.
    fn publish(&mut self, going: Option<&Going>) {
        let id = self.next();
        let (origin, before) = (id, self.live);
        self.releases.push(Release {
            origin,
            verdict: Verdict::Good,
            taken: false,
            state: None,
            pinned: false,
        });
        match going {
            Some(Going::Undo) => self.cursor -= 1,
            Some(Going::Redo) if self.cursor + 1 < self.stack.len() => self.cursor += 1,
            _ => {
                self.stack.truncate(self.cursor + 1);
                self.stack.push(id);
                self.cursor = self.stack.len() - 1;
            }
        }
        self.stack[self.cursor] = id;
        self.taken = match going {
            Some(Going::Rollback { .. }) => before,
            _ => None,
        };
        self.live = Some(id);
        self.save();
    }

    /// What is live now has the state that is known now.
    pub fn save(&mut self) {
        if let Some(live) = self.live {
            let state = self.known.clone();
            self.release_mut(live).state = Some(state);
        }
    }

    pub fn abandoned(&mut self) {
        let origin = self.next();
        self.releases.push(Release {
            origin,
            verdict: Verdict::Bad,
            taken: false,
            state: None,
            pinned: false,
        });
    }

    /// A job that became production, or worked on it.
    pub fn ran(&mut self, writes: &[Write], built: &BTreeSet<RelationName>, good: bool) {
        for write in writes {
            write.apply(&mut self.production);
        }
        let production = self.production.clone();
        self.notice(
            |name, changed| changed || (built.contains(name) && production.contains_key(name)),
            false,
        );
        self.publish(None);
        if !good {
            let id = self.live.unwrap();
            self.release_mut(id).verdict = Verdict::Bad;
        }
    }

    /// Whether something that jobs own is not what it was then.
    fn differ(now: &State, then: &State) -> bool {
        let missing = Known::default();
        now.keys().chain(then.keys()).any(|name| {
            let now = now.get(name).unwrap_or(&missing);
            let then = then.get(name).unwrap_or(&missing);
            (now.owned || then.owned) && now.stamp() != then.stamp()
        })
    }

    fn target(&self, going: &Going) -> Result<ReleaseId, Answer> {
        let live = self.live.ok_or(Answer::NothingLive)?;
        match going {
            Going::Rollback { to: Some(to), .. } => Ok(*to),
            Going::Rollback { to: None, .. } => {
                let origin = self.release(live).unwrap().origin;
                let below = |id: ReleaseId| (0..id.0).rev().map(ReleaseId);
                let state = |id: ReleaseId| self.release(id).unwrap().state.as_ref();
                below(origin)
                    .filter(|id| {
                        let r = self.release(*id).unwrap();
                        r.verdict == Verdict::Good && r.origin == *id && r.state.is_some()
                    })
                    .find_map(|id| {
                        // An undo or redo may have made it live again, even after what is live
                        // now was first made.
                        let again = |of: &ReleaseId| {
                            self.release(*of).unwrap().origin == id && state(*of).is_some()
                        };
                        let last = below(live).find(again)?;
                        let (then, later) = (state(id)?, state(last)?);
                        let same = !Self::differ(then, later);
                        Self::differ(&self.known, later).then_some(if same { id } else { last })
                    })
                    .ok_or(Answer::NoTarget)
            }
            Going::Undo => match self.cursor.checked_sub(1) {
                Some(down) => Ok(self.stack[down]),
                None => Err(Answer::NoUndo),
            },
            Going::Redo => match self.stack.get(self.cursor + 1) {
                Some(up) => Ok(*up),
                None => self.taken.ok_or(Answer::NoRedo),
            },
        }
    }

    /// What going back brings, by relation; a copy of what is to be.
    pub fn wanted(&mut self, going: &Going) -> Result<(ReleaseId, State), Answer> {
        let target = self.target(going)?;
        let Some(release) = self.release(target) else {
            return Err(Answer::NoSuchRelease);
        };
        let Some(then) = release.state.clone() else {
            return Err(Answer::NeverLive);
        };
        self.look();
        self.save();
        // Going to what is live compares with it as it is now.
        let then = if Some(target) == self.live {
            self.known.clone()
        } else {
            then
        };
        let only = match going {
            Going::Rollback { only, .. } => only.clone(),
            _ => None,
        };
        let mut wanted = State::new();
        let names: BTreeSet<_> = self.known.keys().chain(then.keys()).cloned().collect();
        for name in names {
            let missing = Known::default();
            let now = self.known.get(&name).unwrap_or(&missing);
            let then = then.get(&name).unwrap_or(&missing);
            let selected = only.as_ref().is_none_or(|only| only.contains(&name));
            if (now.owned || then.owned) && selected && now.stamp() != then.stamp() {
                let owned = Known {
                    owned: true,
                    ..then.clone()
                };
                wanted.insert(name, owned);
            }
        }
        if wanted.is_empty() && matches!(going, Going::Rollback { .. }) {
            return Err(match only {
                Some(_) => Answer::NothingSelected,
                None => Answer::NothingToDo,
            });
        }
        Ok((target, wanted))
    }

    /// Going back, forth or to somewhere.
    pub fn go(&mut self, going: &Going, set_aside: bool) -> Answer {
        let (target, wanted) = match self.wanted(going) {
            Ok(wanted) => wanted,
            Err(answer) => return answer,
        };
        let others: BTreeSet<_> = wanted
            .keys()
            .filter(|name| {
                let now = self.known.get(*name);
                now.is_some_and(|k| k.drifted && k.table.is_some())
            })
            .cloned()
            .collect();
        if !others.is_empty() && !set_aside {
            return Answer::OthersWrote(others);
        }
        self.went(going, target, wanted);
        Answer::Done
    }

    /// It happened.
    pub fn went(&mut self, going: &Going, target: ReleaseId, wanted: State) {
        for (name, known) in wanted {
            match &known.table {
                Some(table) => drop(self.production.insert(name.clone(), table.clone())),
                None => drop(self.production.remove(&name)),
            }
            self.known.insert(name, known);
        }
        let from = self.release(self.live.unwrap()).unwrap().origin;
        let to = self.release(target).unwrap().origin;
        self.publish(Some(going));
        let id = self.live.unwrap();
        if let Going::Rollback { only: Some(_), .. } = going {
            let from = self.release_mut(from);
            from.verdict = Verdict::Bad;
            from.taken = false;
            return;
        }
        self.release_mut(id).origin = to;
        for between in (from.0 + 1..=to.0).map(ReleaseId) {
            let release = self.release_mut(between);
            if release.taken || between == to {
                release.verdict = Verdict::Good;
                release.taken = false;
            }
        }
        for between in (to.0 + 1..=from.0).map(ReleaseId) {
            let release = self.release_mut(between);
            let own = release.state.is_some() && release.origin == between;
            if own && release.verdict == Verdict::Good {
                release.verdict = Verdict::Bad;
                release.taken = true;
            }
        }
    }
}
