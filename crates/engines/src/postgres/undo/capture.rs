//! The triggers that write changes down, as SQL.
//!
//! Rows that go are written down whole. Of rows that come their primary key is enough, where there is
//! one: the row is still in the table, or was written down when it went. Their keys lie in arrays, so
//! that inserting costs little more than before.

use super::shape::{Brief, Column, Part};
use crate::postgres::quote;

/// What the names of the triggers begin with.
pub const TRIGGER: &str = "unship_undo";

/// The triggers of a part: what they are for, when they fire and what they see.
const TRIGGERS: [(&str, &str); 3] = [
    (
        "insert",
        "AFTER INSERT ON {} REFERENCING NEW TABLE AS come_rows",
    ),
    (
        "update",
        "AFTER UPDATE ON {} REFERENCING OLD TABLE AS gone_rows NEW TABLE AS come_rows",
    ),
    (
        "delete",
        "AFTER DELETE ON {} REFERENCING OLD TABLE AS gone_rows",
    ),
];

/// The statements of which it is known when they began.
const BEGINNINGS: [&str; 3] = ["insert", "update", "delete"];

/// How many keys are held in memory at a time.
const KEYS_AT_ONCE: i64 = 250_000;

/// How often a statement's rows are passed over for that many. What is left then is written down
/// row by row: each passing has to skip what was had before.
const PASSES: i64 = 8;

/// A hash of what capturing depends on: the names, numbers and types of a relation's columns. A
/// length may change as it likes.
pub fn shape_of(relation: &str) -> String {
    format!(
        "(SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hashtextextended(\
         pg_catalog.concat(a.attname, ' ', a.attgenerated), (a.attnum::bigint << 40) # a.atttypid::bigint))) \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped)"
    )
}

/// The table of a guard's rows.
pub fn rows_table(guard: i64) -> String {
    format!("unship_undo.rows_{guard}")
}

/// The table of the keys of a guard's rows that came.
pub fn keys_table(guard: i64) -> String {
    format!("unship_undo.keys_{guard}")
}

/// Makes the tables that a guard's rows are kept in. An index would be paid for by everybody who
/// writes: one by blocks took as long as the row itself. Whoever goes back reads the log instead.
pub fn make_rows(guard: i64, columns: &[Column], brief: Option<&Brief>) -> String {
    let list = |columns: &mut dyn Iterator<Item = &Column>, array: &str| {
        let mut list = String::new();
        for column in columns {
            list.push_str(&format!(", {} {}{array}", column.logged(), column.kept));
            if let Some(collation) = &column.collation {
                list.push_str(&format!(" COLLATE {collation}"));
            }
        }
        list
    };
    let rows = rows_table(guard);
    let all = list(&mut columns.iter(), "");
    let Some(brief) = brief else {
        return format!("CREATE TABLE {rows} (seq bigint NOT NULL, sign smallint NOT NULL{all})");
    };
    let (keys, key) = (keys_table(guard), of_key(columns, brief));
    // Compressing numbers costs more than it saves.
    let plain: Vec<_> = (key.iter())
        .map(|column| format!("ALTER {} SET STORAGE EXTERNAL", column.logged()))
        .collect();
    format!(
        "CREATE TABLE {rows} (seq bigint NOT NULL{all}); \
         CREATE TABLE {keys} (seq bigint NOT NULL{}); ALTER TABLE {keys} {}",
        list(&mut key.into_iter(), "[]"),
        plain.join(", ")
    )
}

/// The columns of the key, in its order.
fn of_key<'a>(columns: &'a [Column], brief: &Brief) -> Vec<&'a Column> {
    let of = |number: &i16| columns.iter().find(|column| column.number == *number);
    brief.columns.iter().filter_map(of).collect()
}

fn names(columns: &[&Column]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.logged()).collect();
    names.join(", ")
}

fn values(columns: &[&Column]) -> String {
    let values: Vec<_> = columns.iter().map(|column| column.read("r")).collect();
    values.join(", ")
}

/// Writes rows down, whole: into a variable of the function goes how many there were.
fn whole(guard: i64, columns: &[Column], sign: Option<i8>, from: &str) -> String {
    let all: Vec<_> = columns.iter().collect();
    let (name, value) = match sign {
        Some(sign) => (", sign", format!(", {sign}")),
        None => ("", String::new()),
    };
    format!(
        "INSERT INTO {} (seq{name}, {}) SELECT place{value}, {} FROM {from} r",
        rows_table(guard),
        names(&all),
        values(&all)
    )
}

/// Writes the keys of rows that came down, many at a time.
fn keys(guard: i64, columns: &[Column], brief: &Brief) -> String {
    let key = of_key(columns, brief);
    let into = format!("INSERT INTO {} (seq, {})", keys_table(guard), names(&key));
    let each = |how: &dyn Fn(String) -> String| {
        let each: Vec<_> = (key.iter().map(|column| how(column.read("r")))).collect();
        each.join(", ")
    };
    format!(
        "FOR pass IN 0 .. {last} LOOP
                {into} SELECT place, {gathered}
                  FROM (SELECT * FROM come_rows LIMIT {KEYS_AT_ONCE} OFFSET pass * {KEYS_AT_ONCE}) r
                HAVING pg_catalog.count(*) > 0
                RETURNING pg_catalog.cardinality({first}) INTO n;
                come_n := come_n + coalesce(n, 0);
                EXIT WHEN n IS DISTINCT FROM {KEYS_AT_ONCE};
                IF pass = {last} THEN
                    {into} SELECT place, {alone}
                      FROM (SELECT * FROM come_rows OFFSET (pass + 1) * {KEYS_AT_ONCE}) r;
                    GET DIAGNOSTICS n = ROW_COUNT;
                    come_n := come_n + n;
                END IF;
            END LOOP",
        last = PASSES - 1,
        gathered = each(&|value| format!("pg_catalog.array_agg({value})")),
        alone = each(&|value| format!("ARRAY[{value}]")),
        first = key
            .first()
            .map(|column| column.logged())
            .unwrap_or_default(),
    )
}

/// Makes the function and the triggers of a part. `shape` is the part's now.
pub fn make(
    guard: i64,
    part: &Part,
    columns: &[Column],
    brief: Option<&Brief>,
    shape: &str,
) -> Vec<String> {
    let function = format!("unship_undo.capture_{guard}_{}", part.relation);
    let gone = whole(guard, columns, brief.is_none().then_some(-1), "gone_rows");
    let come = match brief {
        Some(brief) => keys(guard, columns, brief),
        None => format!(
            "{}; GET DIAGNOSTICS come_n = ROW_COUNT",
            whole(guard, columns, Some(1), "come_rows")
        ),
    };
    // By its identity: it may be renamed and moved.
    let emptied = whole(guard, columns, brief.is_none().then_some(-1), "ONLY");
    let emptied = emptied.replacen("SELECT place", "SELECT $1", 1);
    let emptied = format!(
        "EXECUTE pg_catalog.concat({}, TG_RELID::pg_catalog.regclass, ' r') USING place",
        quote::text(emptied.trim_end_matches('r'))
    );
    // Statements of one transaction may be in the midst of each other: by when they began that is
    // seen. What fails takes its mark along.
    let (begin, begun) = match brief {
        None => (String::new(), String::new()),
        Some(_) => (
            "
    IF TG_WHEN = 'BEFORE' AND TG_OP <> 'TRUNCATE' THEN
        PERFORM pg_catalog.set_config(mark, pg_catalog.concat(pg_catalog.current_setting(mark, true), ' ', place), true);
        RETURN NULL;
    END IF;"
                .to_owned(),
            "
    IF TG_OP <> 'TRUNCATE' THEN
        open := pg_catalog.current_setting(mark, true);
        began := pg_catalog.substring(open, '[0-9]{1,18}$');
        PERFORM pg_catalog.set_config(mark, pg_catalog.rtrim(pg_catalog.left(open, -pg_catalog.length(began::text))), true);
    END IF;"
                .to_owned(),
        ),
    };
    let body = format!(
        "
DECLARE
    mark text := pg_catalog.concat('unship.began_', TG_RELID, '_', TG_OP);
    place bigint := pg_catalog.nextval('unship_undo.seq');
    open text;
    began bigint;
    n bigint;
    gone_n bigint := 0;
    come_n bigint := 0;
    unseen text;
BEGIN{begin}{begun}
    IF {shape_now} IS DISTINCT FROM {shape} THEN
        unseen := 'its columns had been altered';
    ELSIF TG_OP = 'TRUNCATE' THEN
        IF TG_WHEN = 'AFTER' THEN
            UPDATE unship_undo.parts SET file = pg_catalog.pg_relation_filenode(TG_RELID)
             WHERE guard = {guard} AND relation = TG_RELID;
            RETURN NULL;
        ELSIF pg_catalog.current_setting('transaction_isolation') NOT LIKE 'read %' THEN
            unseen := 'the transaction that emptied it could not see all of its rows';
        ELSE
            {emptied};
            GET DIAGNOSTICS gone_n = ROW_COUNT;
        END IF;
    ELSE
        IF TG_OP <> 'INSERT' THEN
            {gone};
            GET DIAGNOSTICS gone_n = ROW_COUNT;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            {come};
        END IF;
    END IF;
    IF gone_n + come_n > 0 OR unseen IS NOT NULL THEN
        INSERT INTO unship_undo.changes (seq, began, guard, op, role, application, release, gone, come, note)
        VALUES (place, began, {guard}, CASE WHEN unseen IS NULL THEN pg_catalog.lower(TG_OP) ELSE 'unseen' END,
            coalesce(nullif(pg_catalog.current_setting('role'), 'none'), session_user),
            pg_catalog.current_setting('application_name'),
            nullif(pg_catalog.current_setting('unship.release', true), ''),
            gone_n, come_n, unseen);
    END IF;
    RETURN NULL;
END",
        shape_now = shape_of("TG_RELID"),
        shape = quote::text(shape),
    );
    // What is kept as text must be written so that it can be read again exactly.
    let settings = "SET search_path = pg_catalog, pg_temp SET extra_float_digits = 3 \
                    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET bytea_output = 'hex' \
                    SET row_security = off";
    let as_text = columns.iter().any(|column| column.kept != column.data_type);
    let settings = match as_text {
        true => settings,
        false => "SET search_path = pg_catalog, pg_temp SET row_security = off",
    };
    let mut out = vec![
        format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
             {settings} AS {}",
            quote::text(&body)
        ),
        format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
    ];
    let mut trigger = |name: &str, event: &str| {
        let name = format!("{TRIGGER}_{name}");
        out.push(format!(
            "CREATE TRIGGER {name} {event} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ));
        // Also for what only replays what others did.
        out.push(format!(
            "ALTER TABLE {} ENABLE ALWAYS TRIGGER {name}",
            part.full
        ));
    };
    for (name, event) in TRIGGERS {
        trigger(name, &event.replace("{}", &part.full));
    }
    for name in BEGINNINGS.iter().filter(|_| brief.is_some()) {
        let event = format!("BEFORE {name} ON {}", part.full);
        trigger(&format!("begin_{name}"), &event);
    }
    if part.stores {
        trigger("empty", &format!("BEFORE TRUNCATE ON {}", part.full));
        trigger("emptied", &format!("AFTER TRUNCATE ON {}", part.full));
    }
    out
}
