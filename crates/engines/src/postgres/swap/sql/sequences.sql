SELECT d.refobjid, jsonb_build_object(
    'schema', n.nspname,
    'name', c.relname,
    'column', a.attname,
    'identity', d.deptype = 'i',
    'type', format_type(s.seqtypid, NULL),
    'start', s.seqstart,
    'increment', s.seqincrement,
    'min', s.seqmin,
    'max', s.seqmax,
    'cache', s.seqcache,
    'cycle', s.seqcycle,
    'grants', CASE WHEN c.relacl IS NOT NULL THEN coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'to', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
            'privilege', privilege_type, 'grantable', is_grantable))
        FROM aclexplode(c.relacl) WHERE grantee <> c.relowner), '[]') END,
    'comment', obj_description(c.oid, 'pg_class')
)::text
FROM pg_depend d
JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = ANY($1) AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
ORDER BY d.refobjid, c.relname
