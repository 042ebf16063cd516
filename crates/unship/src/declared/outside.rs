//! Checks that no warehouse can be asked: programs, and applications that answer over HTTP.

use super::{Check, CommandCheck, Http};
use crate::config::FILE;
use crate::http;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use unship_core::check::{Finding, Outcome, Severity};

/// An application that does not answer is asked once more after this long: it may have been about
/// to start again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the checks that are programs, in the project's root, with what a job is told of the build;
/// and asks the applications.
pub fn outside(declared: &[Check], root: &Path, env: &BTreeMap<String, String>) -> Vec<Finding> {
    let found = declared.iter().filter_map(|check| match check {
        Check::Command(check) => Some(command(check, root, env)),
        Check::Http(check) => Some(probe(check)),
        _ => None,
    });
    found.collect()
}

fn finding(
    (name, severity): (&str, Severity),
    outcome: Outcome,
    observed: String,
    expected: String,
) -> Finding {
    Finding {
        check: name.to_owned(),
        relation: None,
        column: None,
        outcome,
        severity,
        observed,
        expected,
        examples: None,
        sql: None,
    }
}

fn command(check: &CommandCheck, root: &Path, env: &BTreeMap<String, String>) -> Finding {
    let shown = shell_words::join(crate::secrets::masked(&check.command));
    let ended = match check.command.split_first() {
        Some((program, args)) => Command::new(program)
            .args(args)
            .current_dir(root)
            .envs(env)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot be started: {e}")),
        None => Err("names no program".to_owned()),
    };
    let (outcome, observed) = match ended {
        Ok(ended) if ended.status.success() => (Outcome::Pass, "exit code 0".to_owned()),
        Ok(ended) => {
            let said = [&ended.stderr, &ended.stdout];
            let said = said.iter().find_map(|text| {
                let text = String::from_utf8_lossy(text);
                let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
                Some(line.chars().take(200).collect::<String>())
            });
            let how = ended.status.to_string();
            let observed = match said {
                Some(line) => format!("{how}: {line}"),
                None => how,
            };
            (Outcome::Fail, observed)
        }
        Err(error) => (Outcome::Unknown, error),
    };
    let expected = format!("`{shown}` ends with exit code 0");
    finding((&check.name, check.severity), outcome, observed, expected)
}

/// Why an address cannot be asked, if it cannot. The answer does not repeat it.
pub fn wrong_address(url: &str) -> Option<String> {
    let parsed: Result<ureq::http::Uri, _> = url.parse();
    let Ok(parsed) = parsed else {
        return Some("has a `url` that is none".to_owned());
    };
    let fits = matches!(parsed.scheme_str(), Some("http" | "https"));
    match parsed.authority() {
        Some(authority) if authority.as_str().contains('@') => Some(format!(
            "has a login in its `url`, and {FILE} is meant to be committed"
        )),
        Some(_) if fits => None,
        _ => Some("has a `url` that does not begin with http:// or https://".to_owned()),
    }
}

/// An address without what may be secret in it.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn probe(check: &Http) -> Finding {
    let named = (check.name.as_str(), check.severity);
    let status = check
        .status
        .map_or_else(|| "2xx".to_owned(), |status| status.to_string());
    let expected = |patience: Duration| {
        let at = shown(&check.url);
        format!("HTTP status {status} from {at} within {patience:?}")
    };
    let patience = match super::duration("check.timeout", &check.timeout) {
        Ok(patience) => patience,
        Err(error) => {
            let expected = expected(Duration::ZERO);
            return finding(named, Outcome::Unknown, error.message, expected);
        }
    };
    let mut answer = ask(check, patience);
    if !answer.0 {
        std::thread::sleep(PAUSE);
        answer = ask(check, patience);
    }
    let (good, observed) = answer;
    let outcome = if good { Outcome::Pass } else { Outcome::Fail };
    finding(named, outcome, observed, expected(patience))
}

/// Whether it is well, and what it said.
fn ask(check: &Http, patience: Duration) -> (bool, String) {
    let began = Instant::now();
    let answer = unship_engines::http::agent(&check.url, patience)
        .get(&check.url)
        .call();
    match answer {
        Ok(response) => {
            let status = response.status().as_u16();
            let good = match check.status {
                Some(wanted) => status == wanted,
                None => (200..300).contains(&status),
            };
            let took = began.elapsed();
            (good, format!("HTTP status {status} after {took:.1?}"))
        }
        Err(error) => (false, http::words(&error, patience)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers so many requests with these statuses, one after the other.
    fn serve(statuses: &'static [u16]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for status in statuses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).unwrap();
                let head = format!("HTTP/1.1 {status} x\r\nlocation: /elsewhere\r\n");
                let rest = "content-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all((head + rest).as_bytes()).unwrap();
            }
        });
        format!("http://{at}/health?token=hush")
    }

    fn looked(url: String, status: Option<u16>, timeout: &str) -> Finding {
        let check = Http {
            name: "up".to_owned(),
            severity: Severity::High,
            url,
            status,
            timeout: timeout.to_owned(),
        };
        let found = probe(&check);
        assert!(!format!("{found:?}").contains("hush"), "{found:?}");
        found
    }

    #[test]
    fn an_application_is_well_or_is_not() {
        let found = looked(serve(&[200]), None, "5s");
        assert_eq!(found.outcome, Outcome::Pass, "{found:?}");
        assert!(found.observed.starts_with("HTTP status 200"));
        let found = looked(serve(&[503, 204]), None, "5s");
        assert_eq!(found.outcome, Outcome::Pass, "asked once more: {found:?}");
        let found = looked(serve(&[503, 500]), None, "5s");
        assert_eq!(found.outcome, Outcome::Fail);
        assert!(found.observed.starts_with("HTTP status 500"), "{found:?}");
        let found = looked(serve(&[302, 302]), None, "5s");
        assert_eq!(found.outcome, Outcome::Fail, "not followed: {found:?}");
        assert_eq!(
            looked(serve(&[302]), Some(302), "5s").outcome,
            Outcome::Pass
        );
        let found = looked(serve(&[200, 200]), Some(204), "5s");
        assert_eq!(found.outcome, Outcome::Fail, "{found:?}");
    }

    #[test]
    fn one_that_does_not_answer_is_not_well() {
        // Nobody accepts.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}/?token=hush", listener.local_addr().unwrap());
        let found = looked(silent.clone(), None, "200ms");
        assert_eq!(found.outcome, Outcome::Fail);
        assert_eq!(found.observed, "no answer within 200ms");
        drop(listener);
        let found = looked(silent, None, "5s");
        assert_eq!(found.outcome, Outcome::Fail, "{found:?}");
        assert!(found.observed.contains("connection"), "{found:?}");
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused_and_not_repeated() {
        for (url, says) in [
            ("https://ana:hush@shop.example/", "has a login"),
            ("ftp://shop.example/hush", "does not begin"),
            ("shop.example", "does not begin"),
            ("http://a b/hush", "that is none"),
        ] {
            let wrong = wrong_address(url).unwrap();
            assert!(wrong.contains(says) && !wrong.contains("hush"), "{wrong}");
        }
        assert_eq!(wrong_address("http://shop:8080/health?deep=1"), None);
    }
}
