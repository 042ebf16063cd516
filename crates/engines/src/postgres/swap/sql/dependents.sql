-- What depends on these relations through anything that moves with them, and is not part of them.
WITH anchors AS (
    SELECT oid AS relid, 'relation' AS through, 'pg_class'::regclass AS catalog, oid AS id
    FROM pg_class WHERE oid = ANY($1)
    UNION ALL
    SELECT oid, 'row type', 'pg_type'::regclass, reltype
    FROM pg_class WHERE oid = ANY($1) AND reltype <> 0
    UNION ALL
    SELECT c.oid, 'array type', 'pg_type'::regclass, t.typarray
    FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = ANY($1) AND t.typarray <> 0
    UNION ALL
    SELECT conrelid, 'constraint', 'pg_constraint'::regclass, oid
    FROM pg_constraint WHERE conrelid = ANY($1)
    UNION ALL
    SELECT indrelid, 'index', 'pg_class'::regclass, indexrelid
    FROM pg_index WHERE indrelid = ANY($1)
    UNION ALL
    SELECT d.refobjid, 'sequence', 'pg_class'::regclass, c.oid
    FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = ANY($1) AND d.deptype IN ('a', 'i')
), found AS (
    SELECT DISTINCT a.relid, a.through, d.refobjsubid AS sub, d.classid, d.objid, d.objsubid,
        CASE d.classid
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = d.objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT nullif(conrelid, 0) FROM pg_constraint WHERE oid = d.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = d.objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = d.objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = d.objid)
            WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxrelid FROM pg_statistic_ext WHERE oid = d.objid)
            WHEN 'pg_publication_rel'::regclass THEN (SELECT prrelid FROM pg_publication_rel WHERE oid = d.objid)
            WHEN 'pg_type'::regclass THEN (SELECT coalesce(nullif(t.typrelid, 0), nullif(e.typrelid, 0))
                FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = d.objid)
            WHEN 'pg_class'::regclass THEN coalesce(
                (SELECT indrelid FROM pg_index WHERE indexrelid = d.objid),
                (SELECT s.refobjid FROM pg_depend s JOIN pg_class q ON q.oid = s.objid AND q.relkind = 'S'
                 WHERE s.classid = 'pg_class'::regclass AND s.objid = d.objid
                     AND s.refclassid = 'pg_class'::regclass AND s.deptype IN ('a', 'i') LIMIT 1),
                d.objid)
        END AS owner
    FROM anchors a
    JOIN pg_depend d ON d.refclassid = a.catalog AND d.refobjid = a.id
    WHERE d.deptype IN ('n', 'a')
        AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (
            SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conparentid <> 0))
        AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
            SELECT FROM pg_class t WHERE t.oid = d.objid AND t.relkind = 't'))
)
SELECT f.relid, jsonb_build_object(
    'on', f.relid::int8,
    'through', f.through,
    'column', f.sub,
    'catalog', f.classid::regclass::text,
    'oid', f.objid::int8,
    'relation', f.owner::int8,
    'kind', c.relkind,
    'place', CASE
        WHEN c.oid IS NOT NULL THEN jsonb_build_object('schema', n.nspname, 'name', c.relname)
        WHEN p.oid IS NOT NULL THEN jsonb_build_object('schema', p.pronamespace::regnamespace::text, 'name', p.proname)
    END,
    'name', coalesce(r.rulename, k.conname, y.polname, p.proname, a.attname, ''),
    'what', pg_describe_object(f.classid, f.objid, f.objsubid),
    'definition', CASE
        WHEN r.rulename <> '_RETURN' THEN pg_get_ruledef(r.oid)
        WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid)
        WHEN k.contype = 'f' THEN pg_get_constraintdef(k.oid)
    END,
    'routine', CASE WHEN p.prokind IN ('f', 'p') THEN jsonb_build_object(
        'identity', p.oid::regprocedure::text,
        'owner', pg_get_userbyid(p.proowner),
        'grants', CASE WHEN p.proacl IS NOT NULL THEN coalesce((
            SELECT jsonb_agg(DISTINCT jsonb_build_object(
                'to', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
                'privilege', privilege_type, 'grantable', is_grantable))
            FROM aclexplode(p.proacl) WHERE grantee <> p.proowner), '[]') END,
        'comment', obj_description(p.oid, 'pg_proc'),
        'extension', EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass
            AND e.objid = p.oid AND e.deptype = 'e'),
        'used_by', (SELECT pg_describe_object(u.classid, u.objid, u.objsubid) FROM pg_depend u
            WHERE u.refclassid = 'pg_proc'::regclass AND u.refobjid = p.oid
                AND u.deptype IN ('n', 'a') ORDER BY 1 LIMIT 1)) END,
    'using', pg_get_expr(y.polqual, y.polrelid),
    'check', pg_get_expr(y.polwithcheck, y.polrelid)
)::text
FROM found f
LEFT JOIN pg_class c ON c.oid = f.owner
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_rewrite r ON f.classid = 'pg_rewrite'::regclass AND r.oid = f.objid
LEFT JOIN pg_constraint k ON f.classid = 'pg_constraint'::regclass AND k.oid = f.objid
LEFT JOIN pg_policy y ON f.classid = 'pg_policy'::regclass AND y.oid = f.objid
LEFT JOIN pg_proc p ON f.classid = 'pg_proc'::regclass AND p.oid = f.objid
LEFT JOIN pg_attribute a ON f.classid = 'pg_class'::regclass AND a.attrelid = f.objid AND a.attnum = f.objsubid AND a.attnum > 0
WHERE f.owner IS DISTINCT FROM f.relid
ORDER BY f.relid, f.classid::regclass::text, f.objid, f.sub, f.through
