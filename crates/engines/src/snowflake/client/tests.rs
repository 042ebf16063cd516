use super::double::{Double, Say, result};
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use unship_core::engine::ErrorKind;
use unship_core::value::Value;

const QUICK: Pace = Pace {
    first: Duration::from_millis(1),
    most: Duration::from_millis(4),
    request: Duration::from_secs(10),
    patience: Duration::from_secs(5),
};

fn settings(url: &str, credentials: Credentials) -> Settings {
    Settings {
        account: "myorg-my_account".to_owned(),
        base_url: Some(url.to_owned()),
        user: "Ana".to_owned(),
        credentials,
        role: Some("LOADER".to_owned()),
        warehouse: Some("WH".to_owned()),
        database: "SHOP".to_owned(),
        schema: None,
    }
}

fn client(double: &Double) -> Client {
    let token = Credentials::AccessToken(Secret::new("hunter2"));
    Client::new(settings(&double.url, token), QUICK)
}

fn all(client: &Client, text: &str) -> Result<Vec<Vec<Value>>, ClientError> {
    client
        .run(&Statement::new(text, "unship R2 step 1"))?
        .collect()
}

fn one(cell: &str) -> Say {
    Say::rows(&[("N", "fixed")], &[&[Some(cell)]])
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "openssl {args:?}");
    done.stdout
}

/// A key as Snowflake's documentation has people make it.
fn pem() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let made = openssl(
            &[
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
            ],
            b"",
        );
        String::from_utf8(made).unwrap()
    })
}

fn claims(token: &str) -> serde_json::Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_statement_says_who_asks_where_and_for_what() {
    let double = Double::scripted([one("1")]);
    let client = client(&double);
    assert_eq!(all(&client, "SELECT 1").unwrap(), [[Value::Int(1)]]);
    let asked = double.asked();
    let body = &asked[0].body;
    assert_eq!(asked[0].header("authorization"), "Bearer hunter2");
    assert_eq!(
        asked[0].header("x-snowflake-authorization-token-type"),
        "PROGRAMMATIC_ACCESS_TOKEN"
    );
    assert_eq!(
        (body["role"].as_str(), body["warehouse"].as_str()),
        (Some("LOADER"), Some("WH"))
    );
    assert_eq!(body["database"], "SHOP");
    assert_eq!(body["parameters"]["query_tag"], "unship R2 step 1");
    assert_eq!(asked[0].query("retry"), None);
    assert_eq!(client.statements(), 1);
    assert!(!format!("{:?}", client.settings()).contains("hunter2"));
}

/// The server does what it is asked, and the answer never arrives: the same request is sent again,
/// marked, so that Snowflake gives the outcome of the first.
#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_id() {
    let double = Double::scripted([Say::HangUp, Say::HangUp, one("7")]);
    let client = client(&double);
    assert_eq!(
        all(&client, "ALTER TABLE a SWAP WITH b").unwrap(),
        [[Value::Int(7)]]
    );
    let asked = double.asked();
    let ids: Vec<_> = asked
        .iter()
        .map(|a| a.query("requestId").unwrap())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let retries: Vec<_> = asked.iter().map(|a| a.query("retry")).collect();
    assert_eq!(retries, [None, Some("true"), Some("true")]);
    assert_eq!(client.statements(), 1, "it is one statement");
}

#[test]
fn an_answer_that_never_comes_leaves_it_open() {
    let double = Double::new(|_| Say::HangUp);
    let pace = Pace {
        patience: Duration::from_millis(30),
        ..QUICK
    };
    let token = Credentials::OAuth(Secret::new("hunter2"));
    let client = Client::new(settings(&double.url, token), pace);
    let error = all(&client, "DROP TABLE x").unwrap_err();
    let ClientError::NoAnswer { request, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(double.asked()[0].query("requestId"), Some(request.as_str()));
    let error = error.doing("drop x");
    assert_eq!(error.kind, ErrorKind::Interrupted);
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn nobody_there_is_another_thing_than_no_answer() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let pace = Pace {
        patience: Duration::from_millis(10),
        ..QUICK
    };
    let token = Credentials::OAuth(Secret::new("hunter2"));
    let client = Client::new(settings(&url, token), pace);
    let error = all(&client, "SELECT 1").unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let busy = |status, wait: &str| {
        Say::Reply(
            status,
            vec![("Retry-After", wait.to_owned())],
            String::new(),
        )
    };
    let double = Double::scripted([
        busy(429, "0"),
        busy(503, "0"),
        busy(504, "nonsense"),
        one("1"),
    ]);
    assert_eq!(
        all(&client(&double), "SELECT 1").unwrap(),
        [[Value::Int(1)]]
    );
    assert_eq!(double.asked().len(), 4);
    // It asks for more patience than there is.
    let double = Double::scripted([busy(429, "3600")]);
    let error = all(&client(&double), "SELECT 1").unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer { .. }), "{error:?}");
}

#[test]
fn a_long_statement_is_waited_for() {
    let double = Double::scripted([
        Say::running("01-abc"),
        Say::running("01-abc"),
        Say::HangUp,
        one("9"),
    ]);
    assert_eq!(
        all(&client(&double), "SELECT 1").unwrap(),
        [[Value::Int(9)]]
    );
    let paths: Vec<_> = double
        .asked()
        .into_iter()
        .map(|a| a.method + " " + &a.path)
        .collect();
    assert_eq!(paths[1..], ["GET /api/v2/statements/01-abc"; 3]);
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled() {
    let double = Double::new(|asked| match asked.path.ends_with("/cancel") {
        true => Say::json(200, &serde_json::json!({"code": "000000"})),
        false => Say::running("01-abc"),
    });
    let client = client(&double);
    let statement = Statement {
        timeout: Some(Duration::from_millis(20)),
        ..Statement::new("SELECT slow()", "t")
    };
    let error = client.run(&statement).err().unwrap();
    assert!(matches!(error, ClientError::TimedOut(_)), "{error:?}");
    assert_eq!(error.doing("look").kind, ErrorKind::Interrupted);
    let last = double.asked().pop().unwrap();
    assert_eq!(last.path, "/api/v2/statements/01-abc/cancel");
}

#[test]
fn partitions_come_one_after_the_other_and_unpacked() {
    let rows = |cells: &[&str]| -> Vec<serde_json::Value> {
        cells.iter().map(|cell| serde_json::json!([cell])).collect()
    };
    let mut first = result(&[("N", "fixed")], &[], 3);
    first["data"] = rows(&["1", "2"]).into();
    let packed = |cells: &[&str]| {
        let body =
            serde_json::json!({"statementHandle": "01-handle", "data": rows(cells)}).to_string();
        Say::Packed(200, gzip(body.as_bytes()))
    };
    let double = Double::scripted([
        Say::json(200, &first),
        packed(&["3"]),
        Say::HangUp,
        packed(&["4"]),
    ]);
    let client = client(&double);
    let mut rows = client.run(&Statement::new("SELECT n", "t")).unwrap();
    assert_eq!(rows.columns()[0].name, "N");
    assert_eq!(rows.next().unwrap().unwrap(), [Value::Int(1)]);
    assert_eq!(
        double.asked().len(),
        1,
        "the rest is not fetched before it is needed"
    );
    let rest: Vec<_> = rows.map(|row| row.unwrap()[0].clone()).collect();
    assert_eq!(rest, [2, 3, 4].map(Value::Int));
    assert_eq!(double.asked().pop().unwrap().query("partition"), Some("2"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn answers_that_are_none_are_errors_and_no_panics() {
    for body in [
        "",
        "{",
        "[]",
        "{\"data\": 7}",
        "{\"statementHandle\": \"01\", \"data\": [[\"1\", \"2\"]]}",
    ] {
        let double = Double::scripted([Say::Reply(200, Vec::new(), body.to_owned())]);
        let error = all(&client(&double), "SELECT 1").unwrap_err();
        assert!(matches!(error, ClientError::Answer(_)), "{body}: {error:?}");
    }
    let double = Double::scripted([one("not a number")]);
    let error = all(&client(&double), "SELECT 1").unwrap_err().to_string();
    assert_eq!(
        error,
        "Snowflake's answer is not understood: a cell of N is not of its type"
    );
    // A handle goes into a path.
    let double = Double::scripted([Say::running("../login")]);
    let error = all(&client(&double), "SELECT 1").unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer { .. }), "{error:?}");
}

/// What refuses the asking does not stop a statement that was accepted, or whose first answer was
/// lost.
#[test]
fn a_login_that_ends_while_a_statement_may_run_leaves_it_open() {
    let expired = serde_json::json!({"code": "390303", "message": "OAuth access token expired"});
    for before in [Say::running("01-a"), Say::HangUp] {
        let double = Double::scripted([before, Say::json(401, &expired)]);
        let token = Credentials::OAuth(Secret::new("hunter2"));
        let client = Client::new(settings(&double.url, token), QUICK);
        let error = all(&client, "ALTER TABLE a SWAP WITH b").unwrap_err();
        assert!(matches!(error, ClientError::NoAnswer { .. }), "{error:?}");
        assert!(error.to_string().contains("expired"), "{error}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let kinds = [
        (
            "002003",
            "Object 'X' does not exist or not authorized.",
            ErrorKind::Missing,
        ),
        (
            "003001",
            "Insufficient privileges to operate on schema 'S'",
            ErrorKind::Permission,
        ),
        ("000606", "No active warehouse selected", ErrorKind::Missing),
        (
            "000625",
            "Statement was aborted because a lock was held",
            ErrorKind::Busy,
        ),
        ("000604", "SQL execution canceled", ErrorKind::Interrupted),
        ("001003", "syntax error", ErrorKind::Query),
    ];
    for (code, message, kind) in kinds {
        let double = Double::scripted([Say::failed(code, message)]);
        let error = all(&client(&double), "SELECT 1").unwrap_err().doing("look");
        assert_eq!(error.kind, kind, "{message}");
        assert_eq!(error.message, format!("could not look: {message}"));
        assert_eq!(double.asked().len(), 1, "a refusal is final");
    }
}

#[test]
fn a_key_signs_who_asks() {
    let double = Double::scripted([one("1"), one("2")]);
    let key = PrivateKey::read(pem(), None).unwrap();
    let public = openssl(&["pkey", "-pubout", "-outform", "DER"], pem().as_bytes());
    let digest = openssl(&["dgst", "-sha256", "-binary"], &public);
    let expected = base64::engine::general_purpose::STANDARD.encode(digest);
    assert_eq!(key.fingerprint(), format!("SHA256:{expected}"));

    let client = Client::new(
        settings(&double.url, Credentials::KeyPair(key.clone())),
        QUICK,
    );
    all(&client, "SELECT 1").unwrap();
    all(&client, "SELECT 2").unwrap();
    let asked = double.asked();
    assert_eq!(
        asked[0].header("x-snowflake-authorization-token-type"),
        "KEYPAIR_JWT"
    );
    assert_eq!(
        asked[0].header("authorization"),
        asked[1].header("authorization"),
        "a token is used again"
    );
    let token = asked[0]
        .header("authorization")
        .strip_prefix("Bearer ")
        .unwrap();
    let claims = claims(token);
    assert_eq!(claims["sub"], "MYORG-MY_ACCOUNT.ANA");
    assert_eq!(
        claims["iss"],
        format!("MYORG-MY_ACCOUNT.ANA.{}", key.fingerprint())
    );
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!(life <= 3600);

    // Signed with the key, as anybody can check who has its public half.
    let dir = tempfile::tempdir().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("pub"), &public).unwrap();
    std::fs::write(at("sig"), URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    openssl(
        &[
            "dgst",
            "-sha256",
            "-verify",
            &at("pub"),
            "-keyform",
            "DER",
            "-signature",
            &at("sig"),
        ],
        signed.as_bytes(),
    );
}

#[test]
fn keys_may_be_encrypted() {
    let phrase = Secret::new("a passphrase");
    let plain = PrivateKey::read(pem(), None).unwrap();
    for cipher in ["des3", "aes-256-cbc"] {
        let args = [
            "pkcs8",
            "-topk8",
            "-v2",
            cipher,
            "-passout",
            "pass:a passphrase",
        ];
        let sealed = String::from_utf8(openssl(&args, pem().as_bytes())).unwrap();
        assert!(sealed.contains("ENCRYPTED"));
        let opened = PrivateKey::read(&sealed, Some(&phrase)).unwrap();
        assert_eq!(opened.fingerprint(), plain.fingerprint());
        assert_eq!(
            PrivateKey::read(&sealed, None).unwrap_err(),
            KeyError::NeedsPassphrase
        );
        let wrong = PrivateKey::read(&sealed, Some(&Secret::new("another")));
        assert!(wrong.is_err());
        // dbt takes the inside of the file, too.
        let inside: Vec<&str> = sealed.lines().filter(|l| !l.starts_with('-')).collect();
        let opened = PrivateKey::read(&inside.join(""), Some(&phrase)).unwrap();
        assert_eq!(opened.fingerprint(), plain.fingerprint());
    }
    for no_key in ["", "-----BEGIN CERTIFICATE-----", "hello world", "aGVsbG8="] {
        assert!(PrivateKey::read(no_key, Some(&phrase)).is_err(), "{no_key}");
    }
    let ec = openssl(
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ],
        b"",
    );
    let ec = String::from_utf8(ec).unwrap();
    assert_eq!(PrivateKey::read(&ec, None).unwrap_err(), KeyError::NotRsa);
}

/// This machine's clock is wrong by hours: the server says so when it refuses the token, and the
/// next one is signed for its time.
#[test]
fn a_wrong_clock_is_noticed_and_told_to_nobody_else() {
    let theirs = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5);
    let date = jiff::fmt::rfc2822::to_string(&theirs.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    let refused = serde_json::json!({"code": "390144", "message": "JWT token is invalid."});
    let refused = Say::Reply(401, vec![("Date", date)], refused.to_string());
    let double = Double::scripted([refused.clone(), one("1"), refused.clone(), refused]);
    let key = PrivateKey::read(pem(), None).unwrap();
    let client = Client::new(settings(&double.url, Credentials::KeyPair(key)), QUICK);
    assert_eq!(all(&client, "SELECT 1").unwrap(), [[Value::Int(1)]]);
    let asked = double.asked();
    let issued = |n: usize| {
        let token = asked[n]
            .header("authorization")
            .strip_prefix("Bearer ")
            .unwrap();
        claims(token)["iat"].as_i64().unwrap()
    };
    assert!((issued(1) - issued(0) - 5 * 3600).abs() < 60);
    // Refused a second time, it is not the clock.
    let error = all(&client, "SELECT 1").unwrap_err();
    assert!(matches!(error, ClientError::Login { .. }), "{error:?}");
    assert_eq!(double.asked().len(), 4);
}

#[test]
fn an_expired_token_of_others_is_said_once() {
    let refused = serde_json::json!({"code": "390303", "message": "OAuth access token expired"});
    let double = Double::scripted([Say::json(401, &refused)]);
    let token = Credentials::OAuth(Secret::new("hunter2"));
    let client = Client::new(settings(&double.url, token), QUICK);
    let error = all(&client, "SELECT 1").unwrap_err().doing("look");
    assert_eq!(error.kind, ErrorKind::Permission);
    assert!(error.message.contains("expired"), "{error}");
    assert_eq!(double.asked().len(), 1);
}
