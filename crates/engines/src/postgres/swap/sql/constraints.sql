-- Inherited foreign keys and keys of partitions come with the parent's.
SELECT k.conrelid, jsonb_build_object(
    'name', k.conname,
    'kind', k.contype,
    'definition', pg_get_constraintdef(k.oid),
    'foreign', nullif(k.confrelid, 0)::int8,
    'prefix', CASE WHEN k.contype = 'f' THEN 'FOREIGN KEY (' || (
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY i)
        FROM unnest(k.conkey) WITH ORDINALITY AS u(num, i)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num) || ') REFERENCES ' END,
    'target', CASE WHEN k.contype = 'f' THEN (
        SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = k.confrelid) END,
    'inherited', k.conparentid <> 0 OR k.coninhcount > 0,
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.conrelid), '[]'),
    'comment', obj_description(k.oid, 'pg_constraint')
)::text
FROM pg_constraint k
WHERE k.conrelid = ANY($1)
ORDER BY k.conrelid, CASE k.contype WHEN 'p' THEN 0 WHEN 'u' THEN 1 ELSE 2 END, k.conname
