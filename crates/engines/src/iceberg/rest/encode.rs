//! Names in addresses: percent-encoding, and namespaces of several parts.

/// What joins the parts of a namespace in an address, unless the catalog says otherwise: the unit
/// separator (REST catalog specification, `NamespaceIdent`).
pub const UNIT: &str = "\u{1f}";

/// A path segment or a query value: all but RFC 3986's unreserved characters is encoded.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The other way round. What is no escape stays as it is.
pub fn plain(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A namespace as a path segment.
pub fn namespace(parts: &[String], separator: &str) -> String {
    segment(&parts.join(separator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_namespace_of_two_parts_is_one_segment() {
        let parts = ["sales".to_owned(), "eu/north".to_owned()];
        assert_eq!(namespace(&parts, UNIT), "sales%1Feu%2Fnorth");
        assert_eq!(namespace(&parts, "."), "sales.eu%2Fnorth");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".*") {
            prop_assert_eq!(plain(&segment(&text)), text);
        }

        #[test]
        fn decoding_takes_anything(text in ".*") {
            plain(&text);
        }
    }
}
