//! Just enough of a SQL lexer to change names in the statements that DuckDB's catalog prints.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word without quotes: keyword, name, number.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string literal.
    Text,
    /// One other character.
    Symbol,
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// How many brackets are open around it; an opening bracket counts itself.
    pub depth: usize,
}

impl Token {
    /// Its text.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether it is that keyword.
    pub fn is(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }

    /// Whether it is that character.
    pub fn is_symbol(&self, sql: &str, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text(sql) == symbol
    }

    /// The name that it spells, if it can be one.
    pub fn name(&self, sql: &str) -> Option<String> {
        let text = self.text(sql);
        match self.kind {
            Kind::Word => Some(text.to_owned()),
            Kind::Quoted => {
                let inner = text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\""))
            }
            Kind::Text | Kind::Symbol => None,
        }
    }
}

/// The tokens of a statement. A literal without its end runs to the end of the text.
pub fn tokens(sql: &str) -> Vec<Token> {
    let mut list = Vec::new();
    let mut depth = 0_usize;
    let mut rest = sql.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        if first.is_whitespace() {
            continue;
        }
        let kind = match first {
            '\'' | '"' => {
                // A doubled quote inside ends one part and begins the next.
                while let Some((_, next)) = rest.next() {
                    if next == first && rest.next_if(|(_, after)| *after == first).is_none() {
                        break;
                    }
                }
                if first == '"' {
                    Kind::Quoted
                } else {
                    Kind::Text
                }
            }
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                while rest
                    .next_if(|(_, c)| c.is_alphanumeric() || *c == '_' || *c == '$')
                    .is_some()
                {}
                Kind::Word
            }
            _ => Kind::Symbol,
        };
        let end = rest.peek().map_or(sql.len(), |(end, _)| *end);
        let opens = kind == Kind::Symbol && matches!(first, '(' | '[' | '{');
        let closes = kind == Kind::Symbol && matches!(first, ')' | ']' | '}');
        depth += usize::from(opens);
        list.push(Token {
            kind,
            start,
            end,
            depth,
        });
        depth = depth.saturating_sub(usize::from(closes));
    }
    list
}

/// A dotted name that begins at token `first`: its parts, and the token after it.
pub fn dotted(sql: &str, tokens: &[Token], first: usize) -> Option<(Vec<String>, usize)> {
    let mut parts = vec![tokens.get(first)?.name(sql)?];
    let mut next = first + 1;
    while tokens
        .get(next)
        .is_some_and(|token| token.is_symbol(sql, "."))
    {
        parts.push(tokens.get(next + 1)?.name(sql)?);
        next += 2;
    }
    Some((parts, next))
}

/// The place of the first `word` outside of all brackets.
pub fn keyword(sql: &str, tokens: &[Token], word: &str) -> Option<usize> {
    tokens
        .iter()
        .position(|token| token.depth == 0 && token.is(sql, word))
}

/// Splits the tokens between `open`, an opening bracket's place, and its partner at the commas
/// that stand directly inside.
pub fn items<'a>(sql: &str, tokens: &'a [Token], open: usize) -> Vec<&'a [Token]> {
    let Some(bracket) = tokens.get(open) else {
        return Vec::new();
    };
    let inside = bracket.depth;
    let mut list = Vec::new();
    let mut first = open + 1;
    for (i, token) in tokens.iter().enumerate().skip(open + 1) {
        if token.depth != inside {
            continue;
        }
        let closes = token.is_symbol(sql, ")");
        if token.is_symbol(sql, ",") || closes {
            if let Some(item) = tokens.get(first..i).filter(|item| !item.is_empty()) {
                list.push(item);
            }
            first = i + 1;
        }
        if closes {
            break;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_and_brackets_are_understood() {
        let sql = r#"CREATE TABLE "a.b"."c""d"(x VARCHAR DEFAULT('a,(''b'), y DECIMAL(10,2));"#;
        let tokens = tokens(sql);
        let (parts, open) = dotted(sql, &tokens, 2).unwrap();
        assert_eq!(parts, ["a.b", "c\"d"]);
        let items: Vec<&str> = items(sql, &tokens, open)
            .into_iter()
            .map(|item| &sql[item[0].start..item[item.len() - 1].end])
            .collect();
        assert_eq!(items, ["x VARCHAR DEFAULT('a,(''b')", "y DECIMAL(10,2)"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in ".*", at in 0_usize..20) {
            let list = tokens(&sql);
            let _ = dotted(&sql, &list, at);
            let _ = items(&sql, &list, at);
            for token in &list {
                let _ = token.name(&sql);
            }
        }
    }
}
