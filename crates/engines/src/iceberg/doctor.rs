//! Health: what the catalog can do, what is looked at, and what would eat a restore point.

use super::Iceberg;
use super::look::{self, Scope, Seen};
use super::point;
use super::rest::Endpoint;
use unship_core::engine::{Diagnosis, EngineError, Level};

struct Report(Vec<Diagnosis>);

impl Report {
    fn say(&mut self, level: Level, subject: &str, finding: impl Into<String>, hint: Option<&str>) {
        self.0.push(Diagnosis {
            level,
            subject: subject.to_owned(),
            finding: finding.into(),
            hint: hint.map(str::to_owned),
        });
    }

    fn error(&mut self, subject: &str, error: &EngineError) {
        let finding = unship_core::execute::chain(error);
        self.say(Level::Error, subject, finding, error.hint.as_deref());
    }
}

/// What unship uses that a catalog may lack: how bad that is, and what it means.
const LACKING: [(Endpoint, Level, &str); 5] = [
    (
        Endpoint::Transaction,
        Level::Warning,
        "tables go back one after the other, not at once: readers may see some of them before \
         others",
    ),
    (
        Endpoint::Rename,
        Level::Warning,
        "a table that a release made cannot be set aside: such a release can go back only without it",
    ),
    (
        Endpoint::Register,
        Level::Warning,
        "a table that a release dropped cannot be brought back",
    ),
    (
        Endpoint::CreateNamespace,
        Level::Note,
        "there must be namespaces for what is set aside already",
    ),
    (
        Endpoint::ChangeViews,
        Level::Note,
        "views, if there are any, stay as they are when tables go back",
    ),
];

/// Looks at everything that unship depends on.
pub fn examine(engine: &mut Iceberg) -> Vec<Diagnosis> {
    let mut report = Report(Vec::new());
    let settings = engine.settings.clone();
    let store = engine.store.clone();
    let client = match engine.client() {
        Ok(client) => client,
        Err(error) => {
            report.error("catalog", &error);
            return report.0;
        }
    };
    report.say(
        Level::Ok,
        "catalog",
        format!("{} answers", settings.rest.uri),
        None,
    );
    if !settings.rest.uri.starts_with("https:") {
        report.say(
            Level::Note,
            "catalog",
            "the connection is not encrypted",
            None,
        );
    }
    for (endpoint, level, means) in LACKING {
        match client.offers(endpoint) {
            true => report.say(Level::Ok, "endpoint", endpoint.spelled(), None),
            false => {
                let finding = format!("the catalog does not offer {}", endpoint.spelled());
                report.say(level, "endpoint", finding, Some(means));
            }
        }
    }
    let scope = Scope {
        catalog: &settings.catalog,
        namespaces: &settings.namespaces,
    };
    match look::everything(client, &scope, &|_, _, _| ()) {
        Ok(seen) => tables(&seen, &mut report),
        Err(error) => report.error("production", &error),
    }
    match point::fsck(client, &store, &|_, _, _| ()) {
        Ok(found) => report
            .0
            .extend(found.into_iter().filter(|d| d.level > Level::Ok)),
        Err(error) => report.error("restore points", &error),
    }
    report.0
}

/// Properties by which others may take away what a restore point needs.
fn tables(seen: &Seen, report: &mut Report) {
    let finding = format!(
        "{} tables and {} views",
        seen.tables.len(),
        seen.views.len()
    );
    match seen.tables.is_empty() {
        false => report.say(Level::Ok, "production", finding, None),
        true => report.say(
            Level::Warning,
            "production",
            finding,
            Some(
                "check `namespaces` in unship.toml, and the rights of who asks: a catalog shows \
                  only what one may see",
            ),
        ),
    }
    let wap = |table: &super::rest::LoadTable| {
        let wap = table.metadata.properties.get("write.wap.enabled");
        wap.map(String::as_str) == Some("true")
    };
    let without = seen.tables.values().filter(|table| !wap(table)).count();
    if without > 0 {
        report.say(
            Level::Note,
            "building aside",
            format!("{without} tables do not have the property write.wap.enabled=true"),
            Some(
                "for `unship run --aside` with Spark, set it once: without it Spark writes to \
                 production itself, whichever branch it is told",
            ),
        );
    }
    for (name, table) in &seen.tables {
        let property = |key: &str| table.metadata.properties.get(key).map(String::as_str);
        let deletes = property("write.metadata.delete-after-commit.enabled") == Some("true");
        if deletes {
            report.say(
                Level::Note,
                &name.to_string(),
                "old metadata files are deleted after commits \
                 (write.metadata.delete-after-commit.enabled)",
                Some(
                    "a job that commits often and then drops the table takes away the file that it \
                     would be brought back from; raise write.metadata.previous-versions-max",
                ),
            );
        }
        let branches = table.metadata.refs.iter();
        let built = branches.filter(|(branch, _)| super::name::is_branch(branch));
        for (branch, _) in built {
            report.say(
                Level::Note,
                &name.to_string(),
                format!("{branch} is the branch of a build that is at work, or that left it"),
                Some("where no job is at work, drop it: nothing needs it any more"),
            );
        }
        let tags = table.metadata.refs.iter();
        let short = tags
            .filter(|(tag, to)| super::name::is_tag(tag) && to.max_ref_age_ms != Some(i64::MAX));
        for (tag, _) in short {
            report.say(
                Level::Warning,
                &name.to_string(),
                format!("somebody gave the tag {tag} an age at which expiry takes it"),
                Some("the next restore point of this snapshot gets a tag of its own"),
            );
        }
    }
}
