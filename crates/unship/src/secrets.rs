//! What of a command line is shown to others and kept for ever: all but the secrets that are told
//! by their place.

/// What a password may be called, before a `=` or as an option.
const NAMES: [&str; 5] = ["password", "passwd", "pwd", "token", "secret"];
const MASK: &str = "***";

/// A command line without its secrets.
pub fn masked(command: &[String]) -> Vec<String> {
    let mut follows = false;
    command
        .iter()
        .map(|word| {
            let secret = std::mem::replace(&mut follows, is_option(word));
            if secret {
                MASK.to_owned()
            } else {
                without_values(&without_login(word))
            }
        })
        .collect()
}

/// Whether a command line, as it was kept, lacks a secret.
pub fn lacks_secrets(command: &[String]) -> bool {
    command.iter().any(|word| word.contains(MASK))
}

/// `--password`, whose value is the next word.
fn is_option(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    word.strip_prefix("--")
        .is_some_and(|name| NAMES.iter().any(|known| name.ends_with(known)))
}

/// `scheme://user:password@host` without what stands before the `@`.
fn without_login(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        // A password may hold any of them, so the last `@` before the path counts.
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || "\"'".contains(c))
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((login, host)) if login.contains(':') => {
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            _ => out.push_str(authority),
        }
        rest = tail;
    }
    out + rest
}

/// `password=...`, on its own, in a connection string, or in an address's query.
fn without_values(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((name, value)) = rest.split_once('=') {
        out.push_str(name);
        out.push('=');
        rest = value;
        let name = name.trim_end().to_ascii_lowercase();
        if NAMES.iter().any(|known| name.ends_with(known)) {
            let value = value.trim_start();
            let quoted = value
                .strip_prefix(['\'', '"'])
                .and_then(|inside| Some(inside.find(value.chars().next()?)? + 2));
            let ends = |c: char| c.is_whitespace() || "&;,'\")}".contains(c);
            let end = quoted.or_else(|| value.find(ends)).unwrap_or(value.len());
            if end > 0 {
                out.push_str(MASK);
            }
            rest = &value[end..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (word, shown) in [
            ("postgresql://u:pw@h/db", "postgresql://***@h/db"),
            ("postgresql://u:p@w:x@h:5432", "postgresql://***@h:5432"),
            ("a://u:1@x b://v:2@y", "a://***@x b://***@y"),
            ("s3://bucket/path@2:3", "s3://bucket/path@2:3"),
            ("https://me@host/", "https://me@host/"),
            (
                "host=h password=pw dbname=d",
                "host=h password=*** dbname=d",
            ),
            ("password = 'a b' user=u", "password =*** user=u"),
            ("PGPASSWORD=pw", "PGPASSWORD=***"),
            ("--password=pw", "--password=***"),
            (
                "md:db?motherduck_token=t&x=1",
                "md:db?motherduck_token=***&x=1",
            ),
            ("--vars={n: 2, k=v}", "--vars={n: 2, k=v}"),
            ("password=", "password="),
            ("ünï=cödé", "ünï=cödé"),
        ] {
            assert_eq!(masked(&[word.to_owned()]), [shown]);
        }
        let words = ["load", "--password", "pw", "--table", "t"].map(str::to_owned);
        assert_eq!(masked(&words).join(" "), "load --password *** --table t");
        assert!(lacks_secrets(&masked(&words)));
        assert!(!lacks_secrets(&words));
    }
}
