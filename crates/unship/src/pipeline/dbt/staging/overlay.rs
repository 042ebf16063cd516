//! A project of links to the project, in which the macros that name schemas are wrapped.
//!
//! A project's own `generate_schema_name` may leave the target's schema out of production's schema
//! names, or put it somewhere within them. In the overlay the project's macro still decides; its
//! result only gets the prefix, once and in front.

use super::{Naming, code::Code};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

/// Why a project cannot be overlaid.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A file or link cannot be made.
    #[error("cannot make {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Directories beside the project would not be found from another place.
    #[error(
        "the project names its schemas by a macro of its own, which has to be wrapped in a copy of \
         the project, and {key} leads out of the project ({path}), so that no copy would find it"
    )]
    Outside {
        /// The key of `dbt_project.yml`.
        key: String,
        /// Its path.
        path: String,
    },
    /// dbt says that a macro is in a file, and it is not.
    #[error("the macro {name} is not in {} as dbt says it is", .file.display())]
    NoMacro {
        /// The macro.
        name: String,
        /// The file.
        file: PathBuf,
    },
}

/// The macros that are wrapped, their parameters, and whether what they give gets the prefix; else
/// it only loses what it may have taken over of the target's schema.
const WRAPPED: [(&str, &str, bool); 2] = [
    ("generate_schema_name", "custom_schema_name", true),
    ("generate_alias_name", "custom_alias_name", false),
];

/// What the overlay is made of.
pub struct Project<'a> {
    /// The project's directory.
    pub directory: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// `dbt_project.yml`.
    pub settings: &'a serde_json::Map<String, serde_json::Value>,
    /// How the warehouse names things.
    pub naming: Naming,
    /// Where its macros are.
    pub code: &'a Code,
    /// Entries of the directory that the overlay has no use for: what dbt itself writes.
    pub without: &'a [PathBuf],
}

/// Makes the overlay at `place`, in the stead of any that is there.
///
/// # Errors
/// When the project reads outside of its directory, or the place cannot be written.
pub fn make(project: &Project<'_>, place: &Path) -> Result<(), OverlayError> {
    let macro_path = inside(project.settings)?;
    let mut written: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut own = String::new();
    for (component, parameter, prefixed) in WRAPPED {
        let name = match prefixed {
            true => project.naming.prefixed(),
            false => project.naming.bare(),
        };
        let mut in_project = false;
        for found in project.code.macros.values().filter(|m| m.name == component) {
            let root = match found.package_name == project.name {
                true => PathBuf::new(),
                false => packages(project.settings).join(&found.package_name),
            };
            let file = root.join(&found.original_file_path);
            let source = project.directory.join(&file);
            // dbt's own macros are not in the project.
            if !source.is_file() {
                continue;
            }
            in_project |= found.package_name == project.name;
            let text = match written.remove(&file) {
                Some(text) => text,
                None => fs::read_to_string(&source).map_err(at(&source))?,
            };
            let inner = format!("unship_inner_{component}");
            let mut text = renamed(&text, component, &inner).ok_or(OverlayError::NoMacro {
                name: component.to_owned(),
                file: source,
            })?;
            text.push_str(&wrapper(component, parameter, &name, &inner));
            written.insert(file, text);
        }
        if !in_project && prefixed {
            let inner = format!("dbt.{component}");
            own.push_str(&wrapper(component, parameter, &name, &inner));
        }
    }
    if !own.is_empty() {
        written.insert(macro_path.join("unship_redirect.sql"), own);
    }
    match fs::remove_dir_all(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(place)(e)),
        _ => {}
    }
    link(project, Path::new(""), place, &written)
}

fn wrapper(component: &str, parameter: &str, name: &str, inner: &str) -> String {
    format!(
        "\n{{% macro {component}({parameter}=none, node=none) -%}}\n\
         {{%- set name = {inner}({parameter}, node, *varargs, **kwargs) | trim -%}}\n\
         {{{{- return({name}) -}}}}\n\
         {{%- endmacro %}}\n"
    )
}

/// The text with its definitions of the macro under another name; `None` if there is none.
fn renamed(text: &str, name: &str, to: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + to.len());
    let mut found = false;
    let mut rest = text;
    while let Some(at) = rest.find("macro") {
        let (before, from) = rest.split_at(at + "macro".len());
        out.push_str(before);
        let name_at = from.len() - from.trim_start().len();
        let (space, after) = from.split_at(name_at);
        out.push_str(space);
        rest = after;
        let behind = after.strip_prefix(name).map(str::trim_start);
        if name_at > 0 && behind.is_some_and(|behind| behind.starts_with('(')) {
            found = true;
            out.push_str(to);
            rest = after.get(name.len()..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    found.then_some(out)
}

/// Links the entries of one directory; those on the way to a written file become directories.
fn link(
    project: &Project<'_>,
    relative: &Path,
    place: &Path,
    written: &BTreeMap<PathBuf, String>,
) -> Result<(), OverlayError> {
    let here = place.join(relative);
    fs::create_dir_all(&here).map_err(at(&here))?;
    let source = project.directory.join(relative);
    let mut names: Vec<std::ffi::OsString> = match fs::read_dir(&source) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(at(&source)(e)),
    };
    // What is only written is not there to be found.
    names.extend(written.keys().filter_map(|file| {
        match file.strip_prefix(relative).ok()?.components().next()? {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        }
    }));
    names.sort();
    names.dedup();
    for name in names {
        let entry = relative.join(&name);
        let (from, to) = (project.directory.join(&entry), place.join(&entry));
        if let Some(text) = written.get(&entry) {
            fs::write(&to, text).map_err(at(&to))?;
        } else if written.keys().any(|file| file.starts_with(&entry)) {
            link(project, &entry, place, written)?;
        } else if name != ".unship" && !project.without.contains(&from) {
            symlink(&from, &to).map_err(at(&to))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> OverlayError + '_ {
    move |source| OverlayError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The first directory of macros, if all of the project's paths stay within it.
fn inside(settings: &serde_json::Map<String, serde_json::Value>) -> Result<PathBuf, OverlayError> {
    let mut macros = None;
    for (key, value) in settings.iter().filter(|(key, _)| key.ends_with("-paths")) {
        for path in value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|p| p.as_str())
        {
            if Path::new(path)
                .components()
                .any(|c| c == Component::ParentDir)
            {
                return Err(OverlayError::Outside {
                    key: key.clone(),
                    path: path.to_owned(),
                });
            }
            if key == "macro-paths" && macros.is_none() && Path::new(path).is_relative() {
                macros = Some(PathBuf::from(path));
            }
        }
    }
    Ok(macros.unwrap_or_else(|| "macros".into()))
}

fn packages(settings: &serde_json::Map<String, serde_json::Value>) -> PathBuf {
    let path = settings
        .get("packages-install-path")
        .and_then(|path| path.as_str());
    path.unwrap_or("dbt_packages").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_definition_gets_another_name() {
        let text = "{%- macro generate_schema_name (a, b) %}{{ generate_schema_name_for_env(a) }}\
                    {%- endmacro %}{% macro generate_schema_names(x) %}{% endmacro %}";
        let expected = "{%- macro inner (a, b) %}{{ generate_schema_name_for_env(a) }}\
                        {%- endmacro %}{% macro generate_schema_names(x) %}{% endmacro %}";
        assert_eq!(
            renamed(text, "generate_schema_name", "inner").as_deref(),
            Some(expected)
        );
        assert_eq!(
            renamed("{% macro other() %}", "generate_schema_name", "inner"),
            None
        );
    }
}
