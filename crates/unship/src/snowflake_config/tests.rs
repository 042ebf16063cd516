//! How `unship.toml` and a profile of dbt-snowflake lead to an account. Nothing is asked of one.

use crate::cli::Global;
use crate::config::{Config, Env};
use crate::context::Context;
use unship_engines::snowflake::client::Credentials;

fn env(text: &str) -> String {
    format!("format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"snowflake\"\n{text}")
}

/// A project whose environment says this, and whose target `prod` has these keys as well.
fn context(text: &str, target: &str) -> (tempfile::TempDir, Context) {
    let dir = tempfile::tempdir().unwrap();
    let profile = format!(
        "shop:\n  target: prod\n  outputs:\n    prod:\n      type: snowflake\n      \
         account: org-acct\n      user: ana\n      database: shop\n      schema: marts\n      \
         role: builder\n{target}"
    );
    for (file, text) in [
        ("unship.toml", env(text)),
        ("dbt_project.yml", "name: shop\nprofile: shop\n".to_owned()),
        ("profiles.yml", profile),
        ("token", "hunter2\n".to_owned()),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let global = Global {
        env: None,
        project: Some(dir.path().to_owned()),
        python: None,
        json: false,
    };
    let context = Context::find(&global).unwrap();
    (dir, context)
}

#[test]
fn a_target_says_what_the_file_does_not() {
    let token =
        "      authenticator: oauth\n      token: hunter2\n      warehouse: '\"Nightly\"'\n";
    let (_dir, context) = context("target = \"prod\"\nrole = \"releaser\"\n", token);
    let settings = context.snowflake().unwrap();
    assert_eq!(settings.base(), "https://org-acct.snowflakecomputing.com");
    assert_eq!(settings.user, "ana");
    assert_eq!(settings.database, "SHOP");
    assert_eq!(settings.role.as_deref(), Some("RELEASER"));
    assert_eq!(settings.warehouse.as_deref(), Some("Nightly"));
    assert!(matches!(settings.credentials, Credentials::OAuth(_)));
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(context.snowflake_engine(Default::default()).is_ok());
    assert!(context.files().is_err() && context.postgres().is_err());
}

#[test]
fn a_login_that_the_api_does_not_take_is_refused_with_what_to_do() {
    let password = "      password: hunter2\n";
    let browser = "      authenticator: externalbrowser\n";
    for (target, says) in [(password, "a password"), (browser, "externalbrowser")] {
        let (_dir, context) = context("target = \"prod\"\n", target);
        let error = context.snowflake().unwrap_err();
        assert!(error.message.contains(says), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        assert!(error.hint.unwrap().contains("access_token"));
    }
    // A login of unship's own goes before that of the profile.
    let own = "target = \"prod\"\naccess_token = { file = \"token\" }\n";
    let (_dir, context) = context(own, password);
    let settings = context.snowflake().unwrap();
    assert!(matches!(settings.credentials, Credentials::AccessToken(_)));
}

#[test]
fn a_key_that_cannot_sign_is_said() {
    let (dir, context) = context("target = \"prod\"\n", "      private_key_path: key.p8\n");
    let missing = context.snowflake().unwrap_err();
    assert!(missing.message.contains("key.p8"), "{}", missing.message);
    std::fs::write(dir.path().join("key.p8"), "hunter2").unwrap();
    let wrong = context.snowflake().unwrap_err();
    assert!(
        wrong.message.contains("no private key"),
        "{}",
        wrong.message
    );
    assert!(!wrong.message.contains("hunter2"));
}

#[test]
fn everything_can_be_said_in_the_file() {
    let (_dir, context) = context(
        "account = \"org-acct\"\ndatabase = '\"Shop\"'\naccess_token = { file = \"token\" }\n\
         url = \"https://org-acct.privatelink.snowflakecomputing.com\"\n\
         schemas = [\"marts\", '\"Core\"']\nclone = [\"ops.runs\"]\n",
        "",
    );
    let settings = context.snowflake().unwrap();
    assert_eq!(settings.database, "Shop");
    assert!(settings.base().contains("privatelink"));
    let config = context.snowflake_config().unwrap();
    assert_eq!(
        config.guarded(),
        ["Core", "MARTS"].map(str::to_owned).into()
    );
    let cloned = config.cloned().unwrap();
    assert_eq!(cloned, [("OPS".to_owned(), "RUNS".to_owned())].into());
    let text = toml::to_string(&context.config).unwrap();
    assert_eq!(Config::parse(&text).unwrap(), context.config);
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let token = "access_token = { env = \"T\" }\n";
    let whole = format!("account = \"a-b\"\ndatabase = \"d\"\n{token}");
    let good = Config::parse(&env(&whole)).unwrap();
    assert!(matches!(good.envs["prod"], Env::Snowflake(_)));
    for (text, says) in [
        (String::new(), "nor `account`"),
        (format!("account = \"a\"\n{token}"), "nor `database`"),
        (
            "account = \"a\"\ndatabase = \"d\"\n".to_owned(),
            "has no login",
        ),
        (
            format!("target = \"p\"\n{token}oauth_token = {{ env = \"U\" }}\n"),
            "keep one of them",
        ),
        (
            "target = \"p\"\nprivate_key_passphrase = { env = \"P\" }\n".to_owned(),
            "no `private_key` that it would open",
        ),
        (
            "account = \"a\"\ndatabase = \"d\"\nprivate_key = { env = \"K\" }\n".to_owned(),
            "no `user` whose it is",
        ),
        (
            format!("{whole}url = \"http://a-b.example.com\"\n"),
            "must begin with https",
        ),
        (
            "target = \"p\"\naccess_token = \"s3cret\"\n".to_owned(),
            "a secret is not written in this file",
        ),
        (
            "target = \"p\"\npassword = \"s3cret\"\n".to_owned(),
            "unknown field",
        ),
    ] {
        let said = Config::parse(&env(&text)).unwrap_err();
        assert!(said.contains(says), "{text}: {said}");
        assert!(!said.contains("access_token = \"s3cret"), "{said}");
    }
}
