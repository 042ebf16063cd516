//! The profile that sends a build to staging.

use super::Naming;
use crate::pipeline::dbt::{DbtTarget, profile::Located};
use serde_json::Value;
use std::collections::BTreeSet;

/// The text of a `profiles.yml` that is the located one, except that the target's schema has the
/// prefix before it; `None` where the target has no schema that is text.
///
/// Everything else is kept, the target's name above all: macros branch on it. Templates stay
/// templates, so that dbt evaluates them itself and secrets stay in the environment; a template
/// with text before it is one too. Where the target has a search path, the staging schemas of
/// `production` come before the schemas in it that they stand for.
///
/// Secrets that the original spells out are in the text: write it to a file that only the user can
/// read, outside of the project, and remove it after the job.
pub fn profile(
    located: &Located,
    target: &DbtTarget,
    production: &BTreeSet<String>,
) -> Option<String> {
    let mut profiles = Value::Object(located.profiles.clone());
    let output = profiles
        .get_mut(&target.profile)?
        .get_mut("outputs")?
        .get_mut(&target.target)?
        .as_object_mut()?;
    let schema = match output.get("schema")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // The template's text may be in another case than what it stands for.
    let naming = Naming::of(&target.adapter);
    let prefix = naming.prefix(target.schema.as_deref().unwrap_or(&schema));
    output.insert("schema".to_owned(), format!("{prefix}{schema}").into());
    let path = target
        .postgres
        .as_ref()
        .and_then(|p| p.search_path.as_ref());
    if let Some(path) = path.and_then(|path| search_path(path, production)) {
        output.insert("search_path".to_owned(), path.into());
    }
    // JSON is YAML, and says of every scalar what it is.
    Some(format!("{profiles:#}\n"))
}

/// A search path that looks into staging first; `None` where none of its schemas is built.
fn search_path(path: &str, production: &BTreeSet<String>) -> Option<String> {
    let mut found = false;
    let mut words = Vec::new();
    for word in path.split(',').map(str::trim) {
        let name = match word.strip_prefix('"').and_then(|w| w.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => word.to_lowercase(),
        };
        if production.contains(&name) {
            found = true;
            words.push(format!(
                "\"{}\"",
                Naming::Postgres.schema(&name).replace('"', "\"\"")
            ));
        }
        words.push(word.to_owned());
    }
    found.then(|| words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_looks_into_staging_first() {
        let built = ["marts", "Core"].map(str::to_owned).into();
        for (path, expected) in [
            (
                "marts, public",
                Some(r#""unship_build_marts",marts,public"#),
            ),
            (
                r#""Core",MARTS"#,
                Some(r#""unship_build_Core","Core","unship_build_marts",MARTS"#),
            ),
            ("core,public", None),
        ] {
            assert_eq!(search_path(path, &built).as_deref(), expected, "{path}");
        }
    }
}
