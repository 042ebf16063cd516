-- What views read, what foreign keys refer to, and whose partition or child something is, with the
-- place of each.
SELECT DISTINCT u.oid, c.oid, n.nspname::text, c.relname::text, u.read
FROM (
    SELECT r.ev_class AS oid, d.refobjid AS target, true AS read
    FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    WHERE r.ev_class = ANY($1) AND r.rulename = '_RETURN'
    UNION ALL
    SELECT conrelid, confrelid, false FROM pg_constraint
    WHERE conrelid = ANY($1) AND contype = 'f'
    UNION ALL
    SELECT inhrelid, inhparent, false FROM pg_inherits WHERE inhrelid = ANY($1)
) u
JOIN pg_class c ON c.oid = u.target
JOIN pg_namespace n ON n.oid = c.relnamespace
