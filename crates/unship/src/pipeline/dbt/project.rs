//! What a release records of a dbt invocation: where its artefacts are, and which versions of
//! which packages took part.

use super::{
    Surroundings,
    invocation::Options,
    jinja::Renderer,
    profile::{Located, ProfileError, read_mapping},
    target::DbtTarget,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where dbt leaves what it knows. A file need not exist: which ones dbt writes depends on the
/// command, and one that is there may be an earlier command's (compare `invocation_id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefacts {
    /// dbt's target directory.
    pub directory: PathBuf,
    /// What the project consists of.
    pub manifest: PathBuf,
    /// How each node went.
    pub run_results: PathBuf,
    /// How fresh the sources were.
    pub sources: PathBuf,
    /// The columns that dbt found in the warehouse.
    pub catalog: PathBuf,
}

/// A dbt package of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name on dbt's hub, its address or its directory.
    pub name: String,
    /// Its version or revision; `None` for a directory.
    pub version: Option<String>,
}

/// Where this invocation's artefacts are: the directory of `--target-path`, of `DBT_TARGET_PATH`,
/// of the project file's `target-path`, or `target`, seen from the project.
///
/// # Errors
/// When the project file's `target-path` is a template without a value.
pub fn artefacts(
    located: &Located,
    target: &DbtTarget,
    options: &Options,
    at: &Surroundings,
) -> Result<Artefacts, ProfileError> {
    let flag = options.target_path.as_deref();
    let flag = flag.or_else(|| at.setting("TARGET_PATH"));
    let name = match (flag, located.project.get("target-path")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(Value::String(template))) => {
            let seen = json!({
                "name": target.target, "target_name": target.target,
                "profile_name": target.profile, "type": target.adapter,
                "schema": target.schema, "database": target.database,
            });
            let rendered = Renderer::new(&at.env, &located.vars, Some(&seen))
                .render(template)
                .map_err(|source| ProfileError::RenderProject {
                    key: "target-path",
                    source,
                })?;
            rendered.as_str().unwrap_or("target").to_owned()
        }
        (None, _) => "target".to_owned(),
    };
    let directory = located.project_dir.join(name);
    let file = |name: &str| directory.join(name);
    Ok(Artefacts {
        manifest: file("manifest.json"),
        run_results: file("run_results.json"),
        sources: file("sources.json"),
        catalog: file("catalog.json"),
        directory,
    })
}

/// The project's dbt packages: as locked by `dbt deps` where there is a lock, else as asked for.
///
/// # Errors
/// When one of the files is there and cannot be read.
pub fn packages(project_dir: &Path) -> Result<Vec<Package>, ProfileError> {
    for name in ["package-lock.yml", "packages.yml", "dependencies.yml"] {
        let file = project_dir.join(name);
        if !file.exists() {
            continue;
        }
        let Some(Value::Array(listed)) = read_mapping(&file)?.remove("packages") else {
            continue;
        };
        let mut packages: Vec<Package> = listed.iter().filter_map(package).collect();
        packages.sort();
        return Ok(packages);
    }
    Ok(Vec::new())
}

fn package(entry: &Value) -> Option<Package> {
    let text = |key: &str| match entry.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(bounds) => {
            let bounds: Vec<&str> = bounds.iter().filter_map(Value::as_str).collect();
            Some(bounds.join(", "))
        }
        _ => None,
    };
    // An address may carry a token; what comes before `@` is not recorded.
    let name = ["package", "git", "tarball", "local"]
        .into_iter()
        .find_map(text)
        .map(
            |name| match (name.split_once("://"), name.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
                _ => name,
            },
        )?;
    Some(Package {
        version: text("version").or_else(|| text("revision")),
        name,
    })
}

/// The versions of dbt, of its adapters and of DuckDB that are installed beside a program: the
/// `dbt` script or the Python interpreter of a virtual environment. Empty where the program is not
/// in one.
pub fn installed_versions(program: &Path) -> BTreeMap<String, String> {
    let beside = versions_in(program);
    match std::fs::canonicalize(program) {
        // A tool installer puts a link to the program on the path.
        Ok(real) if beside.is_empty() => versions_in(&real),
        _ => beside,
    }
}

fn versions_in(program: &Path) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let Some(environment) = program.parent().and_then(Path::parent) else {
        return versions;
    };
    let entries = |dir: PathBuf| {
        let read = std::fs::read_dir(dir).into_iter().flatten().flatten();
        read.map(|entry| entry.path())
    };
    let libraries = entries(environment.join("lib")).map(|dir| dir.join("site-packages"));
    for info in libraries.flat_map(entries) {
        let name = info.file_name().and_then(|name| name.to_str());
        let Some((package, version)) = name
            .and_then(|name| name.strip_suffix(".dist-info"))
            .and_then(|name| name.split_once('-'))
        else {
            continue;
        };
        if package == "duckdb" || package.starts_with("dbt_") {
            versions.insert(package.replace('_', "-"), version.to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Surroundings) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let at = Surroundings {
            directory: dir.path().to_owned(),
            env: BTreeMap::new(),
        };
        (dir, at)
    }

    const PROFILES: (&str, &str) = (
        "profiles.yml",
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: w.db}}}",
    );

    #[test]
    fn artefacts_are_where_dbt_writes_them() {
        for (line, flag, env, expected) in [
            ("", None, None, "target"),
            ("target-path: out", None, None, "out"),
            (
                "target-path: \"out/{{ target.name }}\"",
                None,
                None,
                "out/dev",
            ),
            ("target-path: out", None, Some("from_env"), "from_env"),
            ("target-path: out", Some("flag"), Some("from_env"), "flag"),
            ("", Some("/abs"), None, "/abs"),
        ] {
            let text = format!("name: shop\nprofile: shop\n{line}\n");
            let (dir, mut at) = project(&[("dbt_project.yml", &text), PROFILES]);
            if let Some(value) = env {
                at.env.insert("DBT_TARGET_PATH".into(), value.into());
            }
            let options = Options {
                target_path: flag.map(str::to_owned),
                ..Options::default()
            };
            let located = Located::find(&options, &at).unwrap();
            let target = located.target(&options, &at).unwrap();
            let found = artefacts(&located, &target, &options, &at).unwrap();
            assert_eq!(
                found.manifest,
                dir.path().join(expected).join("manifest.json"),
                "{line}"
            );
        }
    }

    #[test]
    fn the_lock_says_what_took_part() {
        let base = [("dbt_project.yml", "name: shop\nprofile: shop\n"), PROFILES];
        let names = |files: &[(&str, &str)]| -> Vec<(String, Option<String>)> {
            let (dir, _) = project(files);
            let all = packages(dir.path()).unwrap();
            all.into_iter().map(|p| (p.name, p.version)).collect()
        };
        assert_eq!(names(&base), []);
        let asked = (
            "packages.yml",
            "packages:\n  - package: dbt-labs/dbt_utils\n    version: ['>=1.0', '<2']\n",
        );
        let one = |name: &str, version: &str| (name.to_owned(), Some(version.to_owned()));
        assert_eq!(
            names(&[base[0], base[1], asked]),
            [one("dbt-labs/dbt_utils", ">=1.0, <2")]
        );
        let locked = (
            "package-lock.yml",
            "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.3.0\n    name: dbt_utils\n  \
             - git: https://token@git.example/x.git\n    revision: abc\n  - local: ../tools\n\
             sha1_hash: 1\n",
        );
        assert_eq!(
            names(&[base[0], base[1], asked, locked]),
            [
                ("../tools".to_owned(), None),
                one("dbt-labs/dbt_utils", "1.3.0"),
                one("https://git.example/x.git", "abc"),
            ]
        );
    }

    #[test]
    fn installed_versions_are_read_beside_the_program() {
        let site = "lib/python3.11/site-packages";
        let dir = tempfile::tempdir().unwrap();
        for info in [
            "dbt_core-1.11.16",
            "dbt_duckdb-1.11.1",
            "duckdb-1.5.5",
            "click-8.1",
        ] {
            std::fs::create_dir_all(dir.path().join(site).join(format!("{info}.dist-info")))
                .unwrap();
        }
        let versions = installed_versions(&dir.path().join("bin/dbt"));
        let expected = [
            ("dbt-core", "1.11.16"),
            ("dbt-duckdb", "1.11.1"),
            ("duckdb", "1.5.5"),
        ];
        assert_eq!(
            versions,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert!(installed_versions(Path::new("dbt")).is_empty());
    }
}
