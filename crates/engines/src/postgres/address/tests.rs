use super::*;
use std::os::unix::fs::PermissionsExt;

fn nothing(_: &str) -> Option<String> {
    None
}

fn around(home: &Path) -> Surroundings<'static> {
    Surroundings {
        env: &nothing,
        home: Some(home.to_owned()),
        user: "me".to_owned(),
    }
}

#[test]
fn keywords_are_read_as_libpq_reads_them() {
    let address =
        Address::parse(r"host = /tmp/a\ b  user='o\'neil x' password=p\\w dbname=").unwrap();
    assert_eq!(address.get("host"), Some("/tmp/a b"));
    assert_eq!(address.get("user"), Some("o'neil x"));
    assert_eq!(address.get("password"), Some(r"p\w"));
    assert_eq!(address.get("dbname"), None);
}

#[test]
fn uris_are_read_as_libpq_reads_them() {
    let text = "postgresql://o%27neil:p%40ss@db1:5433,[::1],%2Ftmp/shop?sslmode=verify-full";
    let address = Address::parse(text).unwrap();
    assert_eq!(address.get("user"), Some("o'neil"));
    assert_eq!(address.get("password"), Some("p@ss"));
    assert_eq!(address.get("host"), Some("db1,::1,/tmp"));
    assert_eq!(address.get("port"), Some("5433,5432,5432"));
    assert_eq!(address.get("dbname"), Some("shop"));
    assert_eq!(address.get("sslmode"), Some("verify-full"));
}

#[test]
fn what_cannot_be_read_is_named_and_no_password_with_it() {
    for (text, expected) in [
        ("hots=x password=secret", "`hots` is no connection setting"),
        ("host", "has no `=`"),
        ("password='secret", "a quote is not closed"),
        ("postgres://u:sec%zzret@h/", "not followed by two digits"),
        ("postgres://[::1", "no closing bracket"),
    ] {
        let error = Address::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("sec"), "{error}");
    }
}

#[test]
fn no_password_is_ever_shown() {
    let address = Address::parse("host=h user=u password=secret").unwrap();
    assert!(!format!("{address:?} {address}").contains("secret"));
}

#[test]
fn what_is_said_beats_the_service_which_beats_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = "# ours\n[other]\nhost=no\n\n[shop]\nhost=service\nport=1\ndbname=d\n";
    std::fs::write(dir.path().join(".pg_service.conf"), file).unwrap();
    let env = |name: &str| match name {
        "PGPORT" => Some("2".to_owned()),
        "PGUSER" => Some("env".to_owned()),
        _ => None,
    };
    let around = Surroundings {
        env: &env,
        home: Some(dir.path().to_owned()),
        user: "me".to_owned(),
    };
    let address = Address::parse("service=shop dbname=said").unwrap();
    let address = address.complete(&around).unwrap();
    assert_eq!(address.get("dbname"), Some("said"));
    assert_eq!(address.get("host"), Some("service"));
    assert_eq!(address.get("port"), Some("1"));
    assert_eq!(address.get("user"), Some("env"));
    let error = Address::parse("service=none").unwrap().complete(&around);
    assert!(matches!(error, Err(AddressError::NoService(name)) if name == "none"));
}

#[test]
fn the_password_file_is_read_unless_others_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".pgpass");
    let lines = "# host:port:db:user:password\nother:*:*:*:no\ndb:5433:*:u\\:x:p:a\\\\ss\n";
    std::fs::write(&path, lines).unwrap();
    let password = || {
        let address = Address::parse("host=db port=5433 user=u:x").unwrap();
        let address = address.complete(&around(dir.path())).unwrap();
        address.get("password").map(str::to_owned)
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(password().as_deref(), Some("p:a\\ss"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(password(), None);
}

#[test]
fn defaults_are_libpqs() {
    let dir = tempfile::tempdir().unwrap();
    let address = Address::parse("").unwrap();
    let address = address.complete(&around(dir.path())).unwrap();
    assert_eq!(address.get("user"), Some("me"));
    assert_eq!(address.get("dbname"), Some("me"));
    assert_eq!(address.get("port"), Some("5432"));
    assert_eq!(address.get("sslmode"), Some("prefer"));
}
