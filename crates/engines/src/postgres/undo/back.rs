//! Going back: the statements that bring a table to where it stood at a moment.
//!
//! What a table held then is what it holds now, less the rows that were added since and plus those
//! that were removed. Rows are told apart by their bytes and counted, so that duplicates, NULLs and
//! values that only look equal come out right, with a key or without.

use super::capture::rows_table;
use super::known::{Known, Moment, Trigger};
use crate::postgres::quote;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::ident::ReleaseId;

/// What a refusal of these statements raises.
pub const REFUSED: &str = "US002";

/// What is taken back of a table's changes since a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only what this role, or this application, wrote.
    pub writer: Option<String>,
    /// Only what releases wrote: what others wrote stays.
    pub jobs: bool,
    /// Only in rows of which this holds, as SQL over the table's columns.
    pub rows: Option<String>,
}

impl Scope {
    /// Only what releases wrote.
    pub fn jobs() -> Self {
        Self {
            jobs: true,
            ..Self::default()
        }
    }

    /// Whether it is only what some wrote.
    pub(super) fn is_of_some(&self) -> bool {
        self.jobs || self.writer.is_some()
    }

    /// Whether it is all of the table.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a table goes.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// The table.
    pub table: &'a Known,
    /// Which of its changes stay.
    pub moment: Moment,
    /// What is taken back of the others.
    pub scope: Scope,
    /// What the state is called that it comes to.
    pub stands: String,
    /// Whether what others wrote since it was looked at may go too.
    pub take_all: bool,
    /// How many rows must go and come; any, if it is not known.
    pub expected: Option<(u64, u64)>,
}

/// Statements for one transaction that reads what is committed: the lock first, which must not be
/// waited for long, then the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    /// Takes the locks, all at once.
    pub lock: String,
    /// Does the work.
    pub work: Vec<String>,
}

/// The statements that bring tables back, for a release.
pub fn statements(targets: &[Target<'_>], release: ReleaseId) -> Statements {
    let ordered = in_order(targets);
    let tables: Vec<_> = ordered.iter().map(|one| one.full()).collect();
    let mut work = settings();
    work.push(format!(
        "SET LOCAL unship.release = {}",
        quote::text(&release.to_string())
    ));
    work.push("SET CONSTRAINTS ALL DEFERRED".to_owned());
    for one in &ordered {
        work.extend(one.unmoved());
        work.extend(one.found_out());
        work.extend(one.as_expected());
    }
    let triggers = || ordered.iter().flat_map(|one| &one.table.triggers);
    work.extend(triggers().map(|t| alter(t, "DISABLE")));
    // Whoever refers to a row goes before it, and comes after it.
    let going: BTreeSet<u32> = ordered.iter().map(|one| one.table.relation).collect();
    for one in &ordered {
        work.extend(one.strangers(&going));
        work.push(match one.in_place() {
            true => one.delete_in_place(),
            false => one.delete(),
        });
    }
    for one in ordered.iter().rev() {
        work.extend(match one.in_place() {
            true => one.update_in_place(),
            false => one.update(),
        });
        work.push(one.insert());
    }
    work.extend(triggers().map(|t| alter(t, &t.enabled)));
    for one in &ordered {
        work.push(one.close(release));
        work.extend(one.undone(release));
    }
    Statements {
        lock: format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            tables.join(", ")
        ),
        work,
    }
}

/// What statements need to be read alike.
fn settings() -> Vec<String> {
    // What is sorted and joined is not to be done in parts on a disk.
    let memory = "SELECT pg_catalog.set_config('work_mem', pg_catalog.concat(greatest(65536, \
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) / 1024), 'kB'), true)";
    [
        "SET LOCAL search_path = ''",
        "SET LOCAL row_security = off",
        "SET LOCAL extra_float_digits = 3",
        "SET LOCAL datestyle = 'ISO'",
        "SET LOCAL intervalstyle = 'postgres'",
        memory,
    ]
    .map(str::to_owned)
    .into()
}

/// The statements that find out what differs of a table, and the query that counts what goes and what
/// comes; nothing of the table is changed.
pub(super) fn looks(target: &Target<'_>) -> (Vec<String>, String) {
    let mut all = settings();
    all.extend(target.found_out());
    (all, target.counted())
}

/// A name for a text that `format` reads.
pub(super) fn escaped(name: &str) -> String {
    name.replace('%', "%%")
}

fn alter(trigger: &Trigger, how: &str) -> String {
    format!("ALTER TABLE {} {how} TRIGGER {}", trigger.on, trigger.name)
}

/// Those that refer to others before these. Where they refer to each other in a ring, any order.
fn in_order<'a>(targets: &'a [Target<'a>]) -> Vec<&'a Target<'a>> {
    let by_oid: BTreeMap<u32, &Target<'_>> = targets
        .iter()
        .map(|one| (one.table.relation, one))
        .collect();
    let mut out = Vec::new();
    let mut done = BTreeSet::new();
    fn visit<'a>(
        oid: u32,
        by_oid: &BTreeMap<u32, &'a Target<'a>>,
        done: &mut BTreeSet<u32>,
        out: &mut Vec<&'a Target<'a>>,
    ) {
        let Some(one) = by_oid.get(&oid).filter(|_| done.insert(oid)) else {
            return;
        };
        for referrer in &one.table.referrers {
            visit(referrer.relation, by_oid, done, out);
        }
        out.push(one);
    }
    for oid in by_oid.keys() {
        visit(*oid, &by_oid, &mut done, &mut out);
    }
    out
}

impl Target<'_> {
    pub(super) fn full(&self) -> String {
        quote::relation(&self.table.name.schema, &self.table.name.name)
    }

    /// The table of what differs between now and then.
    pub(super) fn differing(&self) -> String {
        format!("pg_temp.unship_back_{}", self.table.guard)
    }

    fn logged(&self, alias: &str) -> Vec<String> {
        let columns = self.table.columns.iter();
        columns.map(|c| format!("{alias}.{}", c.logged())).collect()
    }

    /// A row's bytes, from the table under an alias.
    fn image(&self, alias: &str) -> String {
        let columns: Vec<_> = self.table.columns.iter().map(|c| c.read(alias)).collect();
        format!("pg_catalog.record_send(ROW({}))", columns.join(", "))
    }

    /// That two rows have the same key: the table's own under one alias, the log's under the other.
    pub(super) fn same_key(&self, own: &str, logged: &str) -> String {
        let key = self.table.columns.iter();
        let key = key.filter(|c| self.table.key.contains(&c.number));
        key.map(|c| format!("{} = {logged}.{}", c.read(own), c.logged()))
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The same of two rows of the log.
    pub(super) fn same_logged_key(&self, one: &str, other: &str) -> String {
        let key = self.table.key.iter();
        key.map(|n| format!("{one}.c{n} = {other}.c{n}"))
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// Whether rows that stay are changed where they are: somebody's foreign key refers to them.
    fn changes_rows(&self) -> bool {
        !self.table.key.is_empty()
            && !self.table.referrers.is_empty()
            && !self.has_fixed()
            && !self.in_place()
    }

    /// Whether there are columns besides the key that cannot be given a value in a row that stays.
    pub(super) fn has_fixed(&self) -> bool {
        let key = &self.table.key;
        let mut columns = self.table.columns.iter();
        columns.any(|c| c.always && !key.contains(&c.number))
    }

    /// That a row which goes comes back with the same key.
    fn comes_back(&self, alias: &str) -> String {
        format!(
            "EXISTS (SELECT FROM {} n WHERE n.copies > 0 AND {})",
            self.differing(),
            self.same_logged_key("n", alias)
        )
    }

    /// The changes that are taken back, under an alias.
    pub(super) fn later(&self, alias: &str) -> String {
        format!(
            "{alias}.guard = {} AND ({alias}.seq > {} OR NOT pg_catalog.pg_visible_in_snapshot(\
             {alias}.xid, {}::pg_snapshot))",
            self.table.guard,
            self.moment.last,
            quote::text(&self.moment.snapshot)
        )
    }

    pub(super) fn by_writer(&self, alias: &str) -> String {
        match &self.scope.writer {
            Some(writer) => format!(
                "{0} IN ({alias}.role, {alias}.application)",
                quote::text(writer)
            ),
            None if self.scope.jobs => format!("{alias}.release IS NOT NULL"),
            None => "true".to_owned(),
        }
    }

    /// Finds out what differs, and refuses where others are in the way.
    fn found_out(&self) -> Vec<String> {
        match (self.table.brief, self.in_place()) {
            (true, true) => self.whole(),
            (true, false) => self.by_key(),
            (false, _) => {
                let mut all = self.net();
                all.push(self.conflicts());
                all
            }
        }
    }

    /// How many rows go and how many come.
    fn counted(&self) -> String {
        format!(
            "SELECT coalesce(pg_catalog.sum(-o.copies) FILTER (WHERE o.copies < 0), 0)::bigint,
       coalesce(pg_catalog.sum(o.copies) FILTER (WHERE o.copies > 0), 0)::bigint FROM {} o",
            self.differing()
        )
    }

    /// Refuses if it is not as many rows as when it was planned.
    fn as_expected(&self) -> Option<String> {
        let (out, back) = self.expected?;
        let body = format!(
            "BEGIN
    IF EXISTS (SELECT FROM ({}) n (gone, come) WHERE n.gone <> {out} OR n.come <> {back}) THEN
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = {},
            HINT = 'make a new plan: nothing was changed';
    END IF;
END",
            self.counted(),
            quote::text(&format!(
                "others wrote to the rows of {} that are to be replaced, since this was planned",
                self.table.name
            )),
        );
        Some(format!("DO {}", quote::text(&body)))
    }

    /// Refuses if others wrote since this was planned, unless that may go too.
    fn unmoved(&self) -> Option<String> {
        (!self.take_all).then(|| {
            let body = format!(
                "DECLARE who text;
BEGIN
    SELECT pg_catalog.string_agg(DISTINCT pg_catalog.concat(c.role, ' (', c.application, ')'), ', ') INTO who
      FROM unship_undo.changes c WHERE c.guard = {} AND c.op <> 'back'
       AND NOT pg_catalog.pg_visible_in_snapshot(c.xid, {}::pg_snapshot);
    IF who IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = {} || who || ' wrote to it',
            HINT = 'plan again: `unship plan` shows what they wrote';
    END IF;
END",
                self.table.guard,
                quote::text(&self.table.seen),
                quote::text(&format!("{} changed since this was planned: ", self.table.name)),
            );
            format!("DO {}", quote::text(&body))
        })
    }

    /// That a row of the log under an alias is one of those that go back, as a condition that follows
    /// others.
    pub(super) fn of_slice(&self, alias: &str) -> String {
        let Some(rows) = &self.scope.rows else {
            return String::new();
        };
        let columns = self.table.columns.iter();
        let as_table = columns.map(|c| format!("{} AS {}", c.back(alias), quote::name(&c.name)));
        format!(
            "\n   AND (SELECT ({rows}) FROM (SELECT {}) AS {})",
            as_table.collect::<Vec<_>>().join(", "),
            quote::name(&self.table.name.name)
        )
    }

    /// What differs between now and then: how many copies of a row must come, or go.
    fn net(&self) -> Vec<String> {
        let name = format!("unship_back_{}", self.table.guard);
        let logged = self.logged("r").join(", ");
        let filter = self.of_slice("r");
        let make = format!(
            "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS
WITH later AS MATERIALIZED (
    SELECT c.seq FROM unship_undo.changes c WHERE {later} AND {writer})
SELECT * FROM (
    SELECT i.*, -pg_catalog.sum(i.sign) OVER same AS copies, pg_catalog.row_number() OVER same AS nth
      FROM (SELECT r.sign, {logged}, pg_catalog.record_send(ROW({logged})) AS image
              FROM {rows} r
             WHERE r.seq >= (SELECT pg_catalog.min(seq) FROM later) AND r.seq IN (SELECT seq FROM later){filter}) i
    WINDOW same AS (PARTITION BY i.image)) s
 WHERE s.nth = 1 AND s.copies <> 0",
            later = self.later("c"),
            writer = self.by_writer("c"),
            rows = rows_table(self.table.guard),
        );
        vec![make, format!("ANALYZE {}", self.differing())]
    }

    /// Refuses if rows that must go are not there, or rows that must come are: somebody else changed
    /// them, and what they wrote is not overwritten.
    fn conflicts(&self) -> String {
        let (full, differing) = (self.full(), self.differing());
        let image = self.image("t");
        let missing = match self.table.key.is_empty() {
            false => format!(
                "SELECT o.* FROM {differing} o WHERE o.copies < 0 AND (o.copies < -1 OR NOT EXISTS (
        SELECT FROM {full} t WHERE {} AND {image} = o.image))",
                self.same_key("t", "o")
            ),
            true => format!(
                "SELECT o.* FROM {differing} o
        LEFT JOIN (SELECT {image} AS image, pg_catalog.count(*) AS n FROM {full} t
                    WHERE EXISTS (SELECT FROM {differing} WHERE copies < 0) GROUP BY 1) t ON t.image = o.image
       WHERE o.copies < 0 AND coalesce(t.n, 0) < -o.copies"
            ),
        };
        let taken = match self.table.key.is_empty() {
            true => format!("SELECT o.* FROM {differing} o WHERE false"),
            false => format!(
                "SELECT o.* FROM {differing} o WHERE o.copies > 0 AND EXISTS (
        SELECT FROM {full} t WHERE {} AND NOT EXISTS (SELECT FROM {differing} g
         WHERE g.copies < 0 AND {}))",
                self.same_key("t", "o"),
                self.same_logged_key("g", "o")
            ),
        };
        let same = match self.table.key.is_empty() {
            true => {
                "pg_catalog.record_send(ROW(".to_owned()
                    + &self.logged("r").join(", ")
                    + ")) = x.image"
            }
            false => self.same_logged_key("r", "x"),
        };
        let body = format!(
            "DECLARE n bigint; who text;
BEGIN
    CREATE TEMPORARY TABLE unship_conflicts ON COMMIT DROP AS
    SELECT x.* FROM ({missing}
     UNION ALL {taken}) x;
    SELECT pg_catalog.count(*) INTO n FROM pg_temp.unship_conflicts;
    IF n > 0 THEN
        SELECT pg_catalog.string_agg(DISTINCT pg_catalog.concat(c.role, ' (', c.application, ')'), ', ') INTO who
          FROM unship_undo.changes c JOIN {rows} r ON r.seq = c.seq
          JOIN pg_temp.unship_conflicts x ON {same}
         WHERE {later} AND NOT ({writer});
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
            MESSAGE = pg_catalog.format({message}, n, coalesce('by ' || who, 'by somebody, in a way that the undo log did not see')),
            HINT = 'take back what they wrote too, or leave these rows out';
    END IF;
    DROP TABLE pg_temp.unship_conflicts;
END",
            rows = rows_table(self.table.guard),
            later = self.later("c"),
            writer = self.by_writer("c"),
            message = quote::text(&format!(
                "%s of the rows of {} that would go back were changed again since, %s",
                escaped(&self.table.name.to_string())
            )),
        );
        format!("DO {}", quote::text(&body))
    }

    /// Refuses where rows of others would go along, or lose what they refer to.
    fn strangers(&self, going: &BTreeSet<u32>) -> Vec<String> {
        let acting = self.table.referrers.iter().filter(|r| r.acts);
        let comes_back = match self.changes_rows() {
            true => format!(" AND NOT {}", self.comes_back("o")),
            false => String::new(),
        };
        acting
            .filter(|r| !going.contains(&r.relation) || !self.scope.is_all())
            .map(|r| {
                let on: Vec<_> = (r.columns.iter())
                    .map(|(theirs, ours)| format!("f.{theirs} = o.c{ours}"))
                    .collect();
                let body = format!(
                    "BEGIN
    IF EXISTS (SELECT FROM {} f JOIN {} o ON {} WHERE o.copies < 0{comes_back}) THEN
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = {},
            HINT = 'remove them first, or take them back too';
    END IF;
END",
                    r.table,
                    self.differing(),
                    on.join(" AND "),
                    quote::text(&format!(
                        "rows of {} refer to rows of {} that would go, and would be changed with them ({})",
                        r.table, self.table.name, r.constraint
                    )),
                );
                format!("DO {}", quote::text(&body))
            })
            .collect()
    }

    fn delete(&self) -> String {
        let (full, differing) = (self.full(), self.differing());
        if self.table.key.is_empty() {
            let image = self.image("t");
            return format!(
                "DELETE FROM {full} t USING (
    SELECT * FROM (
        SELECT t.tableoid AS part, t.ctid AS place, o.copies,
               pg_catalog.row_number() OVER (PARTITION BY o.image) AS nth
          FROM {full} t JOIN {differing} o ON o.image = {image}
         WHERE o.copies < 0) s WHERE s.nth <= -s.copies) s
 WHERE t.tableoid = s.part AND t.ctid = s.place"
            );
        }
        let stays = match self.changes_rows() {
            true => format!(" AND NOT {}", self.comes_back("o")),
            false => String::new(),
        };
        format!(
            "DELETE FROM {full} t USING {differing} o WHERE o.copies < 0 AND {}{stays}",
            self.same_key("t", "o")
        )
    }

    fn update(&self) -> Option<String> {
        let set = self.set().filter(|_| self.changes_rows())?;
        Some(format!(
            "UPDATE {} t SET {set} FROM {} n WHERE n.copies > 0 AND {}",
            self.full(),
            self.differing(),
            self.same_key("t", "n")
        ))
    }

    /// What gives a row that stays what the log has under `n`; none, if it is all key.
    pub(super) fn set(&self) -> Option<String> {
        let columns = self.table.columns.iter();
        let set: Vec<_> = columns
            .filter(|c| !self.table.key.contains(&c.number))
            .map(|c| format!("{} = {}", quote::name(&c.name), c.back("n")))
            .collect();
        (!set.is_empty()).then(|| set.join(", "))
    }

    fn insert(&self) -> String {
        let names = self.table.columns.iter().map(|c| quote::name(&c.name));
        let names: Vec<_> = names.collect();
        let values: Vec<_> = self.table.columns.iter().map(|c| c.back("n")).collect();
        let there = match self.changes_rows() {
            true => format!(
                " AND NOT EXISTS (SELECT FROM {} o WHERE o.copies < 0 AND {})",
                self.differing(),
                self.same_logged_key("o", "n")
            ),
            false => String::new(),
        };
        format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} n \
             CROSS JOIN LATERAL pg_catalog.generate_series(1, n.copies) WHERE n.copies > 0{there}",
            self.full(),
            names.join(", "),
            values.join(", "),
            self.differing()
        )
    }

    /// Marks rows that were brought back by the log as undone, where the table goes back to before that;
    /// and as there again, where it comes back to it.
    fn undone(&self, release: ReleaseId) -> Option<String> {
        if !self.scope.is_all() {
            return None;
        }
        let body = format!(
            "BEGIN
    IF pg_catalog.to_regclass('unship.reconciled') IS NOT NULL THEN
        UPDATE unship.reconciled x SET undone_by = CASE WHEN {later} THEN coalesce(x.undone_by, {}) END
          FROM unship_undo.changes c
         WHERE c.guard = {guard} AND c.op = 'back' AND c.release = pg_catalog.concat('R', x.release)
           AND x.release <> {} AND x.schema = {} AND x.name = {};
    END IF;
END",
            release.0,
            release.0,
            quote::text(&self.table.name.schema),
            quote::text(&self.table.name.name),
            later = self.later("c"),
            guard = self.table.guard,
        );
        Some(format!("DO {}", quote::text(&body)))
    }

    /// Records what was done: the state that the table stands in from here on.
    fn close(&self, release: ReleaseId) -> String {
        // All that was committed, this transaction included: who waits for the lock has changed
        // nothing yet.
        let moment = match self.scope.is_all() {
            true => "NULL",
            false => "pg_catalog.concat(me.next, ':', me.next, ':/', me.seq)",
        };
        format!(
            "INSERT INTO unship_undo.changes (seq, guard, op, role, application, release, stands, moment)
SELECT me.seq, {}, 'back', session_user, pg_catalog.current_setting('application_name'), {}, {}, {moment}
  FROM (SELECT pg_catalog.nextval('unship_undo.seq') AS seq,
               1 + pg_catalog.pg_current_xact_id()::text::bigint AS next) me",
            self.table.guard,
            quote::text(&release.to_string()),
            quote::text(&self.stands),
        )
    }
}
