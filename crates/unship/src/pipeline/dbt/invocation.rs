//! A job's command line, read as far as dbt's own command line goes.

use super::Surroundings;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A job that is dbt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    argv: Vec<String>,
    /// Where the word that starts dbt stands: `dbt`, or the module name after `python -m`.
    dbt_at: usize,
    /// The interpreter, where dbt is started as a Python module.
    pub python: Option<String>,
    /// Variables that the command line itself sets (`env DBT_TARGET=prod dbt …`).
    env: BTreeMap<String, String>,
    /// Variables that the command line takes away (`env -u DBT_TARGET dbt …`).
    env_removed: Vec<String>,
    /// The directory that a launcher changes to before it starts dbt, if any.
    directory: Option<PathBuf>,
    /// dbt's sub-command, such as `build` or `source freshness`; `None` for `dbt --version`.
    pub subcommand: Option<String>,
    /// Where the first word after the sub-command stands.
    after_subcommand: usize,
    /// Its options.
    pub options: Options,
}

/// The options of a dbt command that matter to unship.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `--project-dir`.
    pub project_dir: Option<String>,
    /// `--profiles-dir`.
    pub profiles_dir: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--target`, `-t`.
    pub target: Option<String>,
    /// `--target-path`.
    pub target_path: Option<String>,
    /// `--vars`, as written.
    pub vars: Option<String>,
    /// `--select`, `-s`, `--models`, `-m`, each word for itself.
    pub select: Vec<String>,
    /// `--exclude`, each word for itself.
    pub exclude: Vec<String>,
    /// `--selector`.
    pub selector: Option<String>,
    /// `--full-refresh`, `-f`.
    pub full_refresh: bool,
    /// `--no-write-json` was given: dbt leaves no artefacts behind.
    pub no_write_json: bool,
    /// `--state`.
    pub state: Option<String>,
    /// `--resource-type`, each word for itself.
    pub resource_types: Vec<String>,
    /// `--exclude-resource-type`, each word for itself.
    pub exclude_resource_types: Vec<String>,
}

/// Long options that take one value, over all of dbt 1.11's sub-commands.
const WITH_VALUE: &[&str] = &[
    "--add-package",
    "--args",
    "--defer-state",
    "--deprecated-defer",
    "--deprecated-favor-state",
    "--deprecated-state",
    "--event-time-end",
    "--event-time-start",
    "--host",
    "--indirect-selection",
    "--inline",
    "--inline-direct",
    "--limit",
    "--log-file-max-bytes",
    "--log-format",
    "--log-format-file",
    "--log-level",
    "--log-level-file",
    "--log-path",
    "--output",
    "--partial-parse-file-path",
    "--port",
    "--printer-width",
    "--profile",
    "--profiles-dir",
    "--project-dir",
    "--record-timing-info",
    "--sample",
    "--selector",
    "--source",
    "--sqlparse",
    "--state",
    "--target",
    "--target-path",
    "--threads",
    "--vars",
    "--warn-error-options",
];

/// Options that take every following word up to the next option.
const WITH_VALUES: &[&str] = &[
    "--exclude",
    "--exclude-resource-type",
    "--exclude-resource-types",
    "--model",
    "--models",
    "--output-keys",
    "--resource-type",
    "--resource-types",
    "--select",
];

/// Sub-commands that have sub-commands.
const GROUPS: &[&str] = &["docs", "source"];

/// What one option asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    One,
    Many,
}

impl Invocation {
    /// Reads a job's command line; `None` if it is not dbt.
    ///
    /// dbt is recognised by name, by path, as a Python module, and behind `env`, `uv run` and
    /// `poetry run`. A shell script that calls dbt is not: what it would do cannot be told from its
    /// command line.
    pub fn parse(argv: &[String]) -> Option<Self> {
        let mut reading = Self {
            argv: argv.to_vec(),
            dbt_at: 0,
            python: None,
            env: BTreeMap::new(),
            env_removed: Vec::new(),
            directory: None,
            subcommand: None,
            after_subcommand: argv.len(),
            options: Options::default(),
        };
        reading.dbt_at = reading.find_dbt()?;
        reading.read_arguments();
        Some(reading)
    }

    /// The program that runs dbt: the `dbt` script, or the interpreter of `python -m dbt…`.
    pub fn program(&self) -> &str {
        match &self.python {
            Some(python) => python,
            None => self.word(self.dbt_at),
        }
    }

    /// Whether it goes on where the last invocation failed.
    pub fn is_retry(&self) -> bool {
        self.subcommand.as_deref() == Some("retry")
    }

    /// The command line with dbt reading its profiles from `directory`; `None` where there is no
    /// sub-command to take the option, and so nothing that would read a profile.
    ///
    /// A given `--profiles-dir` is replaced where it stands. Otherwise the option goes right
    /// behind the sub-command: before it dbt does not accept it, and further back an option such
    /// as `--select` could swallow it.
    pub fn with_profiles_dir(&self, directory: &Path) -> Option<Vec<String>> {
        self.subcommand.as_ref()?;
        let directory = directory.to_str()?;
        let mut argv = self.argv.clone();
        let mut found = false;
        let places: Vec<usize> = self.occurrences("--profiles-dir");
        for at in places {
            found = true;
            match argv.get_mut(at) {
                Some(word) if word.contains('=') => *word = format!("--profiles-dir={directory}"),
                _ => {
                    if let Some(value) = argv.get_mut(at + 1) {
                        directory.clone_into(value);
                    }
                }
            }
        }
        if !found {
            let new = ["--profiles-dir".to_owned(), directory.to_owned()];
            argv.splice(self.after_subcommand..self.after_subcommand, new);
        }
        Some(argv)
    }

    /// The command line with these options and no others of their names, nor any of `without`.
    /// They go right behind the sub-command: dbt refuses an option that is given before it as well.
    /// `None` where there is no sub-command.
    pub fn with_options(
        &self,
        options: &[(&str, Option<&str>)],
        without: &[&str],
    ) -> Option<Vec<String>> {
        self.subcommand.as_ref()?;
        let new: Vec<String> = options
            .iter()
            .flat_map(|(name, value)| [Some(*name), *value])
            .flatten()
            .map(str::to_owned)
            .collect();
        let gone = |name: &str| {
            without.contains(&name) || options.iter().any(|(option, _)| *option == name)
        };
        let mut scan = self.clone();
        let mut argv = self.argv.get(..=self.dbt_at)?.to_vec();
        let mut at = self.dbt_at + 1;
        while let Some(word) = self.argv.get(at) {
            if at == self.after_subcommand {
                argv.extend(new.clone());
            }
            let is_option = word.starts_with('-') && word != "-";
            let next = match is_option {
                true => scan.read_option(at, word).min(self.argv.len()),
                false => at + 1,
            };
            let name = word.split('=').next().unwrap_or(word);
            if !(is_option && gone(name)) {
                argv.extend(self.argv.get(at..next).unwrap_or_default().iter().cloned());
            }
            at = next;
        }
        if self.after_subcommand >= self.argv.len() {
            argv.extend(new);
        }
        Some(argv)
    }

    /// Whether the command line has this option.
    pub fn gives(&self, option: &str) -> bool {
        !self.occurrences(option).is_empty()
    }

    /// What starts dbt itself, launchers included: the command line as far as its own name.
    pub fn launcher(&self) -> &[String] {
        self.argv.get(..=self.dbt_at).unwrap_or_default()
    }

    /// What dbt itself sees, given what the job's launcher sees.
    pub fn surroundings(&self, launcher: &Surroundings) -> Surroundings {
        let mut seen = launcher.clone();
        seen.env.retain(|name, _| !self.env_removed.contains(name));
        seen.env.extend(self.env.clone());
        if let Some(directory) = &self.directory {
            seen.directory = seen.directory.join(directory);
        }
        seen
    }

    fn word(&self, at: usize) -> &str {
        self.argv.get(at).map_or("", String::as_str)
    }

    /// Skips launchers, and remembers what they change.
    fn find_dbt(&mut self) -> Option<usize> {
        let mut at = 0;
        loop {
            let word = self.argv.get(at)?.clone();
            let name = word.rsplit('/').next().unwrap_or(&word).to_owned();
            match name.as_str() {
                "dbt" => return Some(at),
                "env" => at = self.skip_env(at + 1)?,
                "uv" | "poetry" => at = self.skip_runner(at + 1)?,
                name if is_python(name) => {
                    at += 1;
                    while self.argv.get(at)?.starts_with('-') && self.word(at) != "-m" {
                        // Of Python's options these two take a value.
                        at += if matches!(self.word(at), "-W" | "-X") {
                            2
                        } else {
                            1
                        };
                    }
                    let is_module = self.word(at) == "-m"
                        && matches!(self.word(at + 1), "dbt" | "dbt.cli" | "dbt.cli.main");
                    let is_script = self.word(at).rsplit('/').next() == Some("dbt");
                    if !is_module && !is_script {
                        return None;
                    }
                    self.python = Some(word);
                    return Some(if is_module { at + 1 } else { at });
                }
                _ => return None,
            }
        }
    }

    fn skip_env(&mut self, mut at: usize) -> Option<usize> {
        loop {
            let word = self.argv.get(at)?.clone();
            let value = self.argv.get(at + 1).cloned();
            match word.as_str() {
                "-u" | "--unset" => {
                    self.env_removed.push(value?);
                    at += 2;
                }
                "-C" | "--chdir" => {
                    self.change_directory(&value?);
                    at += 2;
                }
                "--" => at += 1,
                option if option.starts_with('-') => {
                    if let Some(name) = option.strip_prefix("--unset=") {
                        self.env_removed.push(name.to_owned());
                    } else if let Some(directory) = option.strip_prefix("--chdir=") {
                        self.change_directory(directory);
                    } else {
                        // `-i` empties the environment and `-S` is a command line in one word:
                        // what dbt would see is then not ours to guess.
                        return None;
                    }
                    at += 1;
                }
                word => match word.split_once('=') {
                    Some((name, value)) => {
                        self.env.insert(name.to_owned(), value.to_owned());
                        at += 1;
                    }
                    None => return Some(at),
                },
            }
        }
    }

    /// `uv [options] run [options] command`, and `poetry` likewise.
    fn skip_runner(&mut self, mut at: usize) -> Option<usize> {
        let mut running = false;
        loop {
            let word = self.argv.get(at)?.clone();
            let (option, given) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let takes_value = matches!(
                option,
                "--directory"
                    | "-C"
                    | "--project"
                    | "-P"
                    | "--with"
                    | "--python"
                    | "-p"
                    | "--extra"
                    | "--group"
                    | "--only-group"
                    | "--no-group"
                    | "--package"
                    | "--env-file"
                    | "--index"
                    | "--default-index"
                    | "--cache-dir"
                    | "--config-file"
                    | "--with-requirements"
                    | "--with-editable"
                    | "--refresh-package"
            );
            match option {
                "run" if !running => running = true,
                "--" if running => {}
                _ if !option.starts_with('-') => return running.then_some(at),
                "--directory" | "-C" => {
                    let directory = given.clone().or_else(|| self.argv.get(at + 1).cloned())?;
                    self.change_directory(&directory);
                }
                _ => {}
            }
            at += if takes_value && given.is_none() { 2 } else { 1 };
        }
    }

    fn change_directory(&mut self, to: &str) {
        let before = self.directory.take().unwrap_or_default();
        self.directory = Some(before.join(to));
    }

    fn read_arguments(&mut self) {
        let mut at = self.dbt_at + 1;
        let mut group: Option<String> = None;
        while let Some(word) = self.argv.get(at).cloned() {
            if !word.starts_with('-') || word == "-" {
                if self.subcommand.is_none() {
                    match group.take() {
                        Some(group) => self.subcommand = Some(format!("{group} {word}")),
                        None if GROUPS.contains(&word.as_str()) => group = Some(word),
                        None => self.subcommand = Some(word),
                    }
                    self.after_subcommand = at + 1;
                }
                at += 1;
                continue;
            }
            at = self.read_option(at, &word);
        }
    }

    /// Takes one option and its values; gives the place of the next word.
    fn read_option(&mut self, at: usize, word: &str) -> usize {
        let (name, given) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ if word.starts_with("--") => (word, None),
            _ => return self.read_short(at, word),
        };
        let takes = match () {
            () if WITH_VALUE.contains(&name) => Takes::One,
            () if WITH_VALUES.contains(&name) => Takes::Many,
            () => Takes::Nothing,
        };
        self.take(name, takes, given.map(str::to_owned), at + 1)
    }

    /// `-t prod`, `-tprod`, `-xt prod`: flags may be run together, the last one may have a value.
    fn read_short(&mut self, at: usize, word: &str) -> usize {
        for (i, letter) in word.char_indices().skip(1) {
            let (name, takes) = match letter {
                't' => ("--target", Takes::One),
                's' => ("--select", Takes::Many),
                'm' => ("--models", Takes::Many),
                'f' => ("--full-refresh", Takes::Nothing),
                'o' | 'r' => ("", Takes::One),
                _ => ("", Takes::Nothing),
            };
            let rest = word.get(i + letter.len_utf8()..).unwrap_or_default();
            if takes != Takes::Nothing {
                let given = (!rest.is_empty()).then(|| rest.to_owned());
                return self.take(name, takes, given, at + 1);
            }
            self.take(name, takes, None, at + 1);
        }
        at + 1
    }

    fn take(&mut self, name: &str, takes: Takes, given: Option<String>, mut next: usize) -> usize {
        let mut values = Vec::new();
        if takes != Takes::Nothing {
            let first = given.or_else(|| {
                next += 1;
                self.argv.get(next - 1).cloned()
            });
            values.extend(first);
        }
        if takes == Takes::Many {
            while let Some(word) = self.argv.get(next).filter(|word| !word.starts_with('-')) {
                values.push(word.clone());
                next += 1;
            }
        }
        let value = values.first().cloned();
        let options = &mut self.options;
        let words = || {
            values
                .iter()
                .flat_map(|value| value.split_whitespace())
                .map(str::to_owned)
        };
        match name {
            "--project-dir" => options.project_dir = value,
            "--profiles-dir" => options.profiles_dir = value,
            "--profile" => options.profile = value,
            "--target" => options.target = value,
            "--target-path" => options.target_path = value,
            "--vars" => options.vars = value,
            "--selector" => options.selector = value,
            "--state" => options.state = value,
            "--resource-type" | "--resource-types" => options.resource_types.extend(words()),
            "--exclude-resource-type" | "--exclude-resource-types" => {
                options.exclude_resource_types.extend(words());
            }
            "--select" | "--models" | "--model" => options.select.extend(words()),
            "--exclude" => options.exclude.extend(words()),
            "--full-refresh" => options.full_refresh = true,
            "--no-write-json" => options.no_write_json = true,
            _ => {}
        }
        next
    }

    /// Where an option with one value stands, as an option and not as another's value.
    fn occurrences(&self, option: &str) -> Vec<usize> {
        let mut scan = self.clone();
        let mut found = Vec::new();
        let mut at = self.dbt_at + 1;
        while let Some(word) = self.argv.get(at) {
            let name = word.split('=').next().unwrap_or(word);
            if name == option {
                found.push(at);
            }
            at = match word.starts_with('-') && word != "-" {
                true => scan.read_option(at, word),
                false => at + 1,
            };
        }
        found
    }
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python")
        .is_some_and(|rest| rest.bytes().all(|b| b == b'.' || b.is_ascii_digit()))
}

/// Feeds arbitrary bytes to the reader as words separated by spaces, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let argv: Vec<String> = text.split(' ').map(str::to_owned).collect();
    if let Some(invocation) = Invocation::parse(&argv) {
        let _ = invocation.with_profiles_dir(Path::new("/p"));
        let _ = invocation.with_options(&[("--state", Some("s"))], &["--defer"]);
    }
}

#[cfg(test)]
mod tests;
