//! Finds the Python that already holds DuckDB for the job.

use super::client::Worker;
use super::error::StartError;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("worker.py");

/// A started worker, and how its interpreter was found.
#[derive(Debug)]
pub struct Found {
    /// The interpreter.
    pub python: PathBuf,
    /// Where it was found, in words: "the interpreter of /home/me/.venv/bin/dbt".
    pub place: String,
    /// The worker, ready.
    pub worker: Worker,
}

/// Starts a worker on one interpreter.
///
/// Isolated (`-I`): neither the directory unship runs in nor `PYTHONPATH` can put another module
/// in DuckDB's place.
pub(super) fn start(python: &Path) -> Result<Worker, StartError> {
    let mut command = Command::new(python);
    command.args(["-I", "-u", "-c", SCRIPT]);
    Worker::start(command)
}

/// Starts a worker on the first interpreter that can import DuckDB: `explicit` and only that one
/// if it is given; else the interpreter behind the job's program; else `VIRTUAL_ENV`; else
/// `python3` on the `PATH`.
///
/// # Errors
/// [`StartError::NoPython`], which lists every place that was tried and why it would not do.
pub fn find_python(
    job_program: Option<&Path>,
    explicit: Option<&Path>,
) -> Result<Found, StartError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let venv = std::env::var_os("VIRTUAL_ENV").filter(|venv| !venv.is_empty());
    find_in(job_program, explicit, venv.as_deref(), &path)
}

fn find_in(
    job_program: Option<&Path>,
    explicit: Option<&Path>,
    venv: Option<&OsStr>,
    path: &OsStr,
) -> Result<Found, StartError> {
    let mut tried = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (place, python) in candidates(job_program, explicit, venv, path, &mut tried) {
        if seen.contains(&python) {
            continue;
        }
        seen.push(python.clone());
        match start(&python) {
            Ok(worker) => {
                return Ok(Found {
                    python,
                    place,
                    worker,
                });
            }
            Err(error) => tried.push((place, error.to_string())),
        }
    }
    Err(StartError::NoPython { tried })
}

fn candidates(
    job_program: Option<&Path>,
    explicit: Option<&Path>,
    venv: Option<&OsStr>,
    path: &OsStr,
    tried: &mut Vec<(String, String)>,
) -> Vec<(String, PathBuf)> {
    if let Some(python) = explicit {
        // Another interpreter than the one that was named would be a surprise.
        return vec![("--python".to_owned(), python.to_path_buf())];
    }
    let mut list = Vec::new();
    if let Some(program) = job_program {
        match on_path(program, path) {
            Some(program) => {
                let behind = behind(&program, path);
                if behind.is_empty() {
                    let place = format!("the job's program {}", program.display());
                    tried.push((place, "no Python stands behind it".to_owned()));
                }
                let place = format!("the interpreter of {}", program.display());
                list.extend(behind.into_iter().map(|python| (place.clone(), python)));
            }
            None => tried.push((
                format!("the job's program {}", program.display()),
                "it is not on the PATH".to_owned(),
            )),
        }
    }
    match venv {
        Some(venv) => list.push(("VIRTUAL_ENV".to_owned(), Path::new(venv).join("bin/python"))),
        None => tried.push(("VIRTUAL_ENV".to_owned(), "not set".to_owned())),
    }
    match on_path(Path::new("python3"), path) {
        Some(python) => list.push(("python3 on the PATH".to_owned(), python)),
        None => tried.push(("python3 on the PATH".to_owned(), "not found".to_owned())),
    }
    list
}

/// A program as the shell would find it.
fn on_path(program: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The interpreters that stand behind a program: itself, its first lines, its neighbours. A
/// virtual environment is known by the path it is called by, so links are never resolved on the
/// way to the interpreter itself.
fn behind(program: &Path, path: &OsStr) -> Vec<PathBuf> {
    let is_python = |name: &OsStr| name.to_string_lossy().starts_with("python");
    if program.file_name().is_some_and(is_python) {
        return vec![program.to_path_buf()];
    }
    let mut list = Vec::new();
    if let Some(python) = from_first_lines(&first_bytes(program), path) {
        list.push(python);
    }
    let target = program.canonicalize().ok();
    for file in [Some(program), target.as_deref()].into_iter().flatten() {
        if let Some(directory) = file.parent() {
            let sibling = directory.join("python");
            if sibling.is_file() {
                list.push(sibling);
            }
        }
    }
    list
}

fn first_bytes(program: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(program) {
        // An unreadable program has no first lines; what was tried will say so.
        let _ = file.take(4096).read_to_end(&mut bytes);
    }
    bytes
}

/// The interpreter named by `#!/path/python`, by `#!/usr/bin/env python3`, or by the
/// `'''exec' /path/python "$0" "$@"` that installers write where the path is too long for the
/// first form.
fn from_first_lines(bytes: &[u8], path: &OsStr) -> Option<PathBuf> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let first = lines.next()?.strip_prefix("#!")?.trim();
    let is_python = |word: &&str| {
        let name = word.rsplit('/').next().unwrap_or(word);
        name.starts_with("python")
    };
    // The whole line first: a directory's name may hold a space.
    if is_python(&first) && Path::new(first).is_file() {
        return Some(PathBuf::from(first));
    }
    if let Some(word) = first.split_whitespace().find(is_python) {
        return on_path(Path::new(word), path);
    }
    let exec = lines.next()?.strip_prefix("'''exec'")?.trim();
    let python = match exec.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => exec.split_whitespace().next()?,
    };
    Some(PathBuf::from(python))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duckdb::worker::testing::interpreter;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
        let file = directory.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    fn absolute() -> PathBuf {
        let path = std::env::var_os("PATH").unwrap_or_default();
        on_path(&interpreter(), &path).expect("a Python for tests; set UNSHIP_TEST_PYTHON")
    }

    #[test]
    fn the_interpreter_behind_a_job_is_read_from_its_first_lines() {
        let directory = tempfile::tempdir().unwrap();
        let python = absolute();
        let forms = [
            format!("#!{}\nimport dbt\n", python.display()),
            format!(
                "#!/bin/sh\n'''exec' \"{}\" \"$0\" \"$@\"\n' '''\n",
                python.display()
            ),
            format!(
                "#!/bin/sh\n'''exec' {} \"$0\" \"$@\"\n' '''\n",
                python.display()
            ),
        ];
        for (i, text) in forms.iter().enumerate() {
            let dbt = script(directory.path(), &format!("dbt{i}"), text);
            let found = find_in(Some(&dbt), None, None, OsStr::new("")).unwrap();
            assert_eq!(found.python, python, "{text}");
            assert!(found.place.contains("dbt"), "{}", found.place);
        }
    }

    #[test]
    fn a_bare_job_name_is_looked_for_on_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let python = absolute();
        script(
            directory.path(),
            "dbt",
            &format!("#!{}\n", python.display()),
        );
        let found = find_in(
            Some(Path::new("dbt")),
            None,
            None,
            directory.path().as_os_str(),
        )
        .unwrap();
        assert_eq!(found.python, python);
    }

    #[test]
    fn everything_that_was_tried_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let job = script(directory.path(), "job", "#!/bin/sh\nexit 0\n");
        script(directory.path(), "python3", "#!/bin/sh\nexit 3\n");
        let error = find_in(
            Some(&job),
            None,
            Some(OsStr::new("/nowhere/venv")),
            directory.path().as_os_str(),
        )
        .unwrap_err()
        .to_string()
        .replace(&directory.path().display().to_string(), "<dir>");
        insta::assert_snapshot!(error, @r"
        no Python with the duckdb package was found; give one with --python. Tried:
          the job's program <dir>/job: no Python stands behind it
          VIRTUAL_ENV: cannot run /nowhere/venv/bin/python: No such file or directory (os error 2)
          python3 on the PATH: <dir>/python3 did not answer as a worker: the DuckDB worker ended (exit status: 3) before it answered
        ");
    }

    #[test]
    fn an_explicit_interpreter_is_the_only_one_tried() {
        let error = find_in(
            None,
            Some(Path::new("/nowhere/python")),
            None,
            OsStr::new(""),
        )
        .unwrap_err()
        .to_string();
        insta::assert_snapshot!(error, @r"
        no Python with the duckdb package was found; give one with --python. Tried:
          --python: cannot run /nowhere/python: No such file or directory (os error 2)
        ");
    }

    #[test]
    fn a_module_in_the_working_directory_is_not_imported() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("duckdb.py"), "raise SystemExit(9)").unwrap();
        let mut command = Command::new(absolute());
        command
            .args(["-I", "-u", "-c", SCRIPT])
            .current_dir(directory.path());
        assert!(Worker::start(command).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn first_lines_never_panic(bytes: Vec<u8>) {
            let _ = from_first_lines(&bytes, OsStr::new("/bin"));
        }
    }
}
