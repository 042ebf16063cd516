//! Who may do what with relations of production, in effect.

use super::catalog::rows;
use postgres::Client;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::{Access, Right};
use unship_core::engine::EngineError;
use unship_core::ident::RelationName;

/// Rights on the relation that production has, or where it has none yet on what was built; and the
/// identity of what lies where it was looked at. A right in a schema that a role may not use is
/// none. Rights on a column count where the role has none on the whole.
const RIGHTS: &str = "
    WITH wanted AS (
        SELECT w.schema, w.name, w.at, coalesce(
                   to_regclass(format('%I.%I', w.schema, w.name)),
                   to_regclass(format('%I.%I', w.at, w.name))) AS of,
               to_regclass(format('%I.%I', w.at, w.name)) AS stands
          FROM unnest($1::text[], $2::text[], $3::text[]) AS w(schema, name, at)),
    here AS (
        SELECT w.schema, w.name, w.stands::oid::int8 AS identity, c.oid, c.relnamespace,
               c.relrowsecurity
          FROM wanted w JOIN pg_class c ON c.oid = w.of WHERE w.stands IS NOT NULL),
    roles AS (
        SELECT oid, rolname::text AS name FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_'),
    privileges AS (
        SELECT unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege)
    SELECT h.schema, h.name, h.identity, h.relrowsecurity AS row_security,
           x.role, x.privilege, x.column
      FROM here h LEFT JOIN LATERAL (
        SELECT r.name AS role, p.privilege, NULL::text AS column
          FROM roles r CROSS JOIN privileges p
         WHERE has_schema_privilege(r.oid, h.relnamespace, 'USAGE')
           AND has_table_privilege(r.oid, h.oid, p.privilege)
        UNION ALL
        SELECT r.name, p.privilege, a.attname::text
          FROM pg_attribute a CROSS JOIN roles r CROSS JOIN privileges p
         WHERE a.attrelid = h.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
           AND p.privilege <> 'DELETE'
           AND has_schema_privilege(r.oid, h.relnamespace, 'USAGE')
           AND has_column_privilege(r.oid, h.oid, a.attnum, p.privilege)
           AND NOT has_table_privilege(r.oid, h.oid, p.privilege)) x ON true";

/// Who may do what with these relations; with each the schema where it was looked at, which is not
/// production's for what was built.
pub fn of(
    client: &mut Client,
    relations: &[(RelationName, String)],
) -> Result<BTreeMap<RelationName, Access>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        schema: String,
        name: String,
        identity: i64,
        row_security: bool,
        role: Option<String>,
        privilege: Option<String>,
        column: Option<String>,
    }
    let Some((first, _)) = relations.first() else {
        return Ok(BTreeMap::new());
    };
    let database = first.database.clone();
    let part = |of: fn(&(RelationName, String)) -> &String| -> Vec<&str> {
        relations.iter().map(|one| of(one).as_str()).collect()
    };
    let (schemas, names) = (part(|(n, _)| &n.schema), part(|(n, _)| &n.name));
    let at = part(|(_, at)| at);
    let mut out: BTreeMap<RelationName, Access> = BTreeMap::new();
    for row in rows::<Row>(client, RIGHTS, &[&schemas, &names, &at])? {
        let name = RelationName::new(&*database, &*row.schema, &*row.name);
        let access = out.entry(name).or_default();
        access.identity = row.identity.to_string();
        access.row_security = row.row_security;
        if let (Some(role), Some(privilege)) = (row.role, row.privilege) {
            access.rights.insert(Right {
                role,
                privilege,
                column: row.column,
            });
        }
    }
    Ok(out)
}

/// The roles that there are.
pub fn roles(client: &mut Client) -> Result<BTreeSet<String>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        name: String,
    }
    let all: Vec<Row> = rows(client, "SELECT rolname::text AS name FROM pg_roles", &[])?;
    Ok(all.into_iter().map(|row| row.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::testing::Database;

    #[test]
    fn rights_are_what_a_role_may_do_in_effect() {
        let Some(database) = Database::new() else {
            return;
        };
        let mut client = database.client();
        let text = client.query_one("SELECT current_database()::text", &[]);
        // Roles are the server's, and other tests run beside.
        let mine: String = text.unwrap().get(0);
        let role = |name: &str| format!("{mine}_{name}");
        let (group, member, web, out) = (role("g"), role("m"), role("w"), role("o"));
        client
            .batch_execute(&format!(
                "CREATE ROLE \"{group}\"; CREATE ROLE \"{member}\" IN ROLE \"{group}\";
                 CREATE ROLE \"{web}\"; CREATE ROLE \"{out}\";
                 CREATE SCHEMA marts; GRANT USAGE ON SCHEMA marts TO \"{group}\", \"{web}\";
                 CREATE TABLE marts.\"odd \"\" name\" (id int, secret text);
                 GRANT SELECT ON marts.\"odd \"\" name\" TO \"{group}\", \"{out}\";
                 GRANT SELECT (id) ON marts.\"odd \"\" name\" TO \"{web}\";
                 ALTER TABLE marts.\"odd \"\" name\" ENABLE ROW LEVEL SECURITY"
            ))
            .unwrap();
        let name = RelationName::new(&*mine, "marts", "odd \" name");
        let wanted = [(name.clone(), "marts".to_owned())];
        let seen = of(&mut client, &wanted).unwrap();
        let access = &seen[&name];
        let mut rights: Vec<_> = access
            .rights
            .iter()
            .filter(|right| right.role.starts_with(&mine))
            .map(|r| (r.role.as_str(), r.privilege.as_str(), r.column.as_deref()))
            .collect();
        rights.sort_unstable();
        let mut expected = [
            (group.as_str(), "SELECT", None),
            (member.as_str(), "SELECT", None),
            (web.as_str(), "SELECT", Some("id")),
        ];
        expected.sort_unstable();
        assert_eq!(rights, expected, "a schema that is closed lets nobody in");
        assert!(access.row_security);
        assert!(roles(&mut client).unwrap().contains(&out));

        // Made anew it is another relation.
        client
            .batch_execute(
                "DROP TABLE marts.\"odd \"\" name\"; CREATE TABLE marts.\"odd \"\" name\" (id int)",
            )
            .unwrap();
        let again = of(&mut client, &wanted).unwrap();
        assert_ne!(again[&name].identity, access.identity);
        client
            .batch_execute(&format!(
                "DROP SCHEMA marts CASCADE; DROP ROLE \"{member}\", \"{group}\", \"{web}\", \"{out}\""
            ))
            .unwrap();
    }
}
