//! Health: of the server, of the role's rights, and of what stands in a release's way.

use super::catalog::{namespaces, production, rows, server_version};
use super::engine::Postgres;
use super::{layout, quote, session, undo};
use postgres::Client;
use serde::Deserialize;
use std::collections::BTreeSet;
use unship_core::engine::{Diagnosis, EngineError, Level};

/// The oldest version that is supported.
const OLDEST: u32 = 130_000;

struct Report(Vec<Diagnosis>);

impl Report {
    fn say(
        &mut self,
        level: Level,
        subject: &str,
        finding: impl Into<String>,
        hint: Option<String>,
    ) {
        self.0.push(Diagnosis {
            level,
            subject: subject.to_owned(),
            finding: finding.into(),
            hint,
        });
    }
}

/// A row of a question that answers in words.
#[derive(Deserialize)]
struct Words {
    what: String,
}

/// Looks at everything that unship depends on.
pub fn examine(db: &mut Postgres) -> Vec<Diagnosis> {
    let mut report = Report(Vec::new());
    let subject = db.connector.address().to_string();
    let wanted = db.guarded.clone();
    let logged = db.undo_tables();
    let connector = db.connector.clone();
    let found = db.client().and_then(|client| {
        if let Err(error) = session::own(client, &connector) {
            report.say(Level::Error, "connection", error.message, error.hint);
        }
        server(client, &subject, &mut report)?;
        rights(client, &wanted, &mut report)?;
        report.0.extend(undo::examine(client, &logged)?);
        in_the_way(client, &mut report)
    });
    if let Err(error) = found {
        report.say(Level::Error, &subject, error.message, error.hint);
    }
    report.0
}

fn server(client: &mut Client, subject: &str, report: &mut Report) -> Result<(), EngineError> {
    let version = server_version(client)?;
    let text = format!("PostgreSQL {}.{}", version / 10_000, version % 10_000);
    if version < OLDEST {
        let hint = "unship needs PostgreSQL 13 or newer".to_owned();
        report.say(Level::Error, subject, text, Some(hint));
    } else {
        report.say(Level::Ok, subject, text, None);
    }
    #[derive(Deserialize)]
    struct Locks {
        capacity: u64,
        held: u64,
        relations: u64,
    }
    let sql = "
        SELECT current_setting('max_locks_per_transaction')::int8
                 * (current_setting('max_connections')::int8
                    + current_setting('max_prepared_transactions')::int8) AS capacity,
               (SELECT count(*) FROM pg_locks) AS held,
               (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^(pg_|unship|information_schema)')
                 AS relations";
    for locks in rows::<Locks>(client, sql, &[])? {
        let needed = 2 * locks.relations + locks.held;
        let text = format!(
            "{} fit at once, {} are held, releasing all {} relations takes about {needed}",
            locks.capacity, locks.held, locks.relations
        );
        if needed > locks.capacity / 2 {
            let hint = "raise max_locks_per_transaction and restart the server".to_owned();
            report.say(Level::Warning, "lock table", text, Some(hint));
        } else {
            report.say(Level::Ok, "lock table", text, None);
        }
    }
    Ok(())
}

fn rights(
    client: &mut Client,
    wanted: &BTreeSet<String>,
    report: &mut Report,
) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Me {
        role: String,
        superuser: bool,
        database: String,
        create: bool,
    }
    let sql = "
        SELECT current_user::text AS role, r.rolsuper AS superuser,
               current_database()::text AS database,
               has_database_privilege(current_database(), 'CREATE') AS create
          FROM pg_roles r WHERE r.rolname = current_user";
    let mut grants = Vec::new();
    let mut role = String::new();
    for me in rows::<Me>(client, sql, &[])? {
        if me.superuser {
            report.say(
                Level::Note,
                "role",
                format!("{} is a superuser, which unship does not need", me.role),
                None,
            );
        }
        role = quote::name(&me.role);
        if !me.create {
            grants.push(format!(
                "GRANT CREATE ON DATABASE {} TO {role};",
                quote::name(&me.database)
            ));
        }
    }
    let all = namespaces(client)?;
    let only: Vec<String> = wanted.iter().cloned().collect();
    let scopes = production(&all, (!only.is_empty()).then_some(&only[..]));
    let oids: Vec<u32> = scopes.iter().map(|s| s.oid).collect();
    let sql = "
        SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I;', n.nspname, current_user) AS what
          FROM pg_namespace n WHERE n.oid = ANY($1)
           AND NOT (has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'))
        UNION ALL
        SELECT format('GRANT %s TO %I;', quote_ident(pg_get_userbyid(o.relowner)), current_user)
          FROM (SELECT DISTINCT c.relowner FROM pg_class c WHERE c.relnamespace = ANY($1)
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) o
         WHERE NOT pg_has_role(o.relowner, 'USAGE')";
    grants.extend(
        rows::<Words>(client, sql, &[&oids])?
            .into_iter()
            .map(|w| w.what),
    );
    if grants.is_empty() {
        report.say(
            Level::Ok,
            "rights",
            format!("{role} may do all that a release needs"),
            None,
        );
    } else {
        report.say(
            Level::Error,
            "rights",
            format!("{role} lacks rights that a release needs"),
            Some(grants.join("\n")),
        );
    }
    for schema in wanted {
        if let Err(error) = layout::retained(unship_core::ident::ReleaseId(99_999), schema) {
            report.say(Level::Error, schema, error.message, error.hint);
        }
        if all.iter().all(|n| n.name != *schema) {
            let text = "is not there yet; the first run makes it";
            report.say(Level::Note, schema, text, None);
        }
    }
    Ok(())
}

/// Questions whose answers are worth knowing: level, subject, query, hint.
const QUESTIONS: &[(Level, &str, &str, &str)] = &[
    (
        Level::Warning,
        "idle in transaction",
        "SELECT format('process %s (%s, %s) has had a transaction open for %s', pid, usename,
                coalesce(nullif(application_name, ''), 'unnamed'),
                date_trunc('second', now() - xact_start)) AS what
           FROM pg_stat_activity
          WHERE datname = current_database() AND state LIKE 'idle in transaction%'
            AND xact_start < now() - interval '1 minute' ORDER BY xact_start LIMIT 5",
        "a release waits until it is ended if it has looked at what is replaced",
    ),
    (
        Level::Note,
        "event trigger",
        "SELECT format('%s runs on %s', evtname, evtevent) AS what FROM pg_event_trigger
          WHERE evtenabled <> 'D' AND evtname <> 'unship_undo_keep' ORDER BY evtname",
        "it runs for what unship does too, and can refuse it",
    ),
    (
        Level::Note,
        "publication",
        "SELECT format('%s publishes %s', pubname, CASE WHEN puballtables THEN 'all tables' ELSE
                'some tables or schemas' END) AS what FROM pg_publication ORDER BY pubname",
        "subscribers must refresh their subscription after a release that replaces what it lists",
    ),
    (
        Level::Note,
        "extension",
        "SELECT format('%s has relations of its own in %s', e.extname, string_agg(DISTINCT n.nspname,
                ', ')) AS what
           FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
            AND d.refobjid = e.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
           JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname !~ '^pg_' GROUP BY e.extname ORDER BY e.extname",
        "those are left alone",
    ),
    (
        Level::Warning,
        "foreign table",
        "SELECT format('%s.%s', n.nspname, c.relname) AS what FROM pg_class c JOIN pg_namespace n
             ON n.oid = c.relnamespace WHERE c.relkind = 'f' ORDER BY 1 LIMIT 20",
        "its rows are elsewhere: only its definition can be brought back",
    ),
];

fn in_the_way(client: &mut Client, report: &mut Report) -> Result<(), EngineError> {
    for (level, subject, sql, hint) in QUESTIONS {
        for words in rows::<Words>(client, sql, &[])? {
            report.say(*level, subject, words.what, Some((*hint).to_owned()));
        }
    }
    Ok(())
}
