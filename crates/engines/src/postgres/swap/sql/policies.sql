SELECT p.polrelid, jsonb_build_object(
    'name', p.polname,
    'command', p.polcmd,
    'permissive', p.polpermissive,
    'roles', (SELECT jsonb_agg(CASE WHEN r <> 0 THEN pg_get_userbyid(r) END) FROM unnest(p.polroles) r),
    'using', pg_get_expr(p.polqual, p.polrelid),
    'check', pg_get_expr(p.polwithcheck, p.polrelid),
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid), '[]'),
    'comment', obj_description(p.oid, 'pg_policy')
)::text
FROM pg_policy p
WHERE p.polrelid = ANY($1)
ORDER BY p.polrelid, p.polname
