SELECT i.indrelid, jsonb_build_object(
    'name', c.relname,
    'definition', pg_get_indexdef(c.oid),
    'prefix', format('CREATE %sINDEX %I ON %s%I.%I USING ',
        CASE WHEN i.indisunique THEN 'UNIQUE ' END, c.relname,
        CASE WHEN c.relkind = 'I' THEN 'ONLY ' END, n.nspname, t.relname),
    'constraint', EXISTS (SELECT FROM pg_constraint k
        WHERE k.conindid = c.oid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')),
    'replica_identity', i.indisreplident,
    'clustered', i.indisclustered,
    'valid', i.indisvalid,
    'inherited', c.relispartition,
    'statistics', coalesce((
        SELECT jsonb_agg(jsonb_build_array(a.attnum, a.attstattarget) ORDER BY a.attnum)
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attstattarget IS NOT NULL AND a.attstattarget >= 0), '[]'),
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid), '[]'),
    'comment', obj_description(c.oid, 'pg_class')
)::text
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indrelid = ANY($1)
ORDER BY i.indrelid, c.relname
