SELECT a.attrelid, jsonb_build_object(
    'number', a.attnum,
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'collation', CASE WHEN a.attcollation <> t.typcollation AND a.attcollation <> 0
        THEN (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l
              JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
    'not_null', a.attnotnull,
    'default', pg_get_expr(d.adbin, d.adrelid),
    'identity', nullif(a.attidentity, ''),
    'generated', nullif(a.attgenerated, ''),
    'statistics', coalesce(a.attstattarget, -1),
    'storage', CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage
        WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
    'compression', CASE to_jsonb(a) ->> 'attcompression' WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
    'options', to_jsonb(coalesce(a.attoptions, '{}')),
    'grants', CASE WHEN a.attacl IS NOT NULL THEN coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'to', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
            'privilege', privilege_type, 'grantable', is_grantable))
        FROM aclexplode(a.attacl)), '[]') END,
    'comment', col_description(a.attrelid, a.attnum)
)::text
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
