//! Incidents, and telling people: against servers that fail, hang and die.

use crate::support::warehouse::Warehouse;
use crate::support::{Scratch, lab, tools};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use unship_core::testing::skipped;

/// What a server was sent.
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server of the test's own: answers each request by the next of these, and 200 from then on.
enum Answer {
    Status(u16),
    /// Reads, and closes without an answer.
    Close,
    /// Reads, and never answers.
    Hang,
}

fn server(answers: Vec<Answer>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read(&stream);
            if tell.send(request).is_err() {
                return;
            }
            let status = match answers.next() {
                Some(Answer::Status(status)) => status,
                Some(Answer::Close) => continue,
                Some(Answer::Hang) => {
                    hanging.push(stream);
                    continue;
                }
                None => 200,
            };
            let text =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(text.as_bytes());
        }
    });
    (url, told)
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut request = Request {
        head,
        body: String::new(),
    };
    let length = request.header("content-length").parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    request
}

/// A guarded file whose R2 is bad, and these routes.
fn bad(tools: &crate::support::Tools, routes: &str) -> Scratch {
    let mut lab = lab::new(tools);
    lab::job(
        &lab,
        "create or replace table mart as select 2 * sum(id) as total, 2 as release from raw",
    );
    let config = lab.read("unship.toml");
    lab.write("unship.toml", format!("{config}\n{routes}"));
    lab.set("HOOK_SECRET", SECRET);
    lab.set("PAGER_KEY", "0123456789abcdef0123456789abcdef");
    lab
}

const SECRET: &str = "a secret that nothing repeats";

fn webhook(url: &str) -> String {
    format!(
        "[[notify]]\nname = \"hook\"\naudience = \"operator\"\n\
         webhook = {{ url = \"{url}\", secret = {{ env = \"HOOK_SECRET\" }} }}\n"
    )
}

fn outbox(lab: &Scratch) -> Vec<(String, String)> {
    let document = lab.json("unship.outbox/1", &["notify", "list", "--json"]);
    let mut out: Vec<_> = document["notices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            (text(&n["notice"]["occasion"]), text(&n["delivery"]))
        })
        .collect();
    out.sort();
    out
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// The whole life of an incident: opened by a rollback, told, seen to, closed.
#[test]
fn a_rollback_opens_an_incident_that_is_told_once_and_closed_with_its_cause() {
    let Some(tools) = tools() else { return };
    // It fails twice before it takes anything.
    let (url, told) = server(vec![Answer::Status(500), Answer::Close]);
    let lab = bad(&tools, &webhook(&url));
    lab.ok(&["rollback"]);
    let requests: Vec<_> = told.try_iter().collect();
    assert_eq!(requests.len(), 4, "two failures, and two notices");
    let ids: Vec<_> = requests.iter().map(|r| r.header("webhook-id")).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3]);

    // The signature, by another implementation.
    let last = &requests[3];
    let script = "import base64, hashlib, hmac, sys\n\
        print('v1,' + base64.b64encode(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), hashlib.sha256).digest()).decode())";
    let signed = format!(
        "{}.{}.{}",
        last.header("webhook-id"),
        last.header("webhook-timestamp"),
        last.body
    );
    let expected = lab.sh("python", &["-c", script, SECRET, &signed]);
    assert_eq!(last.header("webhook-signature"), expected.trim());
    let notice = last.json();
    assert_eq!(notice["schema"], "unship.notice/1");
    assert_eq!(notice["occasion"], "restored");
    assert_eq!(notice["message"]["tables"][0], "main.mart");

    // Whatever comes next tells nobody again.
    lab.ok(&["redo"]);
    lab.ok(&["undo"]);
    let again: Vec<_> = told.try_iter().map(|r| r.json()["key"].clone()).collect();
    assert_eq!(again.len(), 1, "that it was restored once more: {again:?}");

    lab.ok(&["incident", "ack"]);
    lab.unship(&["incident", "close", "I1", "--root-cause", "a factor"])
        .says(2, &["at least one action item", "--none-because"]);
    lab.ok(&["incident", "note", "I1", "the factor came from a test"]);
    lab.ok(&[
        "incident",
        "close",
        "I1",
        "--root-cause",
        "a factor",
        "--action",
        "ana:2026-12-01:Test sums",
    ]);
    let told: Vec<_> = told
        .try_iter()
        .map(|r| r.json()["occasion"].clone())
        .collect();
    assert_eq!(told, ["acknowledged", "closed"]);
    assert!(outbox(&lab).iter().all(|(_, state)| state == "sent"));
    let shown = lab.json("unship.incident/1", &["incident", "show", "I1", "--json"]);
    let lines = shown["timeline"].as_array().unwrap();
    let says = |text: &str| {
        lines
            .iter()
            .any(|l| l["what"].as_str().unwrap().contains(text))
    };
    for text in [
        "R2 became production",
        "an incident was opened",
        "R3 begins: rollback",
        "noted: the factor",
        "closed: a factor",
    ] {
        assert!(says(text), "{text} is not in {lines:#?}");
    }

    let report = lab.ok(&["report", "I1"]).stdout;
    for text in [
        "`main.mart`",
        "a factor",
        "Test sums",
        "| Application health | not checked |",
        "total",
    ] {
        assert!(report.contains(text), "{text} is not in {report}");
    }
    lab.ok(&["report", "R2", "--output", "report.html"]);
    assert!(lab.read("report.html").contains("Content-Security-Policy"));
    lab.json("unship.report/1", &["report", "--json"]);
    lab.json("unship.stats/1", &["stats", "--json"]);
    let ledger = std::fs::read(lab.path(".unship/ledger.sqlite")).unwrap();
    let found = ledger.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
    assert!(!found, "a secret is in the ledger");
}

/// The policy takes a release back: that it begins is told meanwhile, and waited for by nothing.
#[test]
fn that_production_is_being_restored_is_told_while_it_is() {
    let Some(tools) = tools() else { return };
    let job = "create or replace table mart as select 2 * sum(id) as total, 2 as release from raw";
    let run = ["run", "--in-place", "--", "python", "job.py", job];
    let protected = |url: &str, events: &str| {
        let mut lab = lab::new(&tools);
        let config = lab.read("unship.toml").replace("\"never\"", "\"high\"");
        let env = config.split('"').nth(1).unwrap().to_owned();
        let check = "[[check]]\nname = \"no_two\"\nkind = \"acceptance\"\nseverity = \"critical\"\n\
                     sql = \"select * from {main.mart} where release = 2\"\n";
        let hook = webhook(url).replace("webhook =", &format!("{events}webhook ="));
        let policy = format!("[policy]\nprotected = [{env:?}]\n");
        lab.write("unship.toml", format!("{config}\n{policy}{check}{hook}"));
        lab.set("HOOK_SECRET", SECRET);
        lab
    };
    let restore = |url: &str, events: &str| {
        let lab = protected(url, events);
        lab.unship(&run)
            .says(76, &["rolled back:", "brings back R1"]);
        lab
    };
    let (url, told) = server(Vec::new());
    let lab = restore(&url, "");
    let all: Vec<_> = told.try_iter().map(|r| r.json()).collect();
    let occasions: Vec<_> = all
        .iter()
        .map(|n| n["occasion"].as_str().unwrap())
        .collect();
    assert_eq!(occasions, ["opened", "restoring", "restored"]);
    assert_eq!(
        all[1]["message"]["doing"],
        "Production goes back to the state of R1."
    );
    assert!(outbox(&lab).iter().all(|(_, state)| state == "sent"));
    lab.ok(&["notify", "escalate"]);
    assert_eq!(told.try_iter().count(), 0);

    // Whoever does not answer is told nothing that is over.
    let (url, told) = server(vec![Answer::Hang]);
    let only = "events = [\"restoring\"]\n";
    let lab = restore(&url, only);
    assert_eq!(outbox(&lab), pairs(&[("restoring", "given_up")]));
    lab.ok(&["notify", "escalate"]);
    assert_eq!(told.try_iter().count(), 1);

    // Nor is anybody told again by whoever goes on where unship was killed.
    let (url, told) = server(vec![Answer::Hang]);
    let lab = protected(&url, only);
    let mut child = lab.unship_command(&run).spawn().unwrap();
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    lab.ok(&["policy", "act"]);
    lab.ok(&["notify", "escalate"]);
    assert_eq!(outbox(&lab), pairs(&[("restoring", "given_up")]));
    assert_eq!(told.try_iter().count(), 0);
    let status = lab.json("unship.status/1", &["status", "--json"]);
    assert_eq!(status["good"], true, "{status}");
}

#[test]
fn a_receiver_that_hangs_or_refuses_holds_nothing_up_and_is_in_the_log() {
    let Some(tools) = tools() else { return };
    let (url, told) = server(vec![Answer::Hang, Answer::Status(403)]);
    let lab = bad(&tools, &webhook(&url));
    lab.ok(&["rollback"]).says(
        0,
        &["R3", "no answer within", "refused with HTTP status 403"],
    );
    assert_eq!(told.try_iter().count(), 2);
    assert_eq!(
        outbox(&lab),
        pairs(&[("opened", "failed"), ("restored", "given_up")])
    );
    // A minute has not passed: it is not asked again so soon.
    lab.ok(&["notify", "escalate"]);
    assert_eq!(told.try_iter().count(), 0);
}

/// unship dies while a program that cannot tell two messages apart is being told.
#[test]
fn nobody_is_told_twice_by_what_cannot_tell_after_a_kill() {
    let Some(tools) = tools() else { return };
    let (url, told) = server(vec![Answer::Hang]);
    let command = "[[notify]]\nname = \"program\"\naudience = \"operator\"\nevents = [\"opened\"]\n\
                   command = [\"sh\", \"-c\", \"cat >> told; sleep 4\"]\n";
    let events = "events = [\"opened\"]\n";
    let hook = webhook(&url).replace("webhook =", &format!("{events}webhook ="));
    for (routes, file) in [(command.to_owned(), true), (hook, false)] {
        let lab = bad(&tools, &routes);
        let mut child = lab.unship_command(&["rollback"]).spawn().unwrap();
        if file {
            while std::fs::read_to_string(lab.path("told"))
                .unwrap_or_default()
                .is_empty()
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        } else {
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(outbox(&lab), pairs(&[("opened", "sending")]));
        lab.ok(&["notify", "escalate"]);
        if file {
            assert_eq!(outbox(&lab), pairs(&[("opened", "given_up")]));
            assert_eq!(lab.read("told").matches("unship.notice/1").count(), 1);
        } else {
            assert_eq!(outbox(&lab), pairs(&[("opened", "sent")]));
            assert_eq!(told.try_iter().count(), 1, "again, by the same id");
        }
    }
}

/// The constraints are those of PagerDuty's published Events API v2 reference,
/// <https://developer.pagerduty.com/api-reference/368ae3d938c9e-send-an-event-to-pager-duty>:
/// `routing_key` of 32 characters; `event_action` one of three; `dedup_key` of at most 255; a payload
/// for a trigger, with `summary` of at most 1024, `source`, and `severity` one of four.
#[test]
fn pagerduty_is_told_by_its_published_schema() {
    let Some(tools) = tools() else { return };
    let (url, told) = server(Vec::new());
    let route = format!(
        "[[notify]]\nname = \"pager\"\naudience = \"operator\"\n\
         pagerduty = {{ routing_key = {{ env = \"PAGER_KEY\" }}, url = \"{url}\" }}\n\
         [[escalation.level]]\nafter = \"0s\"\ncontact = \"Ada\"\nroutes = [\"pager\"]\n"
    );
    let lab = bad(&tools, &route);
    lab.ok(&["rollback"]);
    lab.ok(&["incident", "ack", "I1"]);
    lab.ok(&[
        "incident",
        "close",
        "I1",
        "--root-cause",
        "x",
        "--none-because",
        "it was a trial",
    ]);
    let events: Vec<_> = told.try_iter().map(|r| r.json()).collect();
    let actions: Vec<_> = events
        .iter()
        .map(|e| e["event_action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["trigger", "trigger", "trigger", "acknowledge", "resolve"]
    );
    for event in &events {
        assert_eq!(event["routing_key"].as_str().unwrap().len(), 32);
        let key = event["dedup_key"].as_str().unwrap();
        assert!(!key.is_empty() && key.len() <= 255);
        assert_eq!(event["dedup_key"], events[0]["dedup_key"], "one alert");
        if event["event_action"] != "trigger" {
            continue;
        }
        let payload = &event["payload"];
        let summary = payload["summary"].as_str().unwrap();
        assert!(!summary.is_empty() && summary.chars().count() <= 1024);
        assert!(!payload["source"].as_str().unwrap().is_empty());
        let severity = payload["severity"].as_str().unwrap();
        assert!(["critical", "error", "warning", "info"].contains(&severity));
        payload["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        assert!(payload["custom_details"].is_object());
    }
    let document = lab.json("unship.outbox/1", &["notify", "list", "--json"]);
    assert!(
        !document
            .to_string()
            .contains("0123456789abcdef0123456789abcdef")
    );
}

/// A real SMTP server, which wants STARTTLS and a login.
struct Mail(Child, u16);

impl Drop for Mail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mail(lab: &Scratch, python: &std::path::Path) -> Option<Mail> {
    let there = Command::new(python)
        .args(["-c", "import aiosmtpd"])
        .stderr(Stdio::null())
        .status();
    if !there.unwrap().success() {
        skipped("the test's Python has no aiosmtpd: scripts/setup installs it");
        return None;
    }
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    lab.write("mail.pem", key.cert.pem());
    lab.write("mail.key", key.signing_key.serialize_pem());
    let script = "import socket, ssl, sys\n\
        from aiosmtpd.controller import Controller\n\
        from aiosmtpd.smtp import AuthResult, SMTP\n\
        class Keep:\n\
        \tasync def handle_DATA(self, server, session, envelope):\n\
        \t\topen('mails', 'ab').write(envelope.content + b'\\n=====\\n')\n\
        \t\treturn '250 taken'\n\
        def login(server, session, envelope, mechanism, data):\n\
        \treturn AuthResult(success=data.login == b'unship' and data.password == sys.argv[1].encode())\n\
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        tls.load_cert_chain('mail.pem', 'mail.key')\n\
        class Server(Controller):\n\
        \tdef factory(self):\n\
        \t\treturn SMTP(self.handler, tls_context=tls, require_starttls=True, auth_required=True, authenticator=login)\n\
        free = socket.create_server(('127.0.0.1', 0))\n\
        port = free.getsockname()[1]\n\
        free.close()\n\
        server = Server(Keep(), hostname='127.0.0.1', port=port)\n\
        server.start()\n\
        print(port, flush=True)\n\
        sys.stdin.read()";
    let mut child = lab
        .command(python)
        .args(["-c", script, SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    Some(Mail(child, line.trim().parse().unwrap()))
}

#[test]
fn mail_goes_to_a_real_server_with_tls_and_a_login() {
    let Some(tools) = tools() else { return };
    let lab = bad(&tools, "");
    let Some(server) = mail(&lab, &tools.python) else {
        return;
    };
    let route = |ca: &str| {
        format!(
            "[[notify]]\nname = \"mail\"\naudience = \"consumer\"\nevents = [\"restored\"]\n\
             email = {{ host = \"localhost\", port = {}, from = \"unship <unship@example.org>\", \
             to = [\"team@example.org\"], user = \"unship\", password = {{ env = \"HOOK_SECRET\" }}{ca} }}\n",
            server.1
        )
    };
    let config = lab.read("unship.toml");
    // A certificate that nobody vouches for is not trusted.
    lab.write("unship.toml", format!("{config}\n{}", route("")));
    lab.unship(&["notify", "test"])
        .says(70, &["failed: mail (email)"]);
    lab.write(
        "unship.toml",
        format!("{config}\n{}", route(", ca = \"mail.pem\"")),
    );
    lab.ok(&["rollback"]);
    assert_eq!(outbox(&lab), pairs(&[("restored", "sent")]));
    let mails = lab.read("mails");
    for text in [
        "To: team@example.org",
        "production is restored",
        "main.mart",
        "Message-ID: <",
    ] {
        assert!(mails.contains(text), "{text} is not in {mails}");
    }
    assert_eq!(mails.matches("=====").count(), 1);
    assert!(!mails.contains(SECRET));
}

/// The same where the ledger is in the warehouse: a shared log, a replica, and what dbt changed.
#[test]
fn on_postgres_an_incident_says_which_model_changed() {
    let Some(tools) = tools() else { return };
    let files = [
        (
            "dbt_project.yml",
            "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
        ),
        (
            "models/first.sql",
            "{{ config(materialized='table') }} select 1 as a",
        ),
        (
            "models/second.sql",
            "{{ config(materialized='table') }} select a from {{ ref('first') }}",
        ),
    ];
    let Some(shop) = Warehouse::new(&tools, files) else {
        return;
    };
    shop.scratch.ok(&["init"]);
    let config = shop.scratch.read("unship.toml");
    let route = "[[notify]]\nname = \"program\"\naudience = \"stakeholder\"\ncommand = [\"sh\", \"-c\", \"cat >> told\"]\n";
    shop.scratch
        .write("unship.toml", format!("{config}\n{route}"));
    shop.build(&["build"]);
    shop.scratch.write(
        "models/second.sql",
        "{{ config(materialized='table') }} select a * 2 as a from {{ ref('first') }}",
    );
    shop.build(&["build"]);
    shop.scratch.ok(&["rollback"]);
    assert_eq!(
        shop.scratch.read("told").matches("unship.notice/1").count(),
        2
    );
    assert_eq!(
        outbox(&shop.scratch),
        pairs(&[("opened", "sent"), ("restored", "sent")])
    );
    let report = shop.scratch.ok(&["report"]).stdout;
    for text in [
        "It probably began in `analytics.second`: its code differs",
        "-{{ config(materialized='table') }} select a from",
        "| Database state | good | 2 relations equal",
        "1 only in the bad one, 1 only in the good one",
    ] {
        assert!(report.contains(text), "{text} is not in {report}");
    }
    shop.scratch
        .ok(&["incident", "show"])
        .says(0, &["began in  analytics.second", "R2 begins"]);
}
