//! Secrets live in one type that can't be printed and is wiped when dropped; texts of others that
//! might quote one have it blotted out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Shorter secrets are left in texts: to blot them out would punch holes into ordinary words.
const SHORTEST_BYTES: usize = 4;
/// A text that ends with this much of a secret's beginning was cut off in the middle of it.
const SHORTEST_CUT_BYTES: usize = 8;
/// What stands where a secret was.
const BLOT: &str = "***";

/// A password, token or key. `Debug` shows a placeholder, there is no `Display`, no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

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

/// The text with every occurrence of a secret blotted out, should whoever was sent one quote it: as
/// it is, or in a spelling that it gets in JSON, HTML, a URL, base64 or an error of Rust's. Also
/// the beginning of one where the text was cut off. To be asked before a text is shortened.
pub fn blotted(text: &str, secrets: &[&Secret]) -> String {
    let mut spelled: Vec<Zeroizing<String>> = secrets
        .iter()
        .filter(|secret| secret.expose().len() >= SHORTEST_BYTES)
        .flat_map(|secret| spellings(secret.expose()))
        .collect();
    // A secret may be part of another one.
    spelled.sort_unstable_by(|left, right| {
        right.len().cmp(&left.len()).then_with(|| left.as_str().cmp(right.as_str()))
    });
    let mut text = text.to_owned();
    for spelling in &spelled {
        if text.contains(spelling.as_str()) {
            text = text.replace(spelling.as_str(), BLOT);
        }
    }
    let end = text.trim_end_matches(['.', '…', '"', '\'', ' ', '\n']).len();
    let beginning = spelled.iter().filter_map(|spelling| cut_off(&text[..end], spelling)).max();
    if let Some(length) = beginning {
        text.replace_range(end - length..end, BLOT);
    }
    text
}

/// How many bytes at the text's end are the beginning of the secret, if enough to matter.
fn cut_off(text: &str, secret: &str) -> Option<usize> {
    let cuts = secret.char_indices().map(|(at, _)| at).rev();
    cuts.take_while(|at| *at >= SHORTEST_CUT_BYTES).find(|at| text.ends_with(&secret[..*at]))
}

fn spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let unquoted = |text: String| {
        let text = Zeroizing::new(text);
        Zeroizing::new(text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_owned())
    };
    let json = unquoted(serde_json::Value::from(secret).to_string());
    // Python writes JSON in ASCII.
    let mut ascii = Zeroizing::new(String::new());
    let mut units = [0; 2];
    for character in json.chars() {
        match character {
            character if character.is_ascii() => ascii.push(character),
            character => {
                for unit in character.encode_utf16(&mut units) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    let mut html = Zeroizing::new(String::new());
    for character in secret.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    let encoded = Zeroizing::new(utf8_percent_encode(secret, URL_ESCAPED).to_string());
    let base64 = Zeroizing::new(STANDARD.encode(secret));
    let debug = unquoted(format!("{secret:?}"));
    let literal = Zeroizing::new(secret.to_owned());
    let mut all = vec![literal, json, ascii, html, encoded, base64, debug];
    all.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
    all.dedup();
    all
}

/// As in URLs: everything but RFC 3986's unreserved characters.
const URL_ESCAPED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::{Secret, blotted};

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
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
            let text = blotted(&format!("no {spelling} here, {spelling}"), &[&known]);
            assert_eq!(text, "no *** here, ***", "{spelling}");
        }
        assert_eq!(blotted("a tab \\t, x\\ty4 too", &[&secret("x\ty4")]), "a tab \\t, *** too");
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_text_is_no_better_than_the_whole() {
        let token = secret("gAAAAABoU1Xx-abcdef");
        assert_eq!(blotted("the token gAAAAABoU1...", &[&token]), "the token ***...");
        assert_eq!(blotted("the token \"gAAAAABoU1Xx-abcde\"", &[&token]), "the token \"***\"");
        // Too little to matter, or in the middle of other words.
        assert_eq!(blotted("the token gAAAA", &[&token]), "the token gAAAA");
        assert_eq!(blotted("gAAAAABoU is no token", &[&token]), "gAAAAABoU is no token");
    }

    #[test]
    fn a_secret_within_another_one_leaves_nothing_of_the_longer() {
        let (short, long) = (secret("hunter2"), secret("hunter2-and-more"));
        assert_eq!(blotted("hunter2-and-more hunter2", &[&short, &long]), "*** ***");
    }

    #[test]
    fn what_is_too_short_to_be_a_secret_punches_no_holes() {
        assert_eq!(blotted("one bad answer", &[&secret("bad"), &secret("")]), "one bad answer");
    }
}
