//! Where the undo log is kept.

use crate::postgres::error::Doing;
use postgres::GenericClient;
use unship_core::engine::EngineError;

/// The schema of the undo log. Nobody but the role that unship works as can look into it: it holds
/// rows of tables that others may not read.
pub const SCHEMA: &str = "unship_undo";

/// Its tables. `guards` are the tables that are logged, a new one each time that a table's columns
/// changed; `parts` are each guard's table or partitions, as they were when they were last looked
/// at; `changes` has a row for each statement, with the numbers that were drawn before it began and
/// after it ended. The rows themselves are in `rows_N` of guard N; where a table has a primary key,
/// these are only those that went, and `keys_N` has the keys of those that came.
pub const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS unship_undo;
    COMMENT ON SCHEMA unship_undo IS 'What unship needs to take changes back in tables that are written where they stand.';
    CREATE SEQUENCE IF NOT EXISTS unship_undo.seq;
    CREATE TABLE IF NOT EXISTS unship_undo.guards (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        relation oid NOT NULL,
        schema text NOT NULL,
        name text NOT NULL,
        columns jsonb NOT NULL,
        key int2[] NOT NULL,
        key_is oid,
        since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
        trimmed xid8,
        trimmed_seq bigint,
        ended timestamptz,
        because text
    );
    CREATE UNIQUE INDEX IF NOT EXISTS guards_open ON unship_undo.guards (relation) WHERE ended IS NULL;
    CREATE TABLE IF NOT EXISTS unship_undo.parts (
        guard bigint NOT NULL,
        relation oid NOT NULL,
        shape text NOT NULL,
        altered text NOT NULL,
        triggers text NOT NULL,
        file oid,
        PRIMARY KEY (guard, relation)
    );
    CREATE TABLE IF NOT EXISTS unship_undo.changes (
        seq bigint NOT NULL,
        began bigint,
        guard bigint NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
        op text NOT NULL,
        at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        role text NOT NULL,
        application text NOT NULL,
        release text,
        gone bigint NOT NULL DEFAULT 0,
        come bigint NOT NULL DEFAULT 0,
        stands text,
        moment text,
        note text,
        PRIMARY KEY (guard, seq)
    );
    CREATE INDEX IF NOT EXISTS changes_by_transaction ON unship_undo.changes (guard, xid);";

/// Whether there is an undo log in this database.
pub fn there(client: &mut impl GenericClient) -> Result<bool, EngineError> {
    const WHAT: &str = "look for the undo log";
    let sql = "SELECT pg_catalog.to_regclass('unship_undo.changes') IS NOT NULL";
    let row = client.query_one(sql, &[]).doing(WHAT)?;
    row.try_get(0).doing(WHAT)
}
