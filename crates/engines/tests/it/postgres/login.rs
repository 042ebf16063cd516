//! Ways into a server that asks for a password and shows a certificate.

use super::cluster::Cluster;
use super::server;
use postgres::{Client, NoTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use unship_engines::postgres::address::Address;
use unship_engines::postgres::connect::Connector;

const PASSWORD: &str = r"it's \secret: é";

/// An authority, and a certificate of it for `localhost`.
fn certificates(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(
        dir.join("authority.pem"),
        authority.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    let issuer = Issuer::from_params(&authority, &key);
    let own = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let signed = server.signed_by(&own, &issuer).unwrap();
    fs::write(dir.join("server.crt"), signed.pem()).unwrap();
    fs::write(dir.join("server.key"), own.serialize_pem()).unwrap();
}

/// What TCP connections need from here on: TLS, and a password by SCRAM.
fn secure(cluster: &Cluster, files: &Path) {
    let mut admin = Client::connect(&cluster.address, NoTls).unwrap();
    let data: String = admin.query_one("SHOW data_directory", &[]).unwrap().get(0);
    let data = Path::new(&data);
    let owner = fs::metadata(data).unwrap();
    for name in ["server.crt", "server.key"] {
        let to = data.join(name);
        fs::copy(files.join(name), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let access = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), access).unwrap();
    for sql in [
        "ALTER SYSTEM SET ssl = on".to_owned(),
        "SET password_encryption = 'scram-sha-256'".to_owned(),
        format!(
            "CREATE ROLE shop LOGIN PASSWORD '{}'",
            PASSWORD.replace('\'', "''")
        ),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        admin.batch_execute(&sql).unwrap();
    }
}

/// Whether a connection is encrypted, or why there is none.
fn encrypted(address: &str) -> Result<bool, String> {
    let connector = Address::parse(address).map_err(|e| e.to_string());
    let connector = Connector::new(connector?).map_err(|e| e.to_string())?;
    let told = |e: unship_core::engine::EngineError| {
        let mut text = e.to_string();
        let mut cause = std::error::Error::source(&e);
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        text
    };
    let mut client = connector.connect().map_err(told)?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(sql, &[]).unwrap().get(0))
}

#[test]
fn passwords_and_certificates_are_as_libpq_has_them() {
    if server().is_none() {
        return;
    }
    let files = TempDir::new().unwrap();
    let file = |name: &str| files.path().join(name).display().to_string();
    certificates(files.path());
    let (cluster, port) = Cluster::listening();
    secure(&cluster, files.path());
    let private = |name: &str, text: String| {
        fs::write(file(name), text).unwrap();
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let written = PASSWORD.replace('\\', r"\\").replace(':', r"\:");
    private("passwords", format!("*:{port}:*:shop:{written}\n"));
    private("wrong", format!("*:{port}:*:shop:{written}?\n"));

    let base = format!("port={port} user=shop dbname=postgres");
    let known = format!("{base} passfile={}", file("passwords"));
    let (here, other) = ("host=localhost", "host=127.0.0.1");
    let root = format!("sslrootcert={}", file("authority.pem"));
    for good in [
        format!("{here} sslmode=verify-full {root} {known}"),
        // The certificate is not for this name, and nobody asked whether it is.
        format!("{other} sslmode=verify-ca {root} {known}"),
        format!("{other} sslmode=require {known}"),
        format!("{other} {known}"),
    ] {
        assert_eq!(encrypted(&good), Ok(true), "{good}");
    }

    // Another authority, of the same name.
    let stranger = TempDir::new().unwrap();
    certificates(stranger.path());
    let strange = stranger.path().join("authority.pem");
    let strange = format!("sslrootcert={}", strange.display());
    for (bad, why) in [
        (
            format!("{other} sslmode=verify-full {root} {known}"),
            "not valid for name",
        ),
        (
            format!("{here} sslmode=verify-ca {strange} {known}"),
            "invalid peer certificate",
        ),
        (
            format!("{here} sslmode=disable {known}"),
            "no pg_hba.conf entry",
        ),
        (
            format!("{here} {base} passfile={}", file("wrong")),
            "password authentication failed",
        ),
        (
            format!("{here} {base} passfile={}", file("nothing")),
            "password",
        ),
    ] {
        let told = encrypted(&bad).unwrap_err();
        assert!(told.contains(why), "{bad}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }

    // A service file and the environment, in a process that has them.
    let service = format!(
        "[shop]\nhost=localhost\nport={port}\nuser=shop\ndbname=postgres\nsslmode=verify-full\n{root}\n"
    );
    private("services", service);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::login::whoever_has_a_service_file"])
        .env("UNSHIP_TEST_SERVICE", "shop")
        .env("PGSERVICEFILE", file("services"))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

/// The process with another environment. It is no test of its own.
#[test]
fn whoever_has_a_service_file() {
    if let Ok(service) = std::env::var("UNSHIP_TEST_SERVICE") {
        assert_eq!(encrypted(&format!("service={service}")), Ok(true));
    }
}
