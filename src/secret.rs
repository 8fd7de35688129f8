//! Secrets live in one type that can't be printed and is wiped when dropped. Texts of other programs
//! that might quote one are redacted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Shorter secrets are left in texts: without them ordinary words would have holes.
const SHORTEST_BYTES: usize = 4;
/// A text that ends with this much of a secret's beginning was cut off in the middle of it.
const SHORTEST_CUT_BYTES: usize = 8;
/// What stands where a secret was.
const PLACEHOLDER: &str = "***";

/// A password, token or key. `Debug` shows a placeholder, there is no `Display`, no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// The entries of a Kubernetes Secret.
pub type Entries = BTreeMap<String, Secret>;
/// Reads a Kubernetes Secret by namespace and name; gives none if it isn't there.
pub type ReadSecret = dyn Fn(&str, &str) -> Result<Option<Entries>, String> + Send + Sync;

impl Secret {
    /// Takes the text over; the caller's copy is moved, not duplicated.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself, for the one call that must send or use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(not shown)")
    }
}

/// What texts about one request must not show: the secrets it carried, and those its answer brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<Secret>);

impl Secrets {
    /// These secrets.
    pub(crate) fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Secrets {
        Secrets(secrets.into_iter().cloned().collect())
    }

    /// These and one more.
    pub(crate) fn and(mut self, secret: Secret) -> Secrets {
        self.0.push(secret);
        self
    }

    /// The text with `***` in place of every secret that it quotes: as it is, or in a spelling that
    /// it gets in JSON, HTML, a URL, base64 or an error of Rust's or Python's. Also in place of the
    /// beginning of one where the text was cut off. To be called before a text is shortened.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let mut found = Vec::new();
        for Secret(secret) in self.0.iter().filter(|secret| secret.0.len() >= SHORTEST_BYTES) {
            find(text, secret, &mut found);
            find(text, &Zeroizing::new(STANDARD.encode(secret.as_str())), &mut found);
        }
        found.sort_unstable_by_key(|range| range.start);
        let (mut shown, mut done) = (String::with_capacity(text.len()), 0);
        for range in found {
            // A secret may be part of another one, or begin within it.
            if range.start >= done {
                shown.push_str(&text[done..range.start]);
                shown.push_str(PLACEHOLDER);
            }
            done = done.max(range.end);
        }
        shown.push_str(&text[done..]);
        shown
    }
}

/// Adds where the secret is in the text.
fn find(text: &str, secret: &str, found: &mut Vec<Range<usize>>) {
    let spelled: Vec<_> = secret.chars().map(spellings).collect();
    let cut = text.trim_end_matches(['.', '…', '"', '\'', ' ', '\n']).len();
    let first = spelled.first().into_iter().flat_map(|spellings| spellings.iter());
    let first: Vec<u8> = first.map(|spelling| spelling.as_bytes()[0]).collect();
    for (start, _) in text.bytes().enumerate().filter(|(_, byte)| first.contains(byte)) {
        let end = end_of(&text.as_bytes()[start..], cut.saturating_sub(start), &spelled);
        found.extend(end.map(|end| start..start + end));
    }
}

/// Where the secret ends that the text begins with, each character in any spelling; none if it
/// doesn't. A text that is over at `cut`, and too early, may end with its beginning.
fn end_of(text: &[u8], cut: usize, spelled: &[Zeroizing<Vec<String>>]) -> Option<usize> {
    // Several, because a spelling may be the beginning of another: a backslash, for one.
    let (mut ends, mut is_cut) = (vec![0], false);
    for spellings in spelled {
        let mut further = Vec::new();
        for spelling in spellings.iter().map(String::as_bytes) {
            for end in &ends {
                if text[*end..].starts_with(spelling) {
                    further.push(end + spelling.len());
                }
                is_cut |= text
                    .get(*end..cut)
                    .is_some_and(|rest| rest.len() < spelling.len() && spelling.starts_with(rest));
            }
        }
        further.sort_unstable();
        further.dedup();
        ends = further;
        if ends.is_empty() {
            break;
        }
    }
    ends.last().copied().or((is_cut && cut >= SHORTEST_CUT_BYTES).then_some(cut))
}

/// How this character is written here and there. Letters and digits are themselves everywhere.
fn spellings(character: char) -> Zeroizing<Vec<String>> {
    let mut all = Zeroizing::new(vec![character.to_string()]);
    if character.is_ascii_alphanumeric() {
        return all;
    }
    let (mut units, mut bytes) = ([0; 2], [0; 4]);
    let units = character.encode_utf16(&mut units);
    let bytes = character.encode_utf8(&mut bytes).as_bytes();
    let number = u32::from(character);
    all.extend([
        // JSON.
        units.iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        units.iter().map(|unit| format!("\\u{unit:04X}")).collect(),
        // URLs.
        bytes.iter().map(|byte| format!("%{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
        // HTML by number; PHP writes three digits.
        format!("&#{number};"),
        format!("&#{number:03};"),
        format!("&#x{number:x};"),
        format!("&#x{number:X};"),
        // Rust, and Python's bytes and texts.
        format!("\\u{{{number:x}}}"),
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
        format!("\\x{number:02x}"),
    ]);
    let named: &[&str] = match character {
        '&' => &["&amp;"],
        '<' => &["&lt;"],
        '>' => &["&gt;"],
        '"' => &["&quot;", "\\\""],
        '\'' => &["&apos;", "\\'"],
        ' ' => &["+"],
        '\\' => &["\\\\"],
        '/' => &["\\/"],
        '\n' => &["\\n"],
        '\r' => &["\\r"],
        '\t' => &["\\t"],
        '\u{8}' => &["\\b"],
        '\u{c}' => &["\\f"],
        '\0' => &["\\0"],
        _ => &[],
    };
    all.extend(named.iter().map(|spelling| (*spelling).to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use super::{Secret, Secrets};

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn redacted(text: &str, secrets: &[&Secret]) -> String {
        Secrets::of(secrets.iter().copied()).redacted(text)
    }

    /// Compiles only as long as the type lacks the trait: with it, there would be two ways to read
    /// the call.
    macro_rules! assert_lacks {
        ($type:ty, $name:path) => {{
            trait OneWay<Marker> {
                fn call() {}
            }
            impl<T: ?Sized> OneWay<()> for T {}
            impl<T: ?Sized + $name> OneWay<u8> for T {}
            <$type as OneWay<_>>::call();
        }};
    }

    #[test]
    fn a_secret_cannot_be_printed_or_serialised_and_has_no_way_out_but_by_name() {
        assert_lacks!(Secret, std::fmt::Display);
        assert_lacks!(Secret, serde::Serialize);
        assert_lacks!(Secret, std::ops::Deref);
        assert_lacks!(Secret, AsRef<str>);
        assert_lacks!(Secret, AsRef<[u8]>);
        assert_lacks!(Secret, std::borrow::Borrow<str>);
        let shown = format!("{:?} {:#?}", secret("hunter2"), vec![secret("hunter2")]);
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn whoever_quotes_a_secret_is_not_repeated_in_whichever_spelling() {
        let known = secret("Adm1n-pä\"ss<w&rd!");
        for spelling in [
            r#"Adm1n-pä"ss<w&rd!"#,
            r#"Adm1n-pä\"ss<w&rd!"#,
            r#"Adm1n-p\u00e4\"ss<w&rd!"#,
            "Adm1n-pä&quot;ss&lt;w&amp;rd!",
            "Adm1n-p%C3%A4%22ss%3Cw%26rd%21",
            "QWRtMW4tcMOkInNzPHcmcmQh",
        ] {
            let text = redacted(&format!("no {spelling} here, {spelling}"), &[&known]);
            assert_eq!(text, "no *** here, ***", "{spelling}");
        }
        assert_eq!(redacted("a tab \\t, x\\ty4 too", &[&secret("x\ty4")]), "a tab \\t, *** too");
    }

    #[test]
    fn each_language_has_its_own_spelling() {
        let known = secret("it's+a pä\"ss&<w>/rd");
        for spelling in [
            // Python's html.escape, Go's templates, and those who leave quotes alone in text.
            "it&#x27;s+a pä&quot;ss&amp;&lt;w&gt;/rd",
            "it&#39;s&#43;a pä&#34;ss&amp;&lt;w&gt;/rd",
            "it&#39;s+a pä&#34;ss&amp;&lt;w&gt;/rd",
            "it's+a pä\"ss&amp;&lt;w&gt;/rd",
            // A form, with digits of either case, and a path, which keeps its slashes.
            "it%27s%2Ba+p%C3%A4%22ss%26%3Cw%3E%2Frd",
            "it%27s%2ba+p%c3%a4%22ss%26%3cw%3e%2frd",
            "it%27s%2ba%20p%c3%a4%22ss%26%3cw%3e%2frd",
            "it%27s%2Ba%20p%C3%A4%22ss%26%3Cw%3E/rd",
            // JSON by PHP, by Go, and by those who do both, in ASCII and not.
            r#"it's+a pä\"ss&<w>\/rd"#,
            r#"it's+a pä\"ss\u0026\u003cw\u003e/rd"#,
            r#"it's+a p\u00e4\"ss\u0026\u003cw\u003e/rd"#,
            r#"it's+a p\u00e4\"ss\u0026\u003Cw\u003E\/rd"#,
            r#"it\u0027s\u002Ba p\u00E4\u0022ss\u0026\u003Cw\u003E/rd"#,
            // Python's repr.
            r#"it\'s+a pä"ss&<w>/rd"#,
        ] {
            let text = redacted(&format!("no {spelling} here"), &[&known]);
            assert_eq!(text, "no *** here", "{spelling}");
        }
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_text_is_no_better_than_the_whole() {
        let token = secret("gAAAAABoU1Xx-abcdef");
        assert_eq!(redacted("the token gAAAAABoU1...", &[&token]), "the token ***...");
        assert_eq!(redacted("the token \"gAAAAABoU1Xx-abcde\"", &[&token]), "the token \"***\"");
        // Too little to matter, or in the middle of other words.
        assert_eq!(redacted("the token gAAAA", &[&token]), "the token gAAAA");
        assert_eq!(redacted("gAAAAABoU is no token", &[&token]), "gAAAAABoU is no token");
    }

    #[test]
    fn a_secret_within_another_one_leaves_nothing_of_the_longer() {
        let (short, long) = (secret("hunter2"), secret("hunter2-and-more"));
        assert_eq!(redacted("hunter2-and-more hunter2", &[&short, &long]), "*** ***");
        // Nor one that begins within it, nor one of which a part looks like its beginning.
        let overlapping = secret("more-to-come");
        assert_eq!(redacted("hunter2-and-more-to-come", &[&overlapping, &long]), "***");
        assert_eq!(redacted("a hunhunter2!", &[&short]), "a hun***!");
    }

    #[test]
    fn backslashes_are_counted_rightly_whether_or_not_they_were_doubled() {
        let known = secret(r#"a\\b\"c"#);
        for spelling in [r#"a\\b\"c"#, r#"a\\\\b\\\"c"#] {
            assert_eq!(redacted(spelling, &[&known]), "***", "{spelling}");
        }
        assert_eq!(redacted(r#"a\b"c"#, &[&known]), r#"a\b"c"#);
    }

    #[test]
    fn what_is_too_short_to_be_a_secret_punches_no_holes() {
        assert_eq!(redacted("one bad answer", &[&secret("bad"), &secret("")]), "one bad answer");
    }
}
