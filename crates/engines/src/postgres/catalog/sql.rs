//! The catalog queries. `$1` is the list of schemas; each answers for all of their relations at once.

/// Objects that an extension made are its own.
macro_rules! not_of_an_extension {
    ($class:literal, $oid:literal) => {
        concat!(
            " AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '",
            $class,
            "'::regclass AND e.objid = ",
            $oid,
            " AND e.deptype = 'e')"
        )
    };
}

pub const NAMESPACES: &str = "
    SELECT n.oid::int8 AS oid, n.nspname AS name, quote_ident(n.nspname) AS quoted,
           obj_description(n.oid, 'pg_namespace') AS comment
      FROM pg_namespace n ORDER BY n.nspname";

pub const RELATIONS: &str = concat!(
    "
    SELECT c.oid::int8 AS oid, c.relnamespace::int8 AS namespace, c.relname AS name,
           c.relkind AS kind, c.relpersistence AS persistence, c.relispopulated AS populated,
           coalesce((SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) o), '{}') AS options,
           nullif(am.amname, 'heap') AS method, ts.spcname AS tablespace,
           c.relreplident AS replica_identity, c.relrowsecurity AS row_security,
           c.relforcerowsecurity AS force_row_security,
           obj_description(c.oid, 'pg_class') AS comment,
           CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
           CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bound,
           CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid::int8 END AS root,
           CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS of_type,
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS query,
           fs.srvname AS server,
           (SELECT array_agg(o ORDER BY o) FROM unnest(ft.ftoptions) o) AS server_options,
           CASE WHEN c.relkind IN ('r', 'm') THEN concat_ws(' ', c.oid,
               pg_relation_filenode(c.oid), pg_relation_size(c.oid),
               pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
               pg_stat_get_tuples_deleted(c.oid)) WHEN c.relkind <> 'p' THEN c.oid::text END
               AS storage
      FROM pg_class c
      LEFT JOIN pg_am am ON am.oid = c.relam
      LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
      LEFT JOIN pg_foreign_table ft ON ft.ftrelid = c.oid
      LEFT JOIN pg_foreign_server fs ON fs.oid = ft.ftserver
     WHERE c.relnamespace = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
    not_of_an_extension!("pg_class", "c.oid"),
    " ORDER BY c.oid"
);

/// `{compression}` is the column of that name, from PostgreSQL 14 on.
pub const COLUMNS: &str = "
    SELECT a.attrelid::int8 AS relation, a.attname AS name,
           format_type(a.atttypid, a.atttypmod) AS data_type,
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname END AS base,
           a.attnotnull AS not_null, a.attidentity AS identity, a.attgenerated AS generated,
           pg_get_expr(d.adbin, d.adrelid) AS default,
           CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END
               AS collation,
           coalesce((SELECT array_agg(o ORDER BY o) FROM unnest(a.attoptions) o), '{}') AS options,
           CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END AS storage,
           nullif({compression}::text, '') AS compression,
           CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END AS statistics,
           col_description(a.attrelid, a.attnum) AS comment
      FROM pg_attribute a
      JOIN pg_class c ON c.oid = a.attrelid
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE c.relnamespace = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, a.attnum";

/// What hangs on a relation, as statements. `rank` is the order in a definition.
///
/// Names of what a constraint stands on are in its own text; a partition's copies of its parent's
/// constraints, indexes and triggers come with the parent's.
pub const PARTS: &str = "
    WITH r AS MATERIALIZED (SELECT c.oid, c.relname FROM pg_class c
         WHERE c.relnamespace = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))
    SELECT relation::int8 AS relation, name, sort, text, state, comment FROM (
        SELECT k.conrelid AS relation, k.conname AS name, 1 AS rank, 'constraint' AS sort,
               pg_get_constraintdef(k.oid) AS text, '' AS state,
               obj_description(k.oid, 'pg_constraint') AS comment
          FROM pg_constraint k JOIN r ON r.oid = k.conrelid
         WHERE k.contype IN ('p', 'u', 'x', 'c', 'f') AND k.conparentid = 0
           AND (k.conislocal OR k.contype <> 'c')
        UNION ALL
        SELECT i.indrelid, ic.relname, 2, 'index', pg_get_indexdef(i.indexrelid),
               concat(CASE WHEN NOT i.indisvalid THEN ' (not valid)' END,
                      CASE WHEN i.indisclustered THEN ' (clustered on)' END,
                      CASE WHEN i.indisreplident THEN ' (replica identity)' END),
               obj_description(i.indexrelid, 'pg_class')
          FROM pg_index i JOIN r ON r.oid = i.indrelid JOIN pg_class ic ON ic.oid = i.indexrelid
         WHERE NOT ic.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k
             WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid
               AND k.contype IN ('p', 'u', 'x'))
        UNION ALL
        SELECT s.stxrelid, s.stxname, 3, 'statistics', pg_get_statisticsobjdef(s.oid), '',
               obj_description(s.oid, 'pg_statistic_ext')
          FROM pg_statistic_ext s JOIN r ON r.oid = s.stxrelid
        UNION ALL
        SELECT w.ev_class, w.rulename, 4, 'rule', pg_get_ruledef(w.oid),
               CASE w.ev_enabled WHEN 'O' THEN '' ELSE ' (enabled ' || w.ev_enabled::text || ')' END,
               obj_description(w.oid, 'pg_rewrite')
          FROM pg_rewrite w JOIN r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
        UNION ALL
        SELECT t.tgrelid, t.tgname, 5, 'trigger', pg_get_triggerdef(t.oid),
               CASE t.tgenabled WHEN 'O' THEN '' ELSE ' (enabled ' || t.tgenabled::text || ')' END,
               obj_description(t.oid, 'pg_trigger')
          FROM pg_trigger t JOIN r ON r.oid = t.tgrelid
          JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
         WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND fn.nspname <> 'unship_undo'
        UNION ALL
        SELECT p.polrelid, p.polname, 6, 'policy', concat('FOR ', p.polcmd,
                 CASE WHEN p.polpermissive THEN '' ELSE ' RESTRICTIVE' END, ' TO ',
                 (SELECT string_agg(CASE o WHEN 0 THEN 'public' ELSE pg_get_userbyid(o)::text END,
                         ', ' ORDER BY o) FROM unnest(p.polroles) o),
                 ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                 ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'), '',
               obj_description(p.oid, 'pg_policy')
          FROM pg_policy p JOIN r ON r.oid = p.polrelid
        UNION ALL
        SELECT d.refobjid, sc.relname, 7, 'sequence', concat_ws(' ', 'AS', format_type(q.seqtypid,
                 NULL), 'START', q.seqstart, 'INCREMENT', q.seqincrement, 'MIN', q.seqmin, 'MAX',
                 q.seqmax, 'CACHE', q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' END), '',
               obj_description(sc.oid, 'pg_class')
          FROM pg_depend d JOIN r ON r.oid = d.refobjid
          JOIN pg_class sc ON sc.oid = d.objid AND sc.relkind = 'S'
          JOIN pg_sequence q ON q.seqrelid = sc.oid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
           AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT h.inhrelid, '', 0, 'parent', h.inhparent::regclass::text, '', NULL
          FROM pg_inherits h JOIN r ON r.oid = h.inhrelid
    ) parts ORDER BY relation, rank, name";

/// Views and materialised views that read a relation.
pub const DEPENDENTS: &str = "
    SELECT DISTINCT d.refobjid::int8 AS relation, v.relnamespace::int8 AS namespace,
           v.relname AS name
      FROM pg_depend d
      JOIN pg_rewrite w ON w.oid = d.objid
      JOIN pg_class v ON v.oid = w.ev_class
      JOIN pg_class c ON c.oid = d.refobjid
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
       AND c.relnamespace = ANY($1) AND v.oid <> c.oid AND v.relkind IN ('v', 'm')";

/// Sequences that no column owns, functions and types, with their definitions.
pub const OTHERS: &str = concat!(
    "
    SELECT c.relnamespace::int8 AS namespace, c.relname::text AS name, 'sequence' AS kind,
           concat_ws(' ', 'AS', format_type(q.seqtypid, NULL), 'START', q.seqstart, 'INCREMENT',
             q.seqincrement, 'MIN', q.seqmin, 'MAX', q.seqmax, 'CACHE', q.seqcache,
             CASE WHEN q.seqcycle THEN 'CYCLE' END) AS text,
           obj_description(c.oid, 'pg_class') AS comment
      FROM pg_class c JOIN pg_sequence q ON q.seqrelid = c.oid
     WHERE c.relnamespace = ANY($1) AND NOT EXISTS (SELECT FROM pg_depend d
           WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
             AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))",
    not_of_an_extension!("pg_class", "c.oid"),
    "
    UNION ALL
    SELECT p.pronamespace::int8, concat(p.proname, '(', pg_get_function_identity_arguments(p.oid),
             ')'), 'macro',
           CASE WHEN p.prokind = 'a' THEN concat('aggregate ', a.aggtransfn::oid::regprocedure, ' ',
             format_type(a.aggtranstype, NULL), ' ', a.aggfinalfn::oid::regprocedure, ' ',
             a.agginitval) ELSE pg_get_functiondef(p.oid) END,
           obj_description(p.oid, 'pg_proc')
      FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
     WHERE p.pronamespace = ANY($1)",
    not_of_an_extension!("pg_proc", "p.oid"),
    "
    UNION ALL
    SELECT t.typnamespace::int8, t.typname::text, 'type',
           CASE t.typtype
           WHEN 'e' THEN (SELECT 'ENUM (' || string_agg(quote_literal(l.enumlabel), ', '
                            ORDER BY l.enumsortorder) || ')' FROM pg_enum l
                           WHERE l.enumtypid = t.oid)
           WHEN 'd' THEN concat_ws(' ', 'DOMAIN', format_type(t.typbasetype, t.typtypmod),
                            'DEFAULT ' || t.typdefault, CASE WHEN t.typnotnull THEN 'NOT NULL' END,
                            (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname)
                               FROM pg_constraint k WHERE k.contypid = t.oid))
           WHEN 'r' THEN (SELECT 'RANGE OF ' || format_type(g.rngsubtype, NULL) FROM pg_range g
                           WHERE g.rngtypid = t.oid)
           ELSE (SELECT 'ROW (' || string_agg(quote_ident(a.attname) || ' '
                            || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) || ')'
                   FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
                    AND NOT a.attisdropped)
           END, obj_description(t.oid, 'pg_type')
      FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
     WHERE t.typnamespace = ANY($1)
       AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))",
    not_of_an_extension!("pg_type", "t.oid"),
);

/// All that tells whether anything was written: the next transaction's number, and what hangs on
/// statistics that arrive late. One row, one column.
pub const MARK: &str = "
    SELECT concat_ws(' ', pg_snapshot_xmax(pg_current_snapshot()),
        (SELECT md5(string_agg(concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relfilenode,
                c.xmin, pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
                pg_stat_get_tuples_deleted(c.oid)), ',' ORDER BY c.oid))
           FROM pg_class c WHERE c.relnamespace = ANY($1)
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')))";
