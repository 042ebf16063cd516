//! Wildcards as dbt matches them, which is as Python does: `fnmatch` for names, `Path.glob` for
//! paths.

/// Python's `fnmatch` on a case-sensitive system: `*` and `?` match any character, dots and
/// slashes included, and `[…]` one of a set.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut t, mut p) = (0, 0);
    // Where to take up again when a star has to swallow one character more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((t, p + 1));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match set(&pattern, p) {
                Some((inside, after)) => one_of(text[t], inside).then_some(after),
                None => (text[t] == '[').then_some(p + 1),
            },
            Some(&c) => (c == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, retry) {
            (Some(next), _) => (t, p) = (t + 1, next),
            (None, Some((from, after))) => {
                retry = Some((from + 1, after));
                (t, p) = (from + 1, after);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The inside of the set that opens at `open`, and the position after it. A set without an end is
/// an ordinary bracket; a `]` right at its start belongs to it.
fn set(pattern: &[char], open: usize) -> Option<(&[char], usize)> {
    let mut start = open + 1;
    if pattern.get(start) == Some(&'!') {
        start += 1;
    }
    if pattern.get(start) == Some(&']') {
        start += 1;
    }
    let end = start + pattern.get(start..)?.iter().position(|&c| c == ']')?;
    Some((&pattern[open + 1..end], end + 1))
}

fn one_of(c: char, inside: &[char]) -> bool {
    let (negated, inside) = match inside {
        ['!', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut found = false;
    let mut i = 0;
    while i < inside.len() {
        if inside.get(i + 1) == Some(&'-') && i + 2 < inside.len() {
            found |= (inside[i]..=inside[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= inside[i] == c;
            i += 1;
        }
    }
    found != negated
}

/// Python's `Path.glob` for a relative path: wildcards stay within one part, `**` is any number of
/// directories. A trailing slash asks for a directory.
pub(super) fn path_matches(path: &str, is_directory: bool, pattern: &str) -> bool {
    let plain = |text: &'_ str| -> Vec<String> {
        text.split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .map(str::to_owned)
            .collect()
    };
    if pattern.ends_with('/') && !is_directory {
        return false;
    }
    let (path, pattern) = (plain(path), plain(pattern));
    if pattern.last().is_some_and(|last| last == "**") && !is_directory {
        return false;
    }
    // reached[i]: the pattern so far matches the first i parts.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in &pattern {
        let mut next = vec![false; path.len() + 1];
        for i in 0..=path.len() {
            if part == "**" {
                next[i] = reached[i] || (i > 0 && next[i - 1]);
            } else if i > 0 {
                next[i] = reached[i - 1] && matches(&path[i - 1], part);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_as_python_does() {
        for (text, pattern, expected) in [
            ("stg_orders", "stg_*", true),
            ("stg_orders", "*orders", true),
            ("stg_orders", "stg_?rders", true),
            ("a.b.c", "a*c", true),
            ("abc", "a[a-c]c", true),
            ("abc", "a[!b]c", false),
            ("a]c", "a[]]c", true),
            ("a[c", "a[c", true),
            ("abc", "ABC", false),
            ("", "*", true),
            ("", "?", false),
            ("aXbXc", "*X*X*", true),
            ("aXb", "*X*X*", false),
            ("a-c", "a[a-]c", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} ~ {pattern}");
        }
    }

    #[test]
    fn paths_match_part_by_part() {
        for (path, dir, pattern, expected) in [
            ("models/marts", true, "models/marts", true),
            ("models/marts", true, "models/marts/", true),
            ("models/marts", true, "./models/*", true),
            ("models/marts/core/a.sql", false, "models/*", false),
            ("models/marts/core/a.sql", false, "models/**/a.sql", true),
            ("models/a.sql", false, "models/**/a.sql", true),
            ("models/a.sql", false, "models/a.sql/", false),
            ("models/a.sql", false, "**", false),
            ("models", true, "**", true),
            ("models/marts", true, "mod*/m?rts", true),
        ] {
            assert_eq!(
                path_matches(path, dir, pattern),
                expected,
                "{path} ~ {pattern}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_never_panic(text in ".*", pattern in r"[\[\]!*?a-c/.-]*") {
            let _ = matches(&text, &pattern);
            let _ = path_matches(&text, true, &pattern);
        }

        #[test]
        fn text_without_wildcards_matches_only_itself(a in "[a-c.]{0,6}", b in "[a-c.]{0,6}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }
    }
}
