SELECT r.ev_class, jsonb_build_object(
    'name', r.rulename,
    'definition', pg_get_ruledef(r.oid),
    'enabled', r.ev_enabled,
    'inherited', false,
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = r.ev_class), '[]'),
    'comment', obj_description(r.oid, 'pg_rewrite')
)::text
FROM pg_rewrite r
WHERE r.ev_class = ANY($1) AND r.rulename <> '_RETURN'
ORDER BY r.ev_class, r.rulename
