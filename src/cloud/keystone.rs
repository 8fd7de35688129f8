//! Keystone: a token of the project and the service catalog (docs/behaviour.md#login).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::answer;
use super::catalog::CatalogService;
use super::contrabass::Provider;
use super::error::{CloudError, Step};
use crate::clock::Clock;
use crate::http::client::{Answer, Client, Request, Service};
use crate::http::url::ending_in;
use crate::secret::{Secret, Secrets};

/// A token and what comes with it.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// The token.
    pub(super) token: Secret,
    /// How long it is good for, by the server's own clock.
    pub(super) lifetime: Duration,
    /// Every service the token's project may use.
    pub(super) catalog: Vec<CatalogService>,
    /// What texts made of the catalog must not show.
    pub(super) secrets: Secrets,
}

/// Contrabass gives a domain without saying whether it is a name or an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DomainSpelling {
    /// `{"domain": {"id": ...}}`.
    Id,
    /// `{"domain": {"name": ...}}`.
    Name,
}

impl DomainSpelling {
    /// The likelier spelling: Keystone makes ids of 32 hexadecimal digits, and its bootstrap domain
    /// has the id `default` and the name `Default`.
    pub(super) fn likely(domain: &str) -> DomainSpelling {
        let is_id = domain == "default"
            || (domain.len() == 32 && domain.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_id { DomainSpelling::Id } else { DomainSpelling::Name }
    }

    pub(super) fn other(self) -> DomainSpelling {
        match self {
            DomainSpelling::Id => DomainSpelling::Name,
            DomainSpelling::Name => DomainSpelling::Id,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    expires_at: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    #[serde(default)]
    catalog: Option<Vec<CatalogService>>,
}

/// A provider's Keystone.
#[derive(Clone, Copy)]
pub(super) struct Keystone<'a> {
    pub(super) client: &'a Client,
    pub(super) clock: &'a Clock,
    pub(super) provider: &'a Provider,
}

impl Keystone<'_> {
    /// Logs in to the project.
    pub(super) fn log_in(
        &self,
        project_id: &str,
        domain: DomainSpelling,
    ) -> Result<Login, CloudError> {
        let wall = self.clock.now().wall;
        let answer = self.post(Some(project_id), domain)?;
        let fail = |what: &str| answer::wrong(&answer, Step::Keystone, what);
        let token = answer
            .header("x-subject-token")
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .map(|token| Secret::new(token.to_owned()))
            .ok_or_else(|| fail("the answer has no X-Subject-Token"))?;
        let body: Body = answer::json(&answer, Step::Keystone)?;
        let expires_at =
            body.token.expires_at.ok_or_else(|| fail("the token has no expires_at"))?;
        // An empty catalog says that there is no service; an absent one says nothing, least of all
        // that there is no Nova to ask for names.
        let no_catalog = || fail("the token has no catalog (is it scoped to the project?)");
        let catalog = body.token.catalog.ok_or_else(no_catalog)?;
        // The server's clock counts, not ours: `Date` if it sent one, else the moment of issue.
        let server_now =
            answer.header("date").and_then(http_date).or(body.token.issued_at).unwrap_or(wall);
        let lifetime = Duration::try_from(expires_at.duration_since(server_now));
        let lifetime = lifetime.unwrap_or_default();
        Ok(Login { token, lifetime, catalog, secrets: answer.secrets().clone() })
    }

    /// Logs in without a project: only the user, its domain and its password can be refused. The
    /// token is of no use.
    pub(super) fn check_password(&self, domain: DomainSpelling) -> Result<(), CloudError> {
        self.post(None, domain).map(drop)
    }

    fn post(&self, project_id: Option<&str>, domain: DomainSpelling) -> Result<Answer, CloudError> {
        let Keystone { client, provider, .. } = self;
        let url = format!("{}/auth/tokens", ending_in(&provider.keystone_url, "v3"));
        let body = request_body(provider, project_id, domain);
        // A second token does no harm, so a dead kept connection may be tried again.
        let request =
            Request::with_body(Service::Keystone, "POST", &url, "application/json", &body)
                .carrying([&provider.password])
                .repeatable();
        let answer =
            client.call(&request).map_err(|error| CloudError::transport(Step::Keystone, &error))?;
        match answer.status {
            200 | 201 => Ok(answer),
            _ => Err(answer::refused(&answer, Step::Keystone)),
        }
    }
}

/// Bytes of the body beside its values. A buffer that grows would leave its former place unwiped.
const BODY_BASE_BYTES: usize = 1024;

/// The request's body, written as text so that the password is copied once, to where it is wiped.
fn request_body(
    provider: &Provider,
    project_id: Option<&str>,
    domain: DomainSpelling,
) -> Zeroizing<Vec<u8>> {
    let Provider { user, domain: named, password, .. } = provider;
    let domain = match domain {
        DomainSpelling::Id => r#","domain":{"id":"#,
        DomainSpelling::Name => r#","domain":{"name":"#,
    };
    let scope = project_id.map(|id| (r#"}}},"scope":{"project":{"id":"#, id, "}}}}"));
    let parts = [
        (
            r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"#,
            user.as_str(),
            "",
        ),
        (domain, named, "}"),
        (r#","password":"#, password.expose(), if scope.is_some() { "" } else { "}}}}}" }),
    ];
    let parts = || parts.iter().chain(&scope);
    // JSON writes a byte with six at most.
    let bytes = BODY_BASE_BYTES + 6 * parts().map(|(_, value, _)| value.len()).sum::<usize>();
    let mut body = Zeroizing::new(Vec::with_capacity(bytes));
    for (before, value, after) in parts() {
        body.extend_from_slice(before.as_bytes());
        // A text into memory: there is nothing to fail on.
        let _ = serde_json::to_writer(&mut *body, value);
        body.extend_from_slice(after.as_bytes());
    }
    body
}

/// `Sun, 22 Nov 2026 20:48:08 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(parsed.timestamp())
}

#[cfg(test)]
mod tests {
    use super::{DomainSpelling, http_date, request_body};
    use crate::cloud::contrabass::Provider;
    use crate::secret::Secret;
    use serde_json::{Value, json};

    #[test]
    fn the_password_is_written_into_a_buffer_that_is_large_enough() {
        let provider = Provider {
            id: "p".to_owned(),
            keystone_url: String::new(),
            user: "admin".to_owned(),
            password: Secret::new("\u{1}\"ä".repeat(1000)),
            domain: "Default".to_owned(),
            rabbitmq: Ok(None),
        };
        for (spelling, domain) in [
            (DomainSpelling::Name, json!({"name": "Default"})),
            (DomainSpelling::Id, json!({"id": "Default"})),
        ] {
            let body = request_body(&provider, Some("project"), spelling);
            let texts = provider.password.expose().len() + "admin".len() + "Defaultproject".len();
            assert_eq!(body.capacity(), super::BODY_BASE_BYTES + 6 * texts, "it has grown");
            let user = json!({"name": "admin", "domain": domain,
                "password": provider.password.expose()});
            let expected = json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"id": "project"}},
            }});
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
            let unscoped = request_body(&provider, None, spelling);
            let unscoped: Value = serde_json::from_slice(&unscoped).unwrap();
            assert_eq!(unscoped, json!({"auth": {"identity": expected["auth"]["identity"]}}));
        }
    }

    #[test]
    fn the_date_header_is_read() {
        let time = http_date("Sun, 22 Nov 2026 20:48:08 GMT").unwrap();
        assert_eq!(time.to_string(), "2026-11-22T20:48:08Z");
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn the_bootstrap_domain_is_an_id_in_one_spelling_and_a_name_in_the_other() {
        assert_eq!(DomainSpelling::likely("default"), DomainSpelling::Id);
        assert_eq!(DomainSpelling::likely("Default"), DomainSpelling::Name);
        assert_eq!(DomainSpelling::likely("0123456789abcdef0123456789abcdef"), DomainSpelling::Id);
    }
}
