//! BLAKE3 hashes, and how the log refers to a blob by one.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A short form never has fewer digits than this: a hash that is unique today with two digits
/// would be ambiguous tomorrow.
const SHORTEST: usize = 6;

/// A BLAKE3 hash, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// Text that is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hash: a hash is 64 hexadecimal digits")]
pub struct NotAHash(pub String);

impl Hash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A hash that was computed before.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fewest leading digits, six at least, that none of `others` starts with.
    ///
    /// A hash that equals this one is passed over, so that a list may hold it too.
    pub fn short_among<'a>(&self, others: impl IntoIterator<Item = &'a Hash>) -> String {
        let mut digits = SHORTEST;
        for other in others {
            let same_bytes = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b);
            let same = same_bytes.count();
            if let (Some(a), Some(b)) = (self.0.get(same), other.0.get(same)) {
                let same_digits = 2 * same + usize::from(a >> 4 == b >> 4);
                digits = digits.max(same_digits + 1);
            }
        }
        self.to_string().chars().take(digits).collect()
    }

    /// Whether `prefix`, as a person types it, is the beginning of this hash. Nothing typed is the
    /// beginning of no hash.
    pub fn starts_with(&self, prefix: &str) -> bool {
        !prefix.is_empty() && self.to_string().starts_with(&prefix.to_ascii_lowercase())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| NotAHash(text.to_owned()))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How an event names a blob: the text `blob:` and the blob's hash.
///
/// An event also holds hashes of other things (a plan's id, a commit), so the log must be able to
/// tell which of its strings promise that a blob is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobRef(pub Hash);

const BLOB_PREFIX: &str = "blob:";

impl fmt::Display for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BLOB_PREFIX}{}", self.0)
    }
}

impl FromStr for BlobRef {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text
            .strip_prefix(BLOB_PREFIX)
            .ok_or_else(|| NotAHash(text.to_owned()))?;
        digits.parse().map(Self)
    }
}

impl Serialize for BlobRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_forms_are_unique_and_no_longer_than_needed() {
        let mut near = *Hash::of(b"x").as_bytes();
        near[5] ^= 0x01;
        let (a, b) = (Hash::of(b"x"), Hash::from_bytes(near));
        assert_eq!(a.short_among([]), &a.to_string()[..6]);
        assert_eq!(a.short_among([&a, &b]), &a.to_string()[..12]);
        assert!(a.starts_with(&a.short_among([&b])) && !b.starts_with(&a.short_among([&b])));
        assert!(a.starts_with(&a.to_string().to_uppercase()));
        assert!(!a.starts_with(""));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: [u8; 32]) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(BlobRef(hash).to_string().parse(), Ok(BlobRef(hash)));
            let json = serde_json::to_string(&(hash, BlobRef(hash))).unwrap();
            prop_assert_eq!(serde_json::from_str::<(Hash, BlobRef)>(&json).unwrap(), (hash, BlobRef(hash)));
        }

        #[test]
        fn no_other_text_is_a_hash(text in ".*") {
            if let Ok(hash) = text.parse::<Hash>() {
                prop_assert_eq!(hash.to_string(), text.to_lowercase());
            }
        }
    }
}
