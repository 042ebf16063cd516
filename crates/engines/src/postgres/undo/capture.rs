//! The triggers that write changes down, as SQL.

use super::shape::{Column, Part};
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

/// Makes the table that a guard's rows are kept in. An index would be paid for by everybody who
/// writes: one by blocks took as long as the row itself. Whoever goes back reads the log instead.
pub fn make_rows(guard: i64, columns: &[Column]) -> String {
    let mut list = String::new();
    for column in columns {
        list.push_str(&format!(", {} {}", column.logged(), column.kept));
        if let Some(collation) = &column.collation {
            list.push_str(&format!(" COLLATE {collation}"));
        }
    }
    let table = rows_table(guard);
    format!("CREATE TABLE {table} (seq bigint NOT NULL, sign smallint NOT NULL{list})")
}

/// Makes the function and the triggers of a part. `shape` is the part's now.
pub fn make(guard: i64, part: &Part, columns: &[Column], shape: &str) -> Vec<String> {
    let function = format!("unship_undo.capture_{guard}_{}", part.relation);
    let logged: Vec<_> = columns.iter().map(Column::logged).collect();
    let read: Vec<_> = columns.iter().map(|column| column.read("r")).collect();
    let write = |sign: i8, from: &str| {
        format!(
            "INSERT INTO {} (seq, sign, {}) SELECT place, {sign}, {} FROM {from} r",
            rows_table(guard),
            logged.join(", "),
            read.join(", ")
        )
    };
    // By its identity: it may be renamed and moved.
    let whole = format!(
        "EXECUTE pg_catalog.format({}, TG_RELID::pg_catalog.regclass) USING place",
        quote::text(&format!(
            "INSERT INTO {} (seq, sign, {}) SELECT $1, -1, {} FROM ONLY %s r",
            rows_table(guard),
            logged.join(", "),
            read.join(", ")
        ))
    );
    let body = format!(
        "
DECLARE
    place bigint := pg_catalog.nextval('unship_undo.seq');
    gone_n bigint := 0;
    come_n bigint := 0;
    unseen text;
BEGIN
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
            {whole};
            GET DIAGNOSTICS gone_n = ROW_COUNT;
        END IF;
    ELSE
        IF TG_OP <> 'INSERT' THEN
            {gone};
            GET DIAGNOSTICS gone_n = ROW_COUNT;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            {come};
            GET DIAGNOSTICS come_n = ROW_COUNT;
        END IF;
    END IF;
    IF gone_n + come_n > 0 OR unseen IS NOT NULL THEN
        INSERT INTO unship_undo.changes (seq, guard, op, role, application, release, gone, come, note)
        VALUES (place, {guard}, CASE WHEN unseen IS NULL THEN pg_catalog.lower(TG_OP) ELSE 'unseen' END,
            coalesce(nullif(pg_catalog.current_setting('role'), 'none'), session_user),
            pg_catalog.current_setting('application_name'),
            nullif(pg_catalog.current_setting('unship.release', true), ''),
            gone_n, come_n, unseen);
    END IF;
    RETURN NULL;
END",
        shape_now = shape_of("TG_RELID"),
        shape = quote::text(shape),
        gone = write(-1, "gone_rows"),
        come = write(1, "come_rows"),
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
    if part.stores {
        trigger("empty", &format!("BEFORE TRUNCATE ON {}", part.full));
        trigger("emptied", &format!("AFTER TRUNCATE ON {}", part.full));
    }
    out
}
