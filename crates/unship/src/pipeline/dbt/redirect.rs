//! A profile that sends a build to copies of its databases.

use super::{
    jinja::has_template,
    profile::Located,
    target::{DbtTarget, Location, catalog_name},
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Why a build cannot be redirected; it can still be guarded in place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// The target is not one of files.
    #[error("the target `{target}` is not a DuckDB database; guard the job in place")]
    NotDuckDb {
        /// The target.
        target: String,
    },
    /// A file that the target does not write.
    #[error("{} is not a database that the target `{target}` writes", .path.display())]
    NotOfTarget {
        /// The file.
        path: PathBuf,
        /// The target.
        target: String,
    },
    /// DuckDB names the catalog after the file, and views remember that name.
    #[error(
        "{} cannot stand in for {}: DuckDB would call the database by another name; \
         keep the file's name and change its directory", .to.display(), .from.display()
    )]
    OtherName {
        /// The original.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
    },
    /// dbt would evaluate the path.
    #[error(
        "the path {} cannot be written into a profile: it is not Unicode, or dbt would take it \
         for a template", .path.display()
    )]
    Unwritable {
        /// The copy.
        path: PathBuf,
    },
    /// The place in the profile is not where a path can be put.
    #[error(
        "`{key}` of the target `{target}` is one template, so that no single path can be replaced; \
         write it out as a list, or guard the job in place"
    )]
    Template {
        /// The key.
        key: String,
        /// The target.
        target: String,
    },
}

/// The text of a `profiles.yml` that is the located one, except that the target's databases are
/// those of `moves` (from each original to its copy, absolute paths).
///
/// Everything else is kept: every profile and target, the names of all, the `config` block, and
/// templates as templates, so that dbt evaluates them itself and secrets stay in the environment.
/// Secrets that the original spells out are in the text: write it to a file that only the user can
/// read (mode 0600), outside of the project, and remove it after the job.
///
/// # Errors
/// When the target does not write one of the files, or a copy cannot take its original's place.
pub fn redirect(
    located: &Located,
    target: &DbtTarget,
    moves: &[(PathBuf, PathBuf)],
) -> Result<String, RedirectError> {
    let Some(duckdb) = &target.duckdb else {
        return Err(RedirectError::NotDuckDb {
            target: target.target.clone(),
        });
    };
    let mut profiles = Value::Object(located.profiles.clone());
    let output = profiles
        .get_mut(&target.profile)
        .and_then(|profile| profile.get_mut("outputs"))
        .and_then(|outputs| outputs.get_mut(&target.target));
    let Some(Value::Object(output)) = output else {
        return Err(RedirectError::NotDuckDb {
            target: target.target.clone(),
        });
    };
    for (from, to) in moves {
        let text = copy_text(from, to)?;
        let is_it = |location: &Location| matches!(location, Location::File(path) if path == from);
        let mut found = false;
        if is_it(&duckdb.location) {
            output.insert("path".to_owned(), Value::String(text.clone()));
            found = true;
        }
        for (i, attachment) in duckdb.attach.iter().enumerate() {
            if attachment.read_only || !is_it(&attachment.location) {
                continue;
            }
            let place = output
                .get_mut("attach")
                .and_then(|list| list.get_mut(i))
                .and_then(Value::as_object_mut);
            let Some(place) = place else {
                return Err(RedirectError::Template {
                    key: "attach".to_owned(),
                    target: target.target.clone(),
                });
            };
            place.insert("path".to_owned(), Value::String(text.clone()));
            found = true;
        }
        if !found {
            return Err(RedirectError::NotOfTarget {
                path: from.clone(),
                target: target.target.clone(),
            });
        }
    }
    // JSON is YAML, and says of every scalar what it is.
    Ok(format!("{profiles:#}\n"))
}

fn copy_text(from: &Path, to: &Path) -> Result<String, RedirectError> {
    let text = to
        .to_str()
        .filter(|text| !has_template(text) && to.is_absolute());
    let Some(text) = text else {
        return Err(RedirectError::Unwritable {
            path: to.to_owned(),
        });
    };
    let same_name = from
        .to_str()
        .is_some_and(|from| catalog_name(from) == catalog_name(text));
    match same_name {
        true => Ok(text.to_owned()),
        false => Err(RedirectError::OtherName {
            from: from.to_owned(),
            to: to.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
