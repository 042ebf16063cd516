-- The columns prattrs and prqual are there from PostgreSQL 15 on; before, NULL takes their place.
SELECT r.prrelid, jsonb_build_object(
    'name', p.pubname,
    'columns', (
        SELECT jsonb_agg(a.attname ORDER BY a.attnum)
        FROM unnest(r.prattrs::int2[]) num
        JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = num),
    'rows', pg_get_expr(r.prqual, r.prrelid)
)::text
FROM pg_publication_rel r
JOIN pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = ANY($1)
ORDER BY r.prrelid, p.pubname
