-- The column prqual is there from PostgreSQL 15 on; before, NULL takes its place.
SELECT r.prrelid, jsonb_build_object(
    'name', p.pubname,
    'columns', (
        SELECT jsonb_agg(a.attname ORDER BY a.attnum)
        FROM unnest(string_to_array(to_jsonb(r) ->> 'prattrs', ' ')) num
        JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = num::int2),
    'rows', pg_get_expr(r.prqual, r.prrelid)
)::text
FROM pg_publication_rel r
JOIN pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = ANY($1)
ORDER BY r.prrelid, p.pubname
