-- The relations asked for, their partitions and children, and every view above them.
WITH RECURSIVE asked AS (
    SELECT c.oid
    FROM unnest($1::text[], $2::text[]) AS a(schema, name)
    JOIN pg_namespace n ON n.nspname = a.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = a.name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), below AS (
    SELECT oid FROM asked
    UNION
    SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid
), above AS (
    SELECT oid FROM below
    UNION
    SELECT v.oid
    FROM above
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.oid
        AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
)
SELECT coalesce(array_agg(c.oid ORDER BY c.oid), '{}')
FROM above JOIN pg_class c USING (oid) WHERE c.relkind <> 'i' AND c.relkind <> 'I'
