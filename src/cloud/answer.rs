//! What an upstream's answer says, whether or not it is what was hoped for.
//!
//! Error bodies differ by service and by what stands in front of it: OpenStack's JSON in four
//! shapes, HTML of proxies, or nothing. None of them may hide the status or break the reading.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::{CloudError, Step};
use crate::http::client::Answer;

/// Characters of a service's own error text that go into a status message.
const TEXT_LIMIT: usize = 240;
/// Characters of a word; a UUID has 36, and paths with two of them fit.
const WORD_LIMIT: usize = 120;

/// An answer whose status means that it can't be used: the status and the service's own words.
pub fn refused(answer: &Answer, step: Step) -> CloudError {
    let text = error_text(answer);
    let separator = if text.is_empty() { "" } else { ": " };
    let status = answer.status;
    let hint = redirect_hint(status);
    let message = format!("{}: HTTP {status}{separator}{text}{hint}", answer.asked());
    CloudError {
        retry_after: answer.retry_after().filter(|_| matches!(status, 413 | 429 | 503)),
        refused: status == 401,
        ..CloudError::new(step, message)
    }
}

/// A good answer that says something that can't be used.
pub fn wrong(answer: &Answer, step: Step, what: &str) -> CloudError {
    CloudError::new(step, format!("{}: {}", answer.asked(), answer.secrets().redacted(what)))
}

/// Reads the JSON of an answer with status 200; any other is an error.
pub fn read<'a, T: Deserialize<'a>>(answer: &'a Answer, step: Step) -> Result<T, CloudError> {
    match answer.status {
        200 => json(answer, step),
        _ => Err(refused(answer, step)),
    }
}

/// Reads the JSON of a good answer; anything but the expected shape is a failure, never an empty
/// result.
pub fn json<'a, T: Deserialize<'a>>(answer: &'a Answer, step: Step) -> Result<T, CloudError> {
    let body = answer.body.as_slice();
    // Checking all of a text at once is cheaper than checking each string in it.
    let read = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    read.map_err(|error| {
        let what = if is_html(body) {
            "the answer is HTML, not JSON (is this the service, or something in front of it?)"
                .to_owned()
        } else if error.is_eof() {
            "the answer ends early".to_owned()
        } else {
            format!("the answer can't be read: {}", without_position(&error.to_string()))
        };
        wrong(answer, step, &what)
    })
}

/// What to do about a redirect, should this status be one: they aren't followed, for the token or
/// the nodes would go to whomever they name.
pub fn redirect_hint(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirects aren't followed; check the URL)",
        _ => "",
    }
}

/// serde_json ends its messages with a line and a column, which would differ with every answer.
fn without_position(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

pub(super) fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

/// The service's own explanation, on one line, redacted and then shortened; empty where there is none.
pub fn error_text(answer: &Answer) -> String {
    let body = answer.body.as_slice();
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => json_text(&value).unwrap_or_default(),
        Err(_) if is_html(body) => html_text(&String::from_utf8_lossy(body)),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    shortened(&without_request_ids(&answer.secrets().redacted(&text)), TEXT_LIMIT)
}

/// `{"error": {"message"}}` (Keystone), `{"NeutronError": {"message"}}`,
/// `{"itemNotFound": {"message"}}` (Nova: the error's name is the key),
/// `{"returnMessage"}` (Contrabass), `{"error": "..."}` and `{"message"}` (many).
fn json_text(value: &serde_json::Value) -> Option<String> {
    let object = value.as_object()?;
    for key in ["message", "returnMessage", "error", "errorMessage"] {
        if let Some(text) = object.get(key).and_then(serde_json::Value::as_str) {
            return Some(text.to_owned());
        }
    }
    object
        .values()
        .find_map(|inner| inner.get("message").and_then(serde_json::Value::as_str))
        .map(str::to_owned)
}

fn html_text(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let between = |open: &str, close: &str| {
        let start = lower.find(open)? + open.len();
        let end = start + lower.get(start..)?.find(close)?;
        html.get(start..end)
    };
    let title = between("<title>", "</title>").or_else(|| between("<h1>", "</h1>"));
    title.unwrap_or("an HTML page").trim().to_owned()
}

/// Request ids differ with each answer, and a status that churns is a hot loop in waiting.
fn without_request_ids(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("req-") {
        let end = rest[start + 4..]
            .find(|c: char| !c.is_ascii_hexdigit() && c != '-')
            .map_or(rest.len(), |length| start + 4 + length);
        kept.push_str(&rest[..start]);
        // A request id is `req-` and a UUID; shorter words are left as they are.
        let word = &rest[start..end];
        kept.push_str(if word.len() >= 36 { "req-..." } else { word });
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// One line without control characters, at most `limit` characters. Long words are cut as well: a
/// name of 253 characters must not push out the reason that follows it.
pub fn shortened(text: &str, limit: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty()).map(|word| cut(word, WORD_LIMIT));
    cut(&words.collect::<Vec<_>>().join(" "), limit).into_owned()
}

fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{error_text, json, refused, shortened};
    use crate::cloud::error::Step;
    use crate::http::client::{Answer, Request, Service};
    use crate::secret::Secret;

    const TOKEN: &str = "gAAAAABoU1Xx-made-up-token-of-a-test";

    fn answer(service: Service, url: &str, status: u16, body: &str) -> Answer {
        let token = Secret::new(TOKEN.to_owned());
        let request = Request::get(service, url).secret_header("x-auth-token", "", &token);
        request.answered(Answer::new(status, Default::default(), body.as_bytes().to_vec()))
    }

    fn message_of(body: &str) -> String {
        let url = format!("http://neutron.test/v2.0/networks/{TOKEN}");
        refused(&answer(Service::Neutron, &url, 500, body), Step::Subnet).message
    }

    fn text_of(body: &str) -> String {
        error_text(&Answer::new(500, Default::default(), body.as_bytes().to_vec()))
    }

    #[test]
    fn a_service_that_quotes_our_token_is_not_repeated() {
        let bodies = [
            format!(r#"{{"NeutronError":{{"message":"bad X-Auth-Token: {TOKEN}"}}}}"#),
            format!("<html><title>502 for {TOKEN}</title></html>"),
            format!("X-Auth-Token: {TOKEN}\r\n"),
        ];
        for body in bodies {
            let message = message_of(&body);
            assert!(message.starts_with("Neutron GET /v2.0/networks/***: HTTP 500: "), "{message}");
            assert!(message.contains("***") && !message.contains("gAAAAAB"), "{message}");
        }
    }

    #[test]
    fn a_text_is_cut_only_after_the_token_is_gone() {
        // Wherever the cut falls, nothing of the token is left before it.
        for before in 180..250 {
            let message = message_of(&format!("{} {TOKEN} and more", "x".repeat(before)));
            assert!(!message.contains("gA"), "{before}: {message}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told_without_the_token_in_it() {
        let answer =
            answer(Service::Nova, "http://nova.test/servers", 200, &format!("\"{TOKEN}\""));
        let message = json::<u32>(&answer, Step::Nova).unwrap_err().message;
        assert!(message.contains("invalid type: string \"***\""), "{message}");
    }

    #[test]
    fn each_service_own_words_are_found() {
        let cases: [(&str, &str); 8] = [
            (
                r#"{"error":{"code":401,"message":"requires\nauthentication."}}"#,
                "requires authentication.",
            ),
            (r#"{"NeutronError":{"type":"X","message":"no port","detail":""}}"#, "no port"),
            (r#"{"itemNotFound":{"code":404,"message":"no server"}}"#, "no server"),
            (r#"{"returnCode":"500","returnMessage":"FAILED"}"#, "FAILED"),
            ("<html><head><TITLE>502 Bad Gateway</TITLE></head></html>", "502 Bad Gateway"),
            ("upstream went away", "upstream went away"),
            ("", ""),
            ("[1]", ""),
        ];
        for (body, text) in cases {
            assert_eq!(text_of(body), text, "{body}");
        }
    }

    #[test]
    fn equal_failures_give_equal_texts() {
        let id = "req-b87666d5-8ed6-4e18-88af-8c4321cc54f7";
        assert_eq!(text_of(&format!("failed ({id})")), "failed (req-...)");
        assert_eq!(text_of("a req-uest"), "a req-uest");
    }

    #[test]
    fn only_401_is_a_refused_token_and_a_redirect_says_that_it_is_not_followed() {
        let cases = [
            (299, false, false),
            (300, false, true),
            (302, false, true),
            (399, false, true),
            (400, false, false),
            (401, true, false),
            (403, false, false),
            (500, false, false),
        ];
        for (status, is_refused, redirect) in cases {
            let answer = answer(Service::Nova, "http://nova.test/servers", status, "elsewhere");
            let error = refused(&answer, Step::Nova);
            assert_eq!(error.refused, is_refused, "{status}");
            let hint = if redirect { " (redirects aren't followed; check the URL)" } else { "" };
            assert_eq!(error.message, format!("Nova GET /servers: HTTP {status}: elsewhere{hint}"));
        }
    }

    #[test]
    fn a_text_is_one_line_without_control_characters() {
        assert_eq!(shortened("  a\tb\r\n\u{0}\u{1b}[31mc\u{a0}d ", 99), "a b [31mc d");
        assert_eq!(shortened("ab cd", 5), "ab cd");
        assert_eq!(shortened("ab cd", 3), "ab...");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = text_of(&"ää ".repeat(1000));
        assert!(text.ends_with("...") && text.chars().count() == 242, "{text}");
    }

    #[test]
    fn a_long_name_does_not_push_out_what_follows() {
        let name = "n".repeat(253);
        let text = shortened(&format!("Secret \"{name}\" is invalid: too long"), 300);
        assert!(text.ends_with("nnn... is invalid: too long"), "{text}");
    }
}
