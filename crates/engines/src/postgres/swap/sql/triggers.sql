SELECT t.tgrelid, jsonb_build_object(
    'name', t.tgname,
    'definition', pg_get_triggerdef(t.oid),
    'enabled', t.tgenabled,
    'inherited', coalesce((to_jsonb(t) ->> 'tgparentid')::int8, 0) <> 0,
    'columns', coalesce((
        SELECT jsonb_agg(DISTINCT u.attname) FROM pg_depend d JOIN pg_attribute u
            ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid
        WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.refobjsubid > 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.tgrelid), '[]'),
    'comment', obj_description(t.oid, 'pg_trigger')
)::text
FROM pg_trigger t
JOIN pg_proc f ON f.oid = t.tgfoid
JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE t.tgrelid = ANY($1) AND NOT t.tgisinternal AND fn.nspname <> 'unship_undo'
ORDER BY t.tgrelid, t.tgname
