//! Going back where of rows that came only the keys were written down.
//!
//! Whoever changes a row with a key that another changed has waited for that other to end. So all
//! that happened under one key happened in an order, and rows came and went in turn. Whether there
//! was a row is a sum that needs no order; if there was one, it is the first that went. The numbers
//! that changes are given are in that order, except for statements of one transaction in the midst of
//! each other, which are told by when they began; where it matters, that is refused.

use super::back::{REFUSED, Target, escaped};
use super::capture::{keys_table, rows_table};
use crate::postgres::quote;

impl Target<'_> {
    /// What differs between now and then, by what happened under each key; and refusals where that
    /// cannot be told, or is not for this way back to change.
    pub(super) fn by_key(&self) -> Vec<String> {
        let touched = format!(
            "CREATE TEMPORARY TABLE unship_keys_{} ON COMMIT DROP AS\n{} {}",
            self.table.guard,
            self.with_later(),
            self.touched()
        );
        vec![
            self.same_constraint(),
            touched,
            format!("ANALYZE {}", self.keys()),
            self.between(),
            format!("ANALYZE {}", self.differing()),
            self.in_order(&self.keys()),
            self.untouched(),
        ]
    }

    /// Whether all of the table goes, and rows that stay can be changed where they are: then what is
    /// there now is looked at once, by what changes it.
    pub(super) fn in_place(&self) -> bool {
        self.table.brief && self.table.free && self.scope.is_all() && !self.has_fixed()
    }

    /// What there was then, by what happened under each key: rows that come (1 copy), keys of which
    /// the rows go (-1), and rows that stay, if they are there, as they were (0).
    pub(super) fn whole(&self) -> Vec<String> {
        let columns = self.table.columns.iter();
        let columns = columns.map(|c| match self.table.key.contains(&c.number) {
            true => format!("d.{}", c.logged()),
            false => format!("g.{}", c.logged()),
        });
        let make = format!(
            "CREATE TEMPORARY TABLE unship_back_{guard} ON COMMIT DROP AS
{later}
SELECT -d.more AS copies, d.first, {columns}
  FROM ({touched}) d LEFT JOIN {rows} g ON g.seq = d.first AND {logged}",
            guard = self.table.guard,
            later = self.with_later(),
            columns = columns.collect::<Vec<_>>().join(", "),
            touched = self.touched(),
            rows = rows_table(self.table.guard),
            logged = self.same_logged_key("g", "d"),
        );
        vec![
            self.same_constraint(),
            make,
            self.in_order(&self.differing()),
        ]
    }

    /// Removes the rows that go, which must be there.
    pub(super) fn delete_in_place(&self) -> String {
        let differing = self.differing();
        let body = format!(
            "DECLARE n bigint; going bigint;
BEGIN
    SELECT pg_catalog.count(*) FILTER (WHERE o.copies < 0),
           pg_catalog.count(*) FILTER (WHERE o.copies NOT IN (-1, 0, 1)) INTO going, n FROM {differing} o;
    IF n = 0 AND going > 0 THEN
        DELETE FROM {full} t USING {differing} o WHERE o.copies < 0 AND {same};
        GET DIAGNOSTICS n = ROW_COUNT;
        n := going - n;
    END IF;
    IF n <> 0 THEN
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = pg_catalog.format({message}, n);
    END IF;
END",
            full = self.full(),
            same = self.same_key("t", "o"),
            message = quote::text(&format!(
                "%s of the rows of {} that would go back were changed in a way that the undo log did not see",
                escaped(&self.table.name.to_string())
            )),
        );
        format!("DO {}", quote::text(&body))
    }

    /// Gives rows that stay what they held, unless they hold it.
    pub(super) fn update_in_place(&self) -> Option<String> {
        let columns = &self.table.columns;
        let now: Vec<_> = columns.iter().map(|c| c.read("t")).collect();
        let then: Vec<_> = (columns.iter())
            .map(|c| format!("n.{}", c.logged()))
            .collect();
        Some(format!(
            "UPDATE {full} t SET {set} FROM {differing} n
 WHERE n.copies = 0 AND {same} AND ROW({now})::record *<> ROW({then})::record",
            full = self.full(),
            set = self.set()?,
            differing = self.differing(),
            same = self.same_key("t", "n"),
            now = now.join(", "),
            then = then.join(", "),
        ))
    }

    /// The table of the keys under which something happened.
    fn keys(&self) -> String {
        format!("pg_temp.unship_keys_{}", self.table.guard)
    }

    /// The key's columns in the log, under an alias.
    fn key(&self, alias: &str) -> String {
        let key = self.table.key.iter();
        let key: Vec<_> = key.map(|number| format!("{alias}.c{number}")).collect();
        key.join(", ")
    }

    /// Each thing that happened under a key, out of changes that `of` gives: how many rows it made
    /// more, and its number.
    fn events(&self, of: &str) -> String {
        let key = self.table.key.iter();
        let lists: Vec<_> = (key.clone())
            .map(|number| format!("pg_catalog.unnest(k.c{number})"))
            .collect();
        let names: Vec<_> = key.map(|number| format!("c{number}")).collect();
        format!(
            "SELECT {gone}, -1 AS more, r.seq FROM {rows} r
     WHERE r.seq >= (SELECT pg_catalog.min(seq) FROM {of}) AND r.seq IN (SELECT seq FROM {of})
    UNION ALL
    SELECT {come}, 1, k.seq FROM {keys} k CROSS JOIN LATERAL ROWS FROM ({lists}) u ({names})
     WHERE k.seq >= (SELECT pg_catalog.min(seq) FROM {of}) AND k.seq IN (SELECT seq FROM {of})",
            gone = self.key("r"),
            come = self.key("u"),
            rows = rows_table(self.table.guard),
            keys = keys_table(self.table.guard),
            lists = lists.join(", "),
            names = names.join(", "),
        )
    }

    /// Refuses if the key is not the one any more by which the rows were written down.
    fn same_constraint(&self) -> String {
        let body = format!(
            "BEGIN
    IF NOT ({}) THEN
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = {}, HINT = 'run: unship undo-log sync';
    END IF;
END",
            super::guard::KEYED.replace("$1", &self.table.guard.to_string()),
            quote::text(&format!(
                "the primary key of {} was dropped or made anew since this was planned",
                self.table.name
            )),
        );
        format!("DO {}", quote::text(&body))
    }

    /// The changes that are taken back.
    fn with_later(&self) -> String {
        format!(
            "WITH later AS MATERIALIZED (
    SELECT c.seq FROM unship_undo.changes c WHERE {} AND {})",
            self.later("c"),
            self.by_writer("c")
        )
    }

    /// What happened under each key: how many rows more there are, the first change by which one
    /// went, and the first and the last of all.
    fn touched(&self) -> String {
        format!(
            "SELECT {key}, pg_catalog.sum(e.more)::int AS more,
       pg_catalog.min(e.seq) FILTER (WHERE e.more < 0) AS first, pg_catalog.min(e.seq) AS since,
       pg_catalog.max(e.seq) AS until
  FROM ({events}) e
 GROUP BY {key}",
            key = self.key("e"),
            events = self.events("later"),
        )
    }

    /// The rows that go, those that are there now, and those that come, the first that went. One that
    /// would do both stays. What cannot be has 0 copies, and is refused.
    fn between(&self) -> String {
        let columns = &self.table.columns;
        let now: Vec<_> = columns.iter().map(|c| c.read("t")).collect();
        let then: Vec<_> = columns
            .iter()
            .map(|c| format!("g.{}", c.logged()))
            .collect();
        let either: Vec<_> = columns
            .iter()
            .zip(now.iter().zip(&then))
            .map(|(c, (now, then))| {
                format!(
                    "CASE WHEN s.way < 0 THEN {now} ELSE {then} END AS {}",
                    c.logged()
                )
            })
            .collect();
        format!(
            "CREATE TEMPORARY TABLE unship_back_{guard} ON COMMIT DROP AS
SELECT * FROM (
    SELECT CASE WHEN w.n IN (0, 1) THEN s.way ELSE 0 END AS copies, {either}
      FROM {keys} d
      LEFT JOIN {full} t ON {live}
      LEFT JOIN {rows} g ON g.seq = d.first AND {logged}
     CROSS JOIN LATERAL (SELECT (t.tableoid IS NOT NULL)::int - d.more AS n) w
     CROSS JOIN (VALUES (-1), (1)) s (way)
     WHERE CASE WHEN s.way < 0 THEN t.tableoid IS NOT NULL OR w.n NOT IN (0, 1) ELSE w.n = 1 END
       AND (t.tableoid IS NULL OR w.n <> 1 OR ROW({now})::record *<> ROW({then})::record)) o
 WHERE o.copies = 0 OR (true{slice})",
            guard = self.table.guard,
            either = either.join(", "),
            keys = self.keys(),
            full = self.full(),
            live = self.same_key("t", "d"),
            rows = rows_table(self.table.guard),
            logged = self.same_logged_key("g", "d"),
            now = now.join(", "),
            then = then.join(", "),
            slice = self.of_slice("o"),
        )
    }

    /// Refuses if it cannot be told which of two rows went first: statements in the midst of each
    /// other changed it.
    fn in_order(&self, touched: &str) -> String {
        let columns = self.table.columns.iter();
        let (one, other): (Vec<_>, Vec<_>) = columns
            .map(|c| (format!("g.{}", c.logged()), format!("x.{}", c.logged())))
            .unzip();
        let body = format!(
            "DECLARE n bigint;
BEGIN
    CREATE TEMPORARY TABLE unship_amidst ON COMMIT DROP AS
    SELECT a.seq, b.seq AS other FROM unship_undo.changes a
      JOIN unship_undo.changes b ON b.guard = a.guard AND b.xid = a.xid AND b.seq > a.seq
     WHERE {later} AND a.gone > 0 AND b.gone > 0 AND coalesce(b.began, 0) < a.seq
       AND a.op <> 'truncate' AND b.op <> 'truncate';
    IF EXISTS (SELECT FROM pg_temp.unship_amidst) THEN
        SELECT pg_catalog.count(*) INTO n FROM pg_temp.unship_amidst m
          JOIN {touched} d ON d.first = m.seq
          JOIN {rows} g ON g.seq = m.seq AND {same_first}
          JOIN {rows} x ON x.seq = m.other AND {same_other}
         WHERE ROW({one})::record *<> ROW({other})::record;
        IF n > 0 THEN
            RAISE EXCEPTION USING ERRCODE = '{REFUSED}', MESSAGE = pg_catalog.format({message}, n),
                HINT = 'a function that a statement on the table calls changes it too: write these rows by hand, or leave them out';
        END IF;
    END IF;
    DROP TABLE pg_temp.unship_amidst;
END",
            later = self.later("a"),
            rows = rows_table(self.table.guard),
            same_first = self.same_logged_key("g", "d"),
            same_other = self.same_logged_key("x", "d"),
            one = one.join(", "),
            other = other.join(", "),
            message = quote::text(&format!(
                "%s of the rows of {} were changed twice by statements in the midst of each other, \
                 so that the undo log cannot tell what they were",
                escaped(&self.table.name.to_string())
            )),
        );
        format!("DO {}", quote::text(&body))
    }

    /// The keys of rows that others changed after they were changed in a way that is taken back: in
    /// between, or so that they are not what they were left as.
    fn built_on(&self) -> String {
        let columns = &self.table.columns;
        let now: Vec<_> = columns.iter().map(|c| c.read("t")).collect();
        let left: Vec<_> = (columns.iter())
            .map(|c| format!("g.{}", c.logged()))
            .collect();
        format!(
            "SELECT {of_x} FROM (
        SELECT {of_d}, pg_catalog.bool_or(e.seq < d.until) AS amidst,
               coalesce(pg_catalog.sum(e.more) FILTER (WHERE e.seq > d.until), 0) AS more,
               pg_catalog.min(e.seq) FILTER (WHERE e.seq > d.until AND e.more < 0) AS first
          FROM {keys} d JOIN pg_temp.unship_others e ON e.seq > d.since AND {same}
         GROUP BY {of_d}) x
      LEFT JOIN {full} t ON {live}
      LEFT JOIN {rows} g ON g.seq = x.first AND {logged}
     WHERE x.amidst OR CASE (t.tableoid IS NOT NULL)::int - x.more
           WHEN 1 THEN t.tableoid IS NULL OR ROW({now})::record *<> ROW({left})::record
           WHEN 0 THEN t.tableoid IS NOT NULL ELSE true END",
            of_x = self.key("x"),
            of_d = self.key("d"),
            keys = self.keys(),
            same = self.same_logged_key("e", "d"),
            full = self.full(),
            live = self.same_key("t", "x"),
            rows = rows_table(self.table.guard),
            logged = self.same_logged_key("g", "x"),
            now = now.join(", "),
            left = left.join(", "),
        )
    }

    /// Refuses if others changed these rows since, or have rows where some would come.
    fn untouched(&self) -> String {
        let name = escaped(&self.table.name.to_string());
        let refuse = |message: &str, hint: &str| {
            format!(
                "IF n > 0 THEN
        SELECT pg_catalog.string_agg(DISTINCT pg_catalog.concat(c.role, ' (', c.application, ')'), ', ') INTO who
          FROM unship_undo.changes c JOIN pg_temp.unship_others e ON e.seq = c.seq AND c.guard = {guard}
          JOIN pg_temp.unship_conflicts x ON {same};
        RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
            MESSAGE = pg_catalog.format({message}, n, coalesce('by ' || who, 'by somebody, in a way that the undo log did not see')),
            HINT = {hint};
    END IF;",
                guard = self.table.guard,
                same = self.same_logged_key("e", "x"),
                message = quote::text(message),
                hint = quote::text(hint),
            )
        };
        let changed = refuse(
            &format!("%s of the rows of {name} that would go back were changed again since, %s"),
            "take back what they wrote too, or leave these rows out",
        );
        let taken = refuse(
            &format!(
                "%s rows of {name} that would come back have keys that rows have now which do not go: written %s"
            ),
            "take back more of the table, so that these rows go too",
        );
        // What happened later to a row that is taken back, by somebody whose changes stay. What they
        // took back themselves is nothing.
        let (others, touched) = match self.scope.is_of_some() {
            false => (
                "true".to_owned(),
                format!(
                    "SELECT {} FROM {} d WHERE false",
                    self.key("d"),
                    self.keys()
                ),
            ),
            true => (format!("NOT ({})", self.by_writer("c")), self.built_on()),
        };
        let only = match self.scope.rows.is_some() {
            false => String::new(),
            true => format!(
                " WHERE EXISTS (SELECT FROM {} o WHERE {})",
                self.differing(),
                self.same_logged_key("o", "x")
            ),
        };
        let body = format!(
            "DECLARE n bigint; who text;
BEGIN
    CREATE TEMPORARY TABLE unship_others ON COMMIT DROP AS
    WITH later AS MATERIALIZED (SELECT c.seq FROM unship_undo.changes c WHERE {later} AND {others})
    SELECT * FROM ({events}) e WHERE {needed};
    CREATE TEMPORARY TABLE unship_conflicts ON COMMIT DROP AS
    SELECT {of_x} FROM ({touched}) x{only}
     UNION SELECT {of_o} FROM {differing} o WHERE o.copies = 0;
    SELECT pg_catalog.count(*) INTO n FROM pg_temp.unship_conflicts;
    {changed}
    INSERT INTO pg_temp.unship_conflicts
    SELECT {of_o} FROM {differing} o WHERE o.copies > 0 AND EXISTS (
        SELECT FROM {full} t WHERE {live} AND NOT EXISTS (SELECT FROM {differing} g
         WHERE g.copies < 0 AND {goes}));
    SELECT pg_catalog.count(*) INTO n FROM pg_temp.unship_conflicts;
    {taken}
    DROP TABLE pg_temp.unship_conflicts, pg_temp.unship_others;
END",
            later = self.later("c"),
            events = self.events("later"),
            // Nobody else's changes stay of a whole table.
            needed = !self.scope.is_all(),
            of_x = self.key("x"),
            of_o = self.key("o"),
            differing = self.differing(),
            full = self.full(),
            live = self.same_key("t", "o"),
            goes = self.same_logged_key("g", "o"),
        );
        format!("DO {}", quote::text(&body))
    }
}
