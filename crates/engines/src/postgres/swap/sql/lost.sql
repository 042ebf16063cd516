-- Rights that a role has on the old relation and not on the new one. Who may act as the old owner
-- gets its rights with the ownership, which goes over in the move itself. What goes with the old
-- relation because it came with it is no loss.
SELECT n.nspname::text, o.relname::text, r.rolname::text, p.privilege
FROM unnest($1::oid[], $2::oid[]) AS pair(old, new)
JOIN pg_class o ON o.oid = pair.old
JOIN pg_namespace n ON n.oid = o.relnamespace
CROSS JOIN pg_roles r
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
    AS p(privilege)
WHERE o.relacl IS NOT NULL AND NOT r.rolsuper
    AND NOT pg_has_role(r.oid, o.relowner, 'USAGE')
    AND has_table_privilege(r.oid, pair.old, p.privilege)
    AND NOT has_table_privilege(r.oid, pair.new, p.privilege)
    AND NOT EXISTS (
        SELECT FROM unnest($3::oid[], $4::text[], $5::text[]) AS gone(relation, role, privilege)
        WHERE gone.relation = pair.old AND gone.privilege = p.privilege
            AND (gone.role IS NULL OR pg_has_role(r.oid, gone.role, 'USAGE')))
ORDER BY 1, 2, 3, 4
