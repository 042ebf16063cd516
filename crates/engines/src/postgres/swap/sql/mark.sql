-- Row versions in the catalog: every ALTER, GRANT, CREATE and DROP around these relations makes
-- another one, and no query or write to the data does.
WITH ids AS (SELECT unnest($1::oid[]) AS id),
anchors AS (
    SELECT 'pg_class'::regclass AS catalog, id FROM ids
    UNION ALL
    SELECT 'pg_type'::regclass, c.reltype FROM pg_class c JOIN ids ON id = c.oid WHERE c.reltype <> 0
    UNION ALL
    SELECT 'pg_type'::regclass, t.typarray FROM pg_class c JOIN ids ON id = c.oid
    JOIN pg_type t ON t.oid = c.reltype WHERE t.typarray <> 0
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN ids ON id = k.conrelid
    UNION ALL
    SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN ids ON id = i.indrelid
), versions AS (
    SELECT 1 AS sort, c.oid, c.xmin::text AS version FROM pg_class c JOIN ids ON id = c.oid
    UNION ALL SELECT 2, a.attrelid, a.xmin::text FROM pg_attribute a JOIN ids ON id = a.attrelid
    UNION ALL SELECT 3, k.oid, k.xmin::text FROM pg_constraint k JOIN ids ON id = k.conrelid
    UNION ALL SELECT 4, i.indexrelid, i.xmin::text FROM pg_index i JOIN ids ON id = i.indrelid
    UNION ALL SELECT 5, t.oid, t.xmin::text FROM pg_trigger t JOIN ids ON id = t.tgrelid
    UNION ALL SELECT 6, p.oid, p.xmin::text FROM pg_policy p JOIN ids ON id = p.polrelid
    UNION ALL SELECT 7, r.oid, r.xmin::text FROM pg_rewrite r JOIN ids ON id = r.ev_class
    UNION ALL SELECT 8, s.oid, s.xmin::text FROM pg_statistic_ext s JOIN ids ON id = s.stxrelid
    UNION ALL SELECT 9, r.oid, r.xmin::text FROM pg_publication_rel r JOIN ids ON id = r.prrelid
    UNION ALL SELECT 10, i.inhrelid, i.xmin::text FROM pg_inherits i JOIN ids ON id IN (i.inhparent, i.inhrelid)
    UNION ALL SELECT 11, d.adrelid, d.xmin::text FROM pg_attrdef d JOIN ids ON id = d.adrelid
    UNION ALL SELECT 12, d.objid, d.xmin::text FROM anchors a
        JOIN pg_depend d ON d.refclassid = a.catalog AND d.refobjid = a.id
)
SELECT md5(coalesce(string_agg(sort || ':' || oid || ':' || version, ',' ORDER BY sort, oid, version), ''))
FROM versions
