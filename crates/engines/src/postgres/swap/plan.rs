//! Deciding everything from a survey, and nothing else: the same survey gives the same plan.

use super::access::{self, comment_on};
use super::model::{Name, Relation, Sequence, Survey};
use super::names::{LONGEST, is_ours, quoted};
use super::request::{Access, LeftKey, Obstacle, Refusal, Request, SwapPlan, Withdrawn};
use super::statements::{locks, steps};
use super::{carry, dependents, keys};
use std::collections::{BTreeMap, BTreeSet};

/// A move of a relation that exists.
pub(super) struct Going<'a> {
    pub(super) relation: &'a Relation,
    pub(super) to: Name,
    pub(super) carry: Option<u32>,
}

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) survey: &'a Survey,
    pub(super) request: &'a Request,
    /// What moves, by identity.
    pub(super) going: BTreeMap<u32, Going<'a>>,
    /// Which relation takes the place of which: old to new.
    replaced: BTreeMap<u32, u32>,
    obstacles: BTreeSet<Obstacle>,
    warnings: Vec<String>,
    notes: Vec<String>,
    pub(super) prepare: Vec<String>,
    /// Foreign keys among what comes in: after all keys that they refer to.
    pub(super) keys: Vec<String>,
    pub(super) drops: Vec<String>,
    pub(super) post: Vec<String>,
    pub(super) views: Vec<String>,
    pub(super) late: Vec<String>,
    pub(super) owners: Vec<String>,
    pub(super) afterwards: Vec<String>,
    /// Relations that stay and are altered: locked against everybody, or as it says.
    pub(super) lock_too: BTreeSet<u32>,
    pub(super) lock_as: BTreeMap<Name, &'static str>,
    pub(super) left_keys: Vec<LeftKey>,
    /// What is known of the access of what comes back.
    pub(super) access: BTreeMap<u32, &'a Access>,
    /// Rights that go with what leaves.
    pub(super) withdrawn: Vec<Withdrawn>,
    /// What has other columns than before.
    pub(super) reshaped: BTreeSet<Name>,
    /// Extended statistics that `prepare` makes, and the schema that they go to.
    pub(super) statistics_made: Vec<(Name, String)>,
    /// Names that are taken, by sort.
    taken: BTreeSet<(&'a str, &'a Name)>,
    by_name: BTreeMap<(&'a str, &'a str), u32>,
    /// Names that `prepare` takes: (sort, name), and whose they are.
    claimed: BTreeMap<(String, Name), u32>,
}

/// Plans a request. Refuses with everything that is in the way, not only the first.
pub fn plan(survey: &Survey, request: &Request) -> Result<SwapPlan, Refusal> {
    let mut p = Planner::new(survey, request);
    p.resolve();
    p.trees();
    p.places();
    p.rights();
    let pairs: Vec<(u32, u32)> = p
        .going
        .values()
        .filter_map(|g| g.carry.map(|old| (old, g.relation.oid)))
        .collect();
    for (old, new) in &pairs {
        let (Some(old), Some(to)) = (survey.relations.get(old), p.place_after(*new)) else {
            continue;
        };
        if let Some(new) = survey.relations.get(new) {
            carry::carry(&mut p, old, new, &to);
        }
    }
    keys::come_back(&mut p);
    dependents::plan(&mut p);
    p.collisions();
    p.headroom();
    p.finish(pairs)
}

impl<'a> Planner<'a> {
    fn new(survey: &'a Survey, request: &'a Request) -> Self {
        Self {
            survey,
            request,
            going: BTreeMap::new(),
            replaced: BTreeMap::new(),
            obstacles: BTreeSet::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            prepare: Vec::new(),
            keys: Vec::new(),
            drops: Vec::new(),
            post: Vec::new(),
            views: Vec::new(),
            late: Vec::new(),
            owners: Vec::new(),
            afterwards: Vec::new(),
            lock_as: BTreeMap::new(),
            left_keys: Vec::new(),
            access: BTreeMap::new(),
            withdrawn: Vec::new(),
            reshaped: BTreeSet::new(),
            lock_too: BTreeSet::new(),
            statistics_made: Vec::new(),
            taken: survey
                .occupied
                .iter()
                .map(|o| (o.sort.as_str(), &o.name))
                .collect(),
            by_name: survey
                .relations
                .values()
                .map(|r| ((r.schema.as_str(), r.name.as_str()), r.oid))
                .collect(),
            claimed: BTreeMap::new(),
        }
    }

    pub(super) fn obstacle(&mut self, object: String, reason: String, hint: String) {
        self.obstacles.insert(Obstacle {
            object,
            reason,
            hint,
        });
    }

    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether the role may alter what `owner` owns.
    pub(super) fn can_act_as(&self, owner: &str) -> bool {
        self.survey.role.superuser || self.survey.role.member_of.contains(owner)
    }

    /// Where something lies afterwards, if it moves.
    pub(super) fn place_after(&self, oid: u32) -> Option<Name> {
        self.going.get(&oid).map(|g| g.to.clone())
    }

    /// What takes the place of a relation.
    pub(super) fn replacement(&self, old: u32) -> Option<u32> {
        self.replaced.get(&old).copied()
    }

    /// Where something lies now.
    pub(super) fn place_now(&self, oid: u32) -> Option<Name> {
        self.survey
            .relations
            .get(&oid)
            .map(Relation::at)
            .or_else(|| self.survey.others.get(&oid).cloned())
    }

    /// Whether it leaves production.
    pub(super) fn leaves(&self, oid: u32) -> bool {
        self.going
            .get(&oid)
            .is_some_and(|g| !is_ours(&g.relation.schema) && is_ours(&g.to.schema))
    }

    /// Whether it comes into production.
    pub(super) fn arrives(&self, oid: u32) -> bool {
        self.going.get(&oid).is_some_and(|g| !is_ours(&g.to.schema))
    }

    /// Takes a name beside a relation for something that `prepare` makes; false if it is taken.
    pub(super) fn claim(&mut self, beside: &Relation, sort: &str, name: &str) -> bool {
        let at = Name::new(&*beside.schema, name);
        if self.taken.contains(&(sort, &at)) {
            return false;
        }
        self.claimed
            .insert((sort.to_owned(), at), beside.oid)
            .is_none()
    }

    /// A sequence was made for a column of `new`: it gets the old one's grants and comment.
    pub(super) fn sequence_made(&mut self, sequence: &Sequence, new: &Relation, at: &Name) {
        if !self.claim(new, "relation", &sequence.name) {
            self.warn(format!(
                "{}: its sequence {} cannot have its old name yet: something beside the new version has it.",
                new.at(),
                sequence.name
            ));
        }
        if let Some(wanted) = &sequence.grants {
            self.prepare.extend(access::grants(
                wanted,
                None,
                &format!("SEQUENCE {}", at.sql()),
            ));
        }
        if let Some(comment) = &sequence.comment {
            self.prepare
                .push(comment_on(&format!("SEQUENCE {}", at.sql()), comment));
        }
    }

    fn find(&self, name: &Name) -> Option<&'a Relation> {
        let survey: &'a Survey = self.survey;
        self.by_name
            .get(&(name.schema.as_str(), name.name.as_str()))
            .and_then(|oid| survey.relations.get(oid))
    }

    fn resolve(&mut self) {
        for one in &self.request.moves {
            let Some(relation) = self.find(&one.from) else {
                self.obstacle(
                    one.from.to_string(),
                    "is not there".to_owned(),
                    "Somebody dropped or renamed it. Look again, and plan anew.".to_owned(),
                );
                continue;
            };
            let carry = match &one.carry_from {
                Some(name) => {
                    let old = self.find(name);
                    if old.is_none() {
                        self.obstacle(
                            name.to_string(),
                            format!("is not there, and {} should take its place", one.from),
                            "Somebody dropped or renamed it. Look again, and plan anew.".to_owned(),
                        );
                    }
                    old.map(|r| r.oid)
                }
                None => None,
            };
            if let Some(access) = &one.access {
                self.access.insert(relation.oid, access);
            }
            self.going.insert(
                relation.oid,
                Going {
                    relation,
                    to: one.to.clone(),
                    carry,
                },
            );
        }
    }

    /// Partitions and children go with their parent, or nothing goes.
    fn trees(&mut self) {
        loop {
            let mut more: Vec<(u32, Name)> = Vec::new();
            for child in self.survey.relations.values() {
                if self.going.contains_key(&child.oid) {
                    continue;
                }
                for parent in &child.parents {
                    let Some(parent) = self.going.get(parent) else {
                        continue;
                    };
                    if child.schema == parent.relation.schema {
                        more.push((child.oid, Name::new(&*parent.to.schema, &*child.name)));
                    } else {
                        let (at, of) = (child.at(), parent.relation.at());
                        self.obstacles.insert(Obstacle {
                            object: at.to_string(),
                            reason: format!("belongs to {of}, which moves, and lies in another schema"),
                            hint: "A partition or child is part of its parent. Put it beside its parent, or ask for both to be moved.".to_owned(),
                        });
                    }
                }
            }
            if more.is_empty() {
                break;
            }
            for (oid, to) in more {
                if let Some(relation) = self.survey.relations.get(&oid) {
                    self.going.insert(
                        oid,
                        Going {
                            relation,
                            to,
                            carry: None,
                        },
                    );
                }
            }
        }
        // A partition takes over from the one of its name.
        let mut pairs = Vec::new();
        for going in self.going.values() {
            let relation = going.relation;
            for parent in &relation.parents {
                if !self.going.contains_key(parent) {
                    let of = self
                        .survey
                        .relations
                        .get(parent)
                        .map(Relation::at)
                        .or_else(|| self.survey.others.get(parent).cloned())
                        .map_or_else(|| "another relation".to_owned(), |n| n.to_string());
                    self.obstacles.insert(Obstacle {
                        object: relation.at().to_string(),
                        reason: format!(
                            "is a {} of {of}, which stays",
                            if relation.partition {
                                "partition"
                            } else {
                                "child"
                            }
                        ),
                        hint: format!("Move {of} as a whole, or detach it first."),
                    });
                }
            }
            if going.carry.is_none()
                && relation.partition
                && !is_ours(&going.to.schema)
                && let Some(old) = self.find(&going.to).filter(|r| r.oid != relation.oid)
            {
                pairs.push((relation.oid, old.oid));
            }
        }
        for (new, old) in pairs {
            if let Some(going) = self.going.get_mut(&new) {
                going.carry = Some(old);
            }
        }
    }

    /// Who takes whose place.
    fn places(&mut self) {
        let mut replaced = BTreeMap::new();
        for going in self.going.values() {
            if let Some(old) = going.carry {
                replaced.insert(old, going.relation.oid);
            } else if !is_ours(&going.to.schema)
                && let Some(old) = self.find(&going.to).filter(|r| r.oid != going.relation.oid)
            {
                replaced.insert(old.oid, going.relation.oid);
            }
        }
        for (old, new) in &replaced {
            let (Some(was), Some(to)) = (self.survey.relations.get(old), self.place_after(*new))
            else {
                continue;
            };
            if was.at() != to {
                self.obstacle(
                    to.to_string(),
                    format!("cannot take over from {}, which has another name", was.at()),
                    "A relation takes over from the one whose name it gets.".to_owned(),
                );
            }
            if !self.going.contains_key(old) {
                self.obstacle(
                    was.at().to_string(),
                    "stays where another relation shall lie".to_owned(),
                    "Ask for it to be moved away in the same request.".to_owned(),
                );
            }
        }
        self.replaced = replaced;
    }

    /// What may not be moved, and by whom.
    fn rights(&mut self) {
        let mut found = Vec::new();
        let role = &self.survey.role.name;
        for going in self.going.values() {
            let relation = going.relation;
            let at = relation.at();
            if let Some(extension) = &relation.extension {
                found.push((
                    at.to_string(),
                    format!("belongs to the extension {extension}"),
                    "An extension's own tables are not a job's to replace. Leave it out."
                        .to_owned(),
                ));
            }
            if relation.persistence == "t" {
                found.push((
                    at.to_string(),
                    "is a temporary table".to_owned(),
                    "It is gone when its session ends and cannot be kept. Leave it out.".to_owned(),
                ));
            }
            if !self.can_act_as(&relation.owner) {
                found.push((
                    at.to_string(),
                    format!("belongs to {}, and {role} may not move it", relation.owner),
                    format!("GRANT {} TO {}.", quoted(&relation.owner), quoted(role)),
                ));
            }
            for (what, name) in [("schema", &going.to.schema), ("name", &going.to.name)] {
                if name.len() > LONGEST {
                    found.push((
                        name.clone(),
                        format!(
                            "is {} bytes long, and PostgreSQL cuts a {what} off at {LONGEST}",
                            name.len()
                        ),
                        "Give the schema a shorter name.".to_owned(),
                    ));
                }
            }
            match self.survey.schemas.get(&going.to.schema) {
                None if going.to.schema.len() > LONGEST => {}
                None => found.push((
                    format!("schema {}", going.to.schema),
                    format!("is not there, and {at} shall go there"),
                    format!("CREATE SCHEMA {}.", quoted(&going.to.schema)),
                )),
                Some(false) => found.push((
                    format!("schema {}", going.to.schema),
                    format!("{role} may not create in it, and {at} shall go there"),
                    format!(
                        "GRANT USAGE, CREATE ON SCHEMA {} TO {}.",
                        quoted(&going.to.schema),
                        quoted(role)
                    ),
                )),
                Some(true) => {}
            }
        }
        for (object, reason, hint) in found {
            self.obstacle(object, reason, hint);
        }
        for trigger in &self.survey.event_triggers {
            self.warn(format!(
                "Event trigger {trigger} is on: it sees every statement of the move, and can stop it."
            ));
        }
    }

    /// Two things of one name in one schema, once everything lies where it shall.
    fn collisions(&mut self) {
        let mut after: BTreeMap<(String, Name), Vec<String>> = BTreeMap::new();
        let mut put = |sort: &str, name: &Name, relation: u32, what: &str| {
            let mut at = name.clone();
            if let Some(going) = self.going.get(&relation)
                && going.relation.schema == at.schema
            {
                at.schema.clone_from(&going.to.schema);
                if at.name == going.relation.name {
                    at.name.clone_from(&going.to.name);
                }
            }
            let owner = self
                .survey
                .relations
                .get(&relation)
                .map(Relation::at)
                .filter(|of| of != name);
            let whose = match owner {
                Some(of) => format!("{what} {name} of {of}"),
                None => format!("{what} {name}"),
            };
            let entry = after.entry((sort.to_owned(), at)).or_default();
            if !entry.contains(&whose) {
                entry.push(whose);
            }
        };
        for one in &self.survey.occupied {
            put(&one.sort, &one.name, one.relation, &one.what);
        }
        for ((sort, name), relation) in &self.claimed {
            put(sort, name, *relation, "the carried");
        }
        let found: Vec<_> = after.into_iter().filter(|(_, who)| who.len() > 1).collect();
        let mut said: BTreeSet<Name> = BTreeSet::new();
        let names: BTreeSet<Name> = found.iter().map(|((_, at), _)| at.clone()).collect();
        for ((_, at), mut who) in found {
            who.sort();
            // A row type collides along with its relation, and its array type with it: one line
            // says it.
            let array_of = at
                .name
                .strip_prefix('_')
                .is_some_and(|n| names.contains(&Name::new(&*at.schema, n)));
            if !array_of && said.insert(at.clone()) {
                self.obstacle(
                    at.to_string(),
                    format!("would be the name of two things: {}", who.join(" and ")),
                    "Rename or drop the one that is not production's.".to_owned(),
                );
            }
        }
    }

    /// PostgreSQL keeps all locks of all sessions in one table of fixed size.
    fn headroom(&mut self) {
        let table = self.survey.locks;
        let wanted = i64::try_from(self.going.len() + self.lock_too.len() + self.lock_as.len())
            .unwrap_or(i64::MAX);
        if wanted + table.held > table.capacity / 2 {
            self.obstacle(
                "max_locks_per_transaction".to_owned(),
                format!(
                    "the move needs {wanted} locks, {} are held, and the server has room for {}: half of that is the limit here, because others need locks too",
                    table.held, table.capacity
                ),
                format!(
                    "Raise max_locks_per_transaction by a factor of {} and restart the server, or publish fewer relations at once.",
                    (wanted + table.held) * 2 / table.capacity.max(1) + 1
                ),
            );
        }
    }

    fn finish(mut self, pairs: Vec<(u32, u32)>) -> Result<SwapPlan, Refusal> {
        if !self.obstacles.is_empty() {
            return Err(Refusal {
                obstacles: self.obstacles.into_iter().collect(),
            });
        }
        if !self.reshaped.is_empty() {
            let names: Vec<String> = self.reshaped.iter().map(Name::to_string).collect();
            self.warn(format!(
                "Other columns than before: {}. A prepared statement that reads all columns of one fails once in a session that made it before.",
                names.join(", ")
            ));
        }
        let mut statements = std::mem::take(&mut self.drops);
        let (out, come): (Vec<&Going<'_>>, Vec<&Going<'_>>) =
            self.going.values().partition(|g| is_ours(&g.to.schema));
        for going in out.iter().chain(&come) {
            statements.extend(steps(going));
        }
        for (at, schema) in &self.statistics_made {
            statements.push(format!(
                "ALTER STATISTICS {} SET SCHEMA {}",
                at.sql(),
                quoted(schema)
            ));
        }
        statements.append(&mut self.post);
        statements.append(&mut self.views);
        statements.append(&mut self.late);
        statements.append(&mut self.owners);
        let mut prepare = self.prepare;
        prepare.append(&mut self.keys);

        let all = |oids: &dyn Fn(u32) -> bool| -> Vec<&Relation> {
            self.survey
                .relations
                .values()
                .filter(|r| oids(r.oid))
                .collect()
        };
        let coming: BTreeSet<u32> = come.iter().map(|g| g.relation.oid).collect();
        let lock_incoming = locks(&all(&|o| coming.contains(&o)), "ACCESS EXCLUSIVE");
        let mut lock_production = locks(
            &all(&|o| {
                !coming.contains(&o) && (self.going.contains_key(&o) || self.lock_too.contains(&o))
            }),
            "ACCESS EXCLUSIVE",
        );
        for (name, mode) in &self.lock_as {
            lock_production.push(format!("LOCK TABLE ONLY {} IN {mode} MODE", name.sql()));
        }
        Ok(SwapPlan {
            request: self.request.clone(),
            prepare,
            lock_incoming,
            lock_production,
            statements,
            afterwards: self.afterwards,
            left_keys: self.left_keys,
            warnings: self.warnings,
            notes: self.notes,
            access: pairs,
            withdrawn: self.withdrawn,
            watch: self.survey.relations.keys().copied().collect(),
            mark: self.survey.mark.clone(),
        })
    }
}
