-- Names that are taken, and the relation that each goes with.
SELECT n.nspname::text, c.relname::text, 'relation',
    CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
        WHEN 'm' THEN 'materialised view' WHEN 'f' THEN 'foreign table' WHEN 'S' THEN 'sequence'
        WHEN 'c' THEN 'composite type' ELSE 'index' END,
    coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = c.oid),
        (SELECT d.refobjid FROM pg_depend d WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass
            AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1),
        c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1::text[])
UNION ALL
SELECT n.nspname::text, t.typname::text, 'type', 'type',
    coalesce(nullif(t.typrelid, 0), nullif(e.typrelid, 0), t.oid)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.typarray = t.oid
WHERE n.nspname = ANY($1::text[])
UNION ALL
SELECT n.nspname::text, s.stxname::text, 'statistics', 'extended statistics', s.stxrelid
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE n.nspname = ANY($1::text[])
ORDER BY 3, 1, 2, 4
