-- One line for each attribute of each object. Identities become names; what only tells where and
-- how large something is stored is left out.
WITH rel AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS at
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY($1::text[]) AND c.relkind <> 't'
), lines(object, attributes) AS (
    SELECT 'relation ' || at, (to_jsonb(c) - '{oid,relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,relrewrite,relnamespace,reltype,reloftype,relowner,relam,reltablespace,reltoastrelid,relhasindex,relhastriggers,relhasrules,nspname,at,relpartbound,relacl,relhassubclass}'::text[])
        || jsonb_build_object('type', c.reltype::regtype::text, 'of', c.reloftype::regtype::text,
            'owner', pg_get_userbyid(c.relowner), 'method', (SELECT amname FROM pg_am WHERE oid = c.relam),
            'tablespace', c.reltablespace,
            'toast', (SELECT reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
            'bound', pg_get_expr(c.relpartbound, c.oid), 'partition key', pg_get_partkeydef(c.oid),
            'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) WHEN c.relkind IN ('i', 'I') THEN pg_get_indexdef(c.oid) END,
            'acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a),
            'comment', obj_description(c.oid, 'pg_class'),
            'parents', (SELECT jsonb_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid))
    FROM rel c
    UNION ALL
    SELECT 'column ' || c.at || '.' || quote_ident(a.attname), (to_jsonb(a) - '{attrelid,atttypid,attcollation,attnum,attacl,attmissingval,atthasmissing,attcacheoff}'::text[])
        || jsonb_build_object('order', (SELECT count(*) FROM pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum > 0 AND b.attnum <= a.attnum AND NOT b.attisdropped),
            'type', format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation::regcollation::text,
            'default', (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = a.attrelid AND adnum = a.attnum),
            'acl', (SELECT jsonb_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x),
            'comment', col_description(a.attrelid, a.attnum))
    FROM rel c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'index ' || c.at, (to_jsonb(i) - '{indexrelid,indrelid,indkey,indclass,indcollation,indexprs,indpred,indoption,indcheckxmin}'::text[])
        || jsonb_build_object('table', i.indrelid::regclass::text)
    FROM rel c JOIN pg_index i ON i.indexrelid = c.oid
    UNION ALL
    SELECT 'constraint ' || c.at || ' ' || k.conname, (to_jsonb(k) - '{oid,connamespace,conrelid,contypid,conindid,conparentid,confrelid,conkey,confkey,conpfeqop,conppeqop,conffeqop,conexclop,conbin,confdelsetcols}'::text[])
        || jsonb_build_object('definition', pg_get_constraintdef(k.oid), 'index', k.conindid::regclass::text,
            'refers to', k.confrelid::regclass::text, 'schema', k.connamespace::regnamespace::text,
            'parent', (SELECT conname FROM pg_constraint WHERE oid = k.conparentid),
            'comment', obj_description(k.oid, 'pg_constraint'))
    FROM rel c JOIN pg_constraint k ON k.conrelid = c.oid
    UNION ALL
    SELECT 'trigger ' || c.at || ' ' || t.tgname, jsonb_build_object('definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled,
        'comment', obj_description(t.oid, 'pg_trigger'))
    FROM rel c JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'constraint triggers ' || c.at, jsonb_build_object('each', jsonb_agg(format('%s %s %s %s', k.conname, t.tgfoid::regproc, t.tgtype, t.tgenabled) ORDER BY k.conname, t.tgfoid::regproc::text, t.tgtype))
    FROM rel c JOIN pg_trigger t ON t.tgrelid = c.oid LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
    WHERE t.tgisinternal GROUP BY c.at
    UNION ALL
    SELECT 'rule ' || c.at || ' ' || r.rulename, jsonb_build_object('definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled,
        'comment', obj_description(r.oid, 'pg_rewrite'),
        'reads', (SELECT jsonb_agg(DISTINCT d.refobjid::regclass::text) FROM pg_depend d
            WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass))
    FROM rel c JOIN pg_rewrite r ON r.ev_class = c.oid
    UNION ALL
    SELECT 'policy ' || c.at || ' ' || p.polname, jsonb_build_object('command', p.polcmd, 'permissive', p.polpermissive,
        'roles', (SELECT jsonb_agg(CASE WHEN r = 0 THEN 'public' ELSE pg_get_userbyid(r) END) FROM unnest(p.polroles) r),
        'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid),
        'comment', obj_description(p.oid, 'pg_policy'))
    FROM rel c JOIN pg_policy p ON p.polrelid = c.oid
    UNION ALL
    SELECT 'sequence ' || c.at, (to_jsonb(s) - '{seqrelid,seqtypid}'::text[])
        || jsonb_build_object('type', s.seqtypid::regtype::text, 'last', pg_sequence_last_value(c.oid),
            'of', (SELECT d.refobjid::regclass::text || '.' || d.refobjsubid || d.deptype::text FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
    FROM rel c JOIN pg_sequence s ON s.seqrelid = c.oid
    UNION ALL
    SELECT 'statistics ' || format('%I.%I', n.nspname, s.stxname), jsonb_build_object('definition', pg_get_statisticsobjdef(s.oid),
        'target', to_jsonb(s) -> 'stxstattarget', 'owner', pg_get_userbyid(s.stxowner), 'comment', obj_description(s.oid, 'pg_statistic_ext'))
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname = ANY($1)
    UNION ALL
    SELECT 'publication ' || p.pubname || ' ' || c.at, (to_jsonb(r) - '{oid,prpubid,prrelid,prqual}'::text[])
    FROM rel c JOIN pg_publication_rel r ON r.prrelid = c.oid JOIN pg_publication p ON p.oid = r.prpubid
    UNION ALL
    SELECT 'label ' || c.at || ' ' || l.provider || ' ' || l.objsubid, jsonb_build_object('label', l.label)
    FROM rel c JOIN pg_seclabel l ON l.classoid = 'pg_class'::regclass AND l.objoid = c.oid
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure::text, (to_jsonb(p) - '{oid,pronamespace,proowner,prolang,provariadic,prosupport,prorettype,proargtypes,proallargtypes,proargdefaults,prosqlbody,proacl}'::text[])
        || jsonb_build_object('definition', CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) END,
            'owner', pg_get_userbyid(p.proowner), 'acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) a),
            'comment', obj_description(p.oid, 'pg_proc'))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY($1)
    UNION ALL
    SELECT 'type ' || format('%I.%I', n.nspname, t.typname), jsonb_build_object('sort', t.typtype, 'owner', pg_get_userbyid(t.typowner),
        'acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM unnest(t.typacl) a), 'comment', obj_description(t.oid, 'pg_type'))
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = ANY($1)
)
SELECT object || ' ' || a.key || ' = ' || a.value::text
FROM lines, jsonb_each(jsonb_strip_nulls(attributes)) a
ORDER BY 1
