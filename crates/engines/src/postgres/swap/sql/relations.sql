SELECT jsonb_build_object(
    'oid', c.oid::int8,
    'schema', n.nspname,
    'name', c.relname,
    'sql', format('%I.%I', n.nspname, c.relname),
    'kind', c.relkind,
    'persistence', c.relpersistence,
    'owner', pg_get_userbyid(c.relowner),
    'grants', CASE WHEN c.relacl IS NOT NULL THEN coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'to', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
            'privilege', privilege_type, 'grantable', is_grantable))
        FROM aclexplode(c.relacl) WHERE grantee <> c.relowner), '[]') END,
    'row_security', c.relrowsecurity,
    'force_row_security', c.relforcerowsecurity,
    'options', to_jsonb(coalesce(c.reloptions, '{}') || coalesce((
        SELECT array_agg('toast.' || o) FROM pg_class t, unnest(t.reloptions) o
        WHERE t.oid = c.reltoastrelid), '{}')),
    'replica_identity', c.relreplident,
    'tablespace', s.spcname,
    'access_method', a.amname,
    'comment', obj_description(c.oid, 'pg_class'),
    'labels', coalesce((
        SELECT jsonb_agg(jsonb_build_object('provider', l.provider, 'label', l.label,
            'column', (SELECT attname FROM pg_attribute
                       WHERE attrelid = c.oid AND attnum = l.objsubid AND attnum > 0)))
        FROM pg_seclabel l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = c.oid), '[]'),
    'of_type', format_type(nullif(c.reloftype, 0), NULL),
    'partition', c.relispartition,
    'extension', (
        SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
            AND d.refclassid = 'pg_extension'::regclass),
    'populated', c.relispopulated,
    'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END
)::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
LEFT JOIN pg_am a ON a.oid = c.relam
WHERE c.oid = ANY($1)
ORDER BY c.oid
