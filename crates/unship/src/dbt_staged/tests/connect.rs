//! What `init` writes for a PostgreSQL target, and how the database is reached by it. No server is
//! asked.

use crate::cli::{Global, Init};
use crate::cmd::init;
use crate::config::{Config, Env, LedgerPlace};
use crate::context::Context;

const PROFILES: &str = "shop:\n  target: prod\n  outputs:\n    prod: {type: postgres, host: db.example, \
    port: 5433, user: ana, pass: hunter2, dbname: shop, schema: analytics, role: builder, \
    sslmode: verify-full}\n";

fn global(dir: &std::path::Path) -> Global {
    Global {
        env: None,
        project: Some(dir.to_owned()),
        python: None,
        json: false,
    }
}

#[test]
fn init_names_the_target_and_leaves_the_password_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("p/dbt_project.yml", "name: shop\nprofile: shop\n"),
        ("conf/profiles.yml", PROFILES),
    ] {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let root = dir.path().join("p");
    let (project, profiles) = (root.display(), dir.path().join("conf"));
    let line = format!(
        "dbt build --project-dir {project} --profiles-dir {}",
        profiles.display()
    );
    let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let invocation = crate::pipeline::dbt::invocation::Invocation::parse(&argv).unwrap();
    let job = crate::dbt_job::DbtJob::of(invocation, &root).unwrap();
    init::for_dbt(&global(&root), &job).unwrap();
    let text = std::fs::read_to_string(root.join("unship.toml")).unwrap();
    let here = dir.path().canonicalize().unwrap();
    let text = text.replace(&here.display().to_string(), "[dir]");
    insta::assert_snapshot!(text, @r#"
    # What unship guards. Every key is described in the book, under Configuration.
    format = 1
    default_env = "prod"

    [dbt]
    project_dir = "."
    profiles_dir = "[dir]/conf"

    [env.prod]
    engine = "postgres"
    target = "prod"

    [keep]
    last = 30
    for = "30d"
    "#);
    // From here on the profile is found without being named.
    let context = Context::find(&global(&root)).unwrap();
    assert_eq!(context.env, "prod");
    let no_files = context.files().unwrap_err();
    assert!(
        no_files
            .message
            .contains("PostgreSQL database and has no files")
    );
    let reached = context.postgres().unwrap();
    assert_eq!(
        reached.connection,
        "host=db.example port=5433 user=ana dbname=shop sslmode=verify-full"
    );
    assert_eq!(reached.role.as_deref(), Some("builder"));
    assert_eq!(reached.password.as_ref().unwrap().reveal(), "hunter2");
    assert!(!format!("{reached:?}").contains("hunter2"));
    // A second time there is nothing to write.
    let again = init::run(
        &global(&root),
        &Init {
            database: None,
            force: false,
        },
    );
    assert!(again.is_err());
}

fn config(env: &str) -> Result<Config, String> {
    Config::parse(&format!(
        "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"postgres\"\n{env}"
    ))
}

#[test]
fn a_connection_without_a_password_reaches_the_database_too() {
    let dir = tempfile::tempdir().unwrap();
    let text = "connection = \"host=db dbname=shop\"\nschemas = [\"marts\"]\nclone = [\"ops.runs\"]\n\
                ledger = \"file\"\n";
    let whole =
        format!("format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"postgres\"\n{text}");
    std::fs::write(dir.path().join("unship.toml"), whole).unwrap();
    let context = Context::find(&global(dir.path())).unwrap();
    let reached = context.postgres().unwrap();
    assert_eq!(reached.connection, "host=db dbname=shop");
    assert_eq!(reached.password, None);
    assert_eq!(reached.postgres.ledger, LedgerPlace::File);
    assert_eq!(
        reached.postgres.cloned().unwrap(),
        [("ops".to_owned(), "runs".to_owned())]
    );
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let good = config("target = \"prod\"").unwrap();
    let Env::Postgres(postgres) = &good.envs["prod"] else {
        panic!("another engine");
    };
    assert_eq!(postgres.ledger, LedgerPlace::Database);
    let long = "s".repeat(51);
    for (text, says) in [
        ("", "says neither `target`"),
        ("target = \"a\"\nconnection = \"host=b\"", "has both"),
        ("connection = \"host=h password=x\"", "holds a password"),
        (
            "connection = \"postgres://ana:hunter2@h/d\"",
            "holds a password",
        ),
        (
            &format!("target = \"a\"\nschemas = [\"{long}\"]"),
            "is too long to be built aside",
        ),
        ("target = \"a\"\nledger = \"nowhere\"", "unknown variant"),
        ("target = \"a\"\npath = \"x\"", "unknown field"),
    ] {
        let said = config(text).unwrap_err();
        assert!(said.contains(says), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let bad = config("target = \"a\"\nclone = [\"runs\"]").unwrap();
    let Env::Postgres(postgres) = &bad.envs["prod"] else {
        panic!("another engine");
    };
    let said = postgres.cloned().unwrap_err();
    assert!(said.message.contains("is not a relation with its schema"));
}
