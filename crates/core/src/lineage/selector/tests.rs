use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Selector, SelectorError> {
    Selector::parse(&[text], &[])
}

#[test]
fn a_selection_is_shown_as_one_would_type_it() {
    for (text, shown) in [
        ("orders", "orders"),
        ("  a   b ", "a b"),
        ("fqn:orders", "orders"),
        ("2+orders+1", "2+orders+1"),
        ("@orders", "@orders"),
        ("@+orders", "@+orders"),
        ("path:models/marts", "models/marts"),
        ("path:models", "path:models"),
        ("file:a.sql", "a.sql"),
        (
            "tag:daily,+fct_*+ config.meta.owner:bi",
            "tag:daily,+fct_*+ config.meta.owner:bi",
        ),
        ("a+2+", "fqn:a+2+"),
        ("fqn:2+a+2+", "fqn:2+a+2+"),
        ("tag:a:b", "tag:a:b"),
        ("*:x", "*:x"),
        ("0+a", "0+a"),
        ("\u{c}", "\u{c}"),
    ] {
        assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
    }
    let both = Selector::parse(&["a", "b c"], &["tag:x", "d"]).unwrap();
    assert_eq!(both.to_string(), "a b c --exclude tag:x d");
}

#[test]
fn what_is_not_a_selection_is_refused_where_it_goes_wrong() {
    for (text, position, says) in [
        ("a,,b", 3, "nothing between the commas"),
        ("a b,", 5, "nothing between the commas"),
        ("+", 2, "nothing to select"),
        ("é 2+", 5, "nothing to select"),
        ("tag:", 5, "nothing to select"),
        (
            "a tga:x",
            3,
            "`tga` is not a way to select; did you mean `tag`?",
        ),
        ("+packge:x", 2, "did you mean `package`?"),
        ("tag.x:y", 1, "`tag.x` is not a way to select"),
        ("state:modified+", 1, "compares with another run"),
        ("result:error", 1, "compares with another run"),
        ("@a+", 3, "already takes the children along"),
        ("config:x", 1, "needs a key"),
        ("config.:x", 1, "needs a key"),
        ("resource_type:modle", 15, "did you mean `model`?"),
        ("test_type:odd", 11, "generic, singular"),
        ("source:a.b.c.d", 8, "`source.table`"),
        ("exposure:a.b.c", 10, "`package.name`"),
        ("/models/a.sql", 1, "paths start at the project's root"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn a_model_named_like_a_depth_is_shown_with_its_method() {
    for text in ["fqn:0+", "fqn:12+3"] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
    assert_eq!(parse("fqn:0").unwrap().to_string(), "0");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".*", bytes: Vec<u8>) {
        let _ = parse(&text);
        fuzz(&bytes);
    }

    #[test]
    fn what_is_shown_reads_back_the_same(
        text in r"(@|[0-9]{0,2}\+)?((fqn|tag|path|source|config\.a\.b|x):)?[a-c0-9.:+@/*]{0,6}(\+[0-9]?)?([ ,][a-c]+)?"
    ) {
        if let Ok(selector) = parse(&text) {
            let shown = selector.to_string();
            prop_assert_eq!(parse(&shown), Ok(selector), "{}", shown);
        }
    }
}
