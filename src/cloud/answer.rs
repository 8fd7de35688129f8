//! What an upstream's answer says, whether or not it is what was hoped for.
//!
//! Error bodies differ by service and by what stands in front of it: OpenStack's JSON in four
//! shapes, HTML of proxies, or nothing. None of them may hide the status or break the reading.

use serde::Deserialize;

use super::error::{CloudError, Step};
use crate::http::client::{Answer, Service};
use crate::secret::{Secret, blotted};

/// Characters of a service's own error text that go into a status message.
const TEXT_LIMIT: usize = 240;

/// What was asked, for messages: `Neutron GET /v2.0/ports`, and what no message may repeat.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whom.
    pub service: Service,
    /// The HTTP method.
    pub method: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// Which step failed if the answer is no good.
    pub step: Step,
    /// What was sent along: whoever answers may quote it.
    pub secrets: &'a [&'a Secret],
}

impl Question<'_> {
    /// An answer that can't be used: its status and the service's own words.
    pub fn refused(&self, answer: &Answer) -> CloudError {
        let Question { service, method, path, step, secrets } = *self;
        let text = error_text(&answer.body, secrets);
        let separator = if text.is_empty() { "" } else { ": " };
        let status = answer.status;
        let hint = redirect_hint(status);
        let message = format!("{service} {method} {path}: HTTP {status}{separator}{text}{hint}");
        CloudError {
            step,
            message,
            retry_after: answer.retry_after().filter(|_| matches!(status, 413 | 429 | 503)),
            refused: status == 401,
        }
        .without(secrets)
    }

    /// Reads the JSON of a good answer; anything but the expected shape is a failure, never an
    /// empty result.
    pub fn read<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, CloudError> {
        let Question { service, method, path, step, secrets } = *self;
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
            CloudError::new(step, format!("{service} {method} {path}: {what}")).without(secrets)
        })
    }
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

fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

/// The service's own explanation, on one line, without these secrets and then shortened; empty where
/// there is none.
pub fn error_text(body: &[u8], secrets: &[&Secret]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => json_text(&value).unwrap_or_default(),
        Err(_) if is_html(body) => html_text(&String::from_utf8_lossy(body)),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    shortened(&without_request_ids(&blotted(&text, secrets)), TEXT_LIMIT)
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

/// One line without control characters, at most `limit` characters.
pub fn shortened(text: &str, limit: usize) -> String {
    let line = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = line.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", line[..end].trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::{Question, error_text, shortened};
    use crate::cloud::error::Step;
    use crate::http::client::{Answer, Service};
    use crate::secret::Secret;

    const TOKEN: &str = "gAAAAABoU1Xx-made-up-token-of-a-test";

    fn refused(body: String) -> String {
        let token = Secret::new(TOKEN.to_owned());
        let path = format!("/v2.0/networks/{TOKEN}");
        let question = Question {
            service: Service::Neutron,
            method: "GET",
            path: &path,
            step: Step::Subnet,
            secrets: &[&token],
        };
        let answer = Answer { status: 500, headers: Default::default(), body: body.into_bytes() };
        question.refused(&answer).message
    }

    #[test]
    fn a_service_that_quotes_our_token_is_not_repeated() {
        let bodies = [
            format!(r#"{{"NeutronError":{{"message":"bad X-Auth-Token: {TOKEN}"}}}}"#),
            format!("<html><title>502 for {TOKEN}</title></html>"),
            format!("X-Auth-Token: {TOKEN}\r\n"),
        ];
        for body in bodies {
            let message = refused(body);
            assert!(message.starts_with("Neutron GET /v2.0/networks/***: HTTP 500: "), "{message}");
            assert!(message.contains("***") && !message.contains("gAAAAAB"), "{message}");
        }
    }

    #[test]
    fn a_text_is_cut_only_after_the_token_is_gone() {
        // Wherever the cut falls, nothing of the token is left before it.
        for before in 180..250 {
            let message = refused(format!("{} {TOKEN} and more", "x".repeat(before)));
            assert!(!message.contains("gA"), "{before}: {message}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told_without_the_token_in_it() {
        let token = Secret::new(TOKEN.to_owned());
        let question = Question {
            service: Service::Nova,
            method: "GET",
            path: "/servers",
            step: Step::Nova,
            secrets: &[&token],
        };
        let body = format!("\"{TOKEN}\"");
        let message = question.read::<u32>(body.as_bytes()).unwrap_err().message;
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
            assert_eq!(error_text(body.as_bytes(), &[]), text, "{body}");
        }
    }

    #[test]
    fn equal_failures_give_equal_texts() {
        let id = "req-b87666d5-8ed6-4e18-88af-8c4321cc54f7";
        assert_eq!(error_text(format!("failed ({id})").as_bytes(), &[]), "failed (req-...)");
        assert_eq!(error_text(b"a req-uest", &[]), "a req-uest");
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
        for (status, refused, redirect) in cases {
            let question = Question {
                service: Service::Nova,
                method: "GET",
                path: "/servers",
                step: Step::Nova,
                secrets: &[],
            };
            let body = b"elsewhere".to_vec();
            let error = question.refused(&Answer { status, headers: Default::default(), body });
            assert_eq!(error.refused, refused, "{status}");
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
        let text = error_text("ä".repeat(1000).as_bytes(), &[]);
        assert!(text.ends_with("...") && text.chars().count() == 243, "{text}");
    }
}
