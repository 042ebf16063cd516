//! Names inside SQL, by the rules that the engines share.

/// An identifier, always in quotes, so that reserved words, case, dots and quotes in it mean
/// nothing. An empty name, or one with a NUL where the engine takes none, cannot exist, and the
/// engine refuses the text that this gives for it.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A comma-separated list of quoted names.
pub fn names<'a>(list: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = list.into_iter().map(name).collect();
    quoted.join(", ")
}
