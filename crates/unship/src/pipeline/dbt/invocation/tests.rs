use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Option<Invocation> {
    let argv: Vec<String> = text.split(' ').map(str::to_owned).collect();
    Invocation::parse(&argv)
}

#[test]
fn dbt_is_recognised_behind_its_launchers() {
    for (text, program, subcommand) in [
        ("dbt build", "dbt", Some("build")),
        ("/opt/v/bin/dbt -q run", "/opt/v/bin/dbt", Some("run")),
        ("python -m dbt.cli.main run", "python", Some("run")),
        (
            "/v/bin/python3.11 -X dev -m dbt.cli.main run",
            "/v/bin/python3.11",
            Some("run"),
        ),
        ("python /v/bin/dbt run", "python", Some("run")),
        ("env A=b DBT_TARGET=prod dbt build", "dbt", Some("build")),
        ("uv run dbt build", "dbt", Some("build")),
        (
            "uv run --with dbt-duckdb --python=3.12 dbt build",
            "dbt",
            Some("build"),
        ),
        ("uv run -- dbt build", "dbt", Some("build")),
        ("poetry run dbt build", "dbt", Some("build")),
        (
            "env A=b uv run python -m dbt.cli.main test",
            "python",
            Some("test"),
        ),
        ("dbt --version", "dbt", None),
        ("dbt docs generate", "dbt", Some("docs generate")),
        (
            "dbt --no-use-colors -t prod source freshness",
            "dbt",
            Some("source freshness"),
        ),
    ] {
        let read = parse(text).expect(text);
        assert_eq!(read.program(), program, "{text}");
        assert_eq!(read.subcommand.as_deref(), subcommand, "{text}");
    }
    for other in [
        "",
        "python load.py",
        "bash -c dbt",
        "make dbt",
        "env",
        "uv pip install dbt",
        "python -m pip install dbt",
        "env -i dbt run",
        "uv run",
        "dbt-runner run",
    ] {
        assert_eq!(parse(other), None, "{other}");
    }
}

#[test]
fn options_are_read_before_and_after_the_subcommand() {
    let read = parse(
        "env -u DBT_PROFILE -C sub DBT_X=1 dbt --profile shop -xt prod --log-level warn build \
         --project-dir=p --profiles-dir q --target-path out -s a +b --exclude=c d \
         --select tag:x --vars {a:1} --threads 4 -f --selector nightly --no-write-json",
    )
    .unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        read.options,
        Options {
            project_dir: text("p"),
            profiles_dir: text("q"),
            profile: text("shop"),
            target: text("prod"),
            target_path: text("out"),
            vars: text("{a:1}"),
            select: ["a", "+b", "tag:x"].map(str::to_owned).into(),
            exclude: ["c", "d"].map(str::to_owned).into(),
            selector: text("nightly"),
            full_refresh: true,
            no_write_json: true,
            ..Options::default()
        }
    );
    let launcher = Surroundings {
        directory: "/job".into(),
        env: [("DBT_PROFILE", "x"), ("HOME", "/h")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    let seen = read.surroundings(&launcher);
    assert_eq!(seen.directory, Path::new("/job/sub"));
    let names: Vec<_> = seen.env.keys().map(String::as_str).collect();
    assert_eq!(names, ["DBT_X", "HOME"]);
    let words = ["dbt", "run", "--select", "a b", "-tdev"].map(str::to_owned);
    let read = Invocation::parse(&words).unwrap();
    assert_eq!(read.options.select, ["a", "b"]);
    assert_eq!(read.options.target.as_deref(), Some("dev"));
    let moved = parse("uv --directory a run dbt run").unwrap();
    assert_eq!(moved.directory.as_deref(), Some(Path::new("a")));
}

#[test]
fn the_profiles_directory_goes_where_dbt_accepts_it() {
    for (text, rewritten) in [
        ("dbt build", Some("dbt build --profiles-dir /n")),
        (
            "dbt -q build --select a b",
            Some("dbt -q build --profiles-dir /n --select a b"),
        ),
        (
            "dbt source freshness -s x",
            Some("dbt source freshness --profiles-dir /n -s x"),
        ),
        (
            "dbt build --profiles-dir=old -f",
            Some("dbt build --profiles-dir=/n -f"),
        ),
        (
            "dbt build --profiles-dir old -f",
            Some("dbt build --profiles-dir /n -f"),
        ),
        ("dbt build --profiles-dir", Some("dbt build --profiles-dir")),
        (
            "uv run dbt run-operation m --args --profiles-dir",
            Some("uv run dbt run-operation --profiles-dir /n m --args --profiles-dir"),
        ),
        ("dbt --version", None),
    ] {
        let argv = parse(text).unwrap().with_profiles_dir(Path::new("/n"));
        assert_eq!(
            argv.map(|argv| argv.join(" ")).as_deref(),
            rewritten,
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_command_lines_never_panic(
        words in proptest::collection::vec(
            "dbt|env|uv|run|-[a-z]{0,3}|--[a-z-]{0,8}=?|--select|--profiles-dir|[^ ]{0,4}", 0..8),
    ) {
        fuzz(words.join(" ").as_bytes());
        fuzz(format!("dbt {}", words.join(" ")).as_bytes());
    }
}

#[test]
fn options_are_put_behind_the_sub_command_and_nowhere_else() {
    let set = [("--defer", None), ("--defer-state", Some("/s"))];
    for (text, rewritten) in [
        ("dbt build", Some("dbt build --defer --defer-state /s")),
        (
            "uv run dbt -q --defer build -s a b --defer-state=x -f",
            Some("uv run dbt -q build --defer --defer-state /s -s a b -f"),
        ),
        (
            "dbt --defer-state x docs generate --no-defer",
            Some("dbt docs generate --defer --defer-state /s"),
        ),
        (
            "dbt run-operation m --args --defer",
            Some("dbt run-operation --defer --defer-state /s m --args --defer"),
        ),
        (
            "dbt run --defer-state",
            Some("dbt run --defer --defer-state /s"),
        ),
        ("dbt --version", None),
    ] {
        let argv = parse(text).unwrap().with_options(&set, &["--no-defer"]);
        assert_eq!(
            argv.map(|argv| argv.join(" ")).as_deref(),
            rewritten,
            "{text}"
        );
    }
}
