SELECT s.stxrelid, jsonb_build_object(
    'schema', n.nspname,
    'name', s.stxname,
    'definition', pg_get_statisticsobjdef(s.oid),
    'sql', format('%I.%I', n.nspname, s.stxname),
    'target', coalesce((to_jsonb(s) ->> 'stxstattarget')::int, -1),
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.stxrelid), '[]'),
    'comment', obj_description(s.oid, 'pg_statistic_ext')
)::text
FROM pg_statistic_ext s
JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid = ANY($1)
ORDER BY s.stxrelid, n.nspname, s.stxname
