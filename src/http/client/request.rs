//! What is asked, of whom, and what came back.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{HeaderMap, HeaderName, HeaderValue};
use ureq::http::{self, Uri};

use super::failure::{Failure, HttpError};
use crate::http::url::has_bad_port;
use crate::secret::{Secret, Secrets};

/// Whom a client speaks to: a label in metrics and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Service {
    Contrabass,
    Keystone,
    Neutron,
    Nova,
    Viola,
    Kubernetes,
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// One request. Headers are given as text; a secret goes in [`Request::secret_header`]. What else it
/// carries of secrets is named by [`Request::carrying`].
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Whom it is for.
    pub service: Service,
    /// The HTTP method.
    pub method: &'static str,
    /// The whole URL.
    pub url: &'a str,
    /// Names and values.
    pub headers: Vec<(&'static str, &'a str)>,
    /// A header's name, what stands before its secret, and the secret.
    pub secret_header: Option<(&'static str, &'static str, &'a Secret)>,
    /// The body, if it has one.
    pub body: Option<&'a [u8]>,
    carried: Vec<&'a Secret>,
    pub(super) repeatable: bool,
    /// Another limit than the client's for this call.
    pub(crate) call_limit: Option<Duration>,
}

impl<'a> Request<'a> {
    /// A GET, which may be repeated once when a kept connection is found dead.
    pub fn get(service: Service, url: &'a str) -> Request<'a> {
        Request::reading(service, "GET", url)
    }

    /// A request by a method that changes nothing (`GET`, `OPTIONS`), which may be repeated likewise.
    pub(crate) fn reading(service: Service, method: &'static str, url: &'a str) -> Request<'a> {
        Request {
            service,
            method,
            url,
            headers: vec![("accept", "application/json")],
            secret_header: None,
            body: None,
            carried: Vec::new(),
            repeatable: true,
            call_limit: None,
        }
    }

    /// A request with a body (`POST`, `PUT`, `PATCH`), never repeated unless [`Request::repeatable`].
    pub(crate) fn with_body(
        service: Service,
        method: &'static str,
        url: &'a str,
        content_type: &'static str,
        body: &'a [u8],
    ) -> Request<'a> {
        let request = Request::reading(service, method, url).header("content-type", content_type);
        Request { body: Some(body), repeatable: false, ..request }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &'a str) -> Request<'a> {
        self.headers.push((name, value));
        self
    }

    /// A header whose value, after `prefix`, is a secret: it is marked so that no log shows it.
    pub fn secret_header(
        mut self,
        name: &'static str,
        prefix: &'static str,
        secret: &'a Secret,
    ) -> Request<'a> {
        self.secret_header = Some((name, prefix, secret));
        self
    }

    /// Names secrets in the body, or in an object of the same name: errors and answers are redacted.
    pub(crate) fn carrying(mut self, secrets: impl IntoIterator<Item = &'a Secret>) -> Request<'a> {
        self.carried.extend(secrets);
        self
    }

    /// Doing it twice is safe, so a dead kept connection is tried again once.
    pub(crate) fn repeatable(mut self) -> Request<'a> {
        self.repeatable = true;
        self
    }

    /// As the HTTP library wants it.
    pub(super) fn build<B>(&self, body: B) -> Result<http::Request<B>, HttpError> {
        let mut builder = http::Request::builder().method(self.method).uri(self.url);
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| self.failed(Failure::BadHeader(name)))?;
            builder = builder.header(*name, value);
        }
        if let Some((name, prefix, secret)) = self.secret_header {
            let text = zeroize::Zeroizing::new(format!("{prefix}{}", secret.expose()));
            let value = HeaderValue::from_str(&text);
            let mut value = value.map_err(|_| self.failed(Failure::BadHeader(name)))?;
            value.set_sensitive(true);
            builder = builder.header(HeaderName::from_static(name), value);
        }
        let request =
            builder.body(body).map_err(|error| self.failed(Failure::BadUrl(error.to_string())))?;
        if has_bad_port(request.uri()) {
            // The HTTP library would ask port 80 or 443 instead, and take what answers there for the service.
            let what = "its port is no number up to 65535".to_owned();
            return Err(self.failed(Failure::BadUrl(what)));
        }
        Ok(request)
    }

    /// What errors and answers of this request must not show.
    pub(super) fn secrets(&self) -> Secrets {
        let in_header = self.secret_header.map(|(_, _, secret)| secret);
        Secrets::of(self.carried.iter().copied().chain(in_header))
    }

    /// The error of this request.
    pub(super) fn failed(&self, failure: Failure) -> HttpError {
        let secrets = self.secrets();
        HttpError { asked: self.asked(&secrets), failure: failure.redacted(&secrets) }
    }

    /// The answer to this request, which from here on knows what its texts must not show.
    pub(crate) fn answered(&self, answer: Answer) -> Answer {
        let token =
            answer.header(ISSUED_TOKEN_HEADER).map(|text| Secret::new(text.trim().to_owned()));
        let secrets = token.into_iter().fold(self.secrets(), Secrets::and);
        Answer { asked: self.asked(&secrets), secrets, ..answer }
    }

    /// Service, method and path, for messages, without a user and password that stand in the wrong
    /// place: nothing that is asked for has an `@` of its own, and in a URL that can't be read no one
    /// knows where a password ends.
    fn asked(&self, secrets: &Secrets) -> String {
        let uri = self.url.parse::<Uri>();
        let path = uri.as_ref().map_or("(a URL that can't be read)", |uri| uri.path());
        let path = secrets.redacted(path.rsplit('@').next().unwrap_or_default());
        format!("{} {} {path}", self.service, self.method)
    }
}

/// Where Keystone puts a token that it issues.
const ISSUED_TOKEN_HEADER: &str = "x-subject-token";

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Header fields; names compare without regard to case.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    asked: String,
    secrets: Secrets,
}

impl Answer {
    /// An answer as it came; the client adds what was asked.
    pub fn new(status: u16, headers: HeaderMap, body: Vec<u8>) -> Answer {
        Answer { status, headers, body, asked: String::new(), secrets: Secrets::default() }
    }

    /// What was asked, for messages: service, method, and path without its query.
    pub(crate) fn asked(&self) -> &str {
        &self.asked
    }

    /// What texts made of this answer must not show. The client knows it, so that no one else has
    /// to: each message that quotes the answer goes through [`Secrets::redacted`] once.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A header's value where it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in its form of whole seconds, the only one these services send.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// An answer whose body is still arriving, and is read from it; dropping it closes the connection. A
/// read that exceeded its limit fails with an error [`super::is_read_timeout`] knows.
pub struct Stream {
    /// HTTP status code.
    pub status: u16,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// What texts made of this answer must not show.
    pub(crate) secrets: Secrets,
    pub(super) body: ureq::BodyReader<'static>,
    /// In use, for a shutdown to reach it.
    pub(super) _agent: Arc<Agent>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ureq::http::header::{HeaderMap, HeaderValue};

    use super::{Answer, Request, Service};
    use crate::http::client::{Client, ClientOptions, Failure};
    use crate::http::trust::Trust;
    use crate::secret::Secret;

    #[test]
    fn no_text_about_a_request_shows_what_it_carried_or_the_token_that_came_back() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let (header, body) = (secret("bearer-1234"), secret("password-5678"));
        let url = "http://keystone/v3/bearer-1234/password-5678";
        let request = Request::with_body(Service::Keystone, "POST", url, "text/plain", b"x")
            .secret_header("authorization", "Bearer ", &header)
            .carrying([&body]);
        let error = request.failed(Failure::Other("no bearer-1234, no password-5678".to_owned()));
        assert_eq!(error.to_string(), "Keystone POST /v3/***/***: no ***, no ***");
        let issued = HeaderValue::from_static(" gAAAA-issued ");
        let headers = HeaderMap::from_iter([("x-subject-token".parse().unwrap(), issued)]);
        let answer = request.answered(Answer::new(201, headers, Vec::new()));
        assert_eq!(answer.asked(), "Keystone POST /v3/***/***");
        let text = answer.secrets().redacted("bearer-1234 password-5678 gAAAA-issued");
        assert_eq!(text, "*** *** ***");
    }

    #[test]
    fn a_url_that_can_not_be_used_is_told_without_the_password_in_it() {
        let limit = Duration::from_secs(1);
        let options = ClientOptions {
            call_limit: limit,
            trust: Trust::System,
            idle_limit: limit,
            proxies: Arc::default(),
            tls: Default::default(),
        };
        let client = Client::new(options, Arc::default());
        for url in [
            "http://user:pass word@127.0.0.1:9/v3",
            "http://user:pass[word@127.0.0.1:9/v3",
            "http://user:pass/word[@127.0.0.1:9/v3",
            "http://user:pass?word[@127.0.0.1:9/v3",
            "http://user:pass/word@127.0.0.1:9/v3",
            "http://user:pass#word@127.0.0.1:9/v3",
            "ftp://user:password@127.0.0.1:9/v3",
            "user:password@127.0.0.1:9/v3",
            "user:password@127.0.0.1:9",
            "http://user:password@/v3",
            "http://user:password@127.0.0.1:99999/v3",
        ] {
            let error = client.call(&Request::get(Service::Keystone, url)).map(|_| ()).unwrap_err();
            let said = error.to_string();
            assert!(!said.contains("pass") && !said.contains("word"), "{url}: {said}");
            assert!(said.starts_with("Keystone GET "), "{said}");
        }
    }

    #[test]
    fn a_request_to_a_port_that_is_none_is_not_made() {
        let built = |url: &str| Request::get(Service::Keystone, url).build(()).map(|_| ());
        for url in ["http://keystone:99999/v3", "http://keystone:abc/v3", "https://[fd00::1]:/v3"] {
            let error = built(url).unwrap_err().to_string();
            assert!(error.contains("its port is no number up to 65535"), "{url}: {error}");
        }
        assert!(built("https://[fd00::1]:5000/v3").is_ok());
    }
}
