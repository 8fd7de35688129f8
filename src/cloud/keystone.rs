//! Keystone: a token of the project and the service catalog (docs/behaviour.md#login).

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer;
use super::catalog::CatalogService;
use super::error::{CloudError, Step};
use super::provider::Provider;
use crate::clock::Clock;
use crate::config::{Domain, Project, User};
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
    /// Id of the token's project.
    pub(super) project_id: String,
    /// Every service the token's project may use.
    pub(super) catalog: Vec<CatalogService>,
    /// What texts made of the catalog must not show.
    pub(super) secrets: Secrets,
}

/// How a domain is written; Contrabass gives one without saying whether it is a name or an id.
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
    project: Option<TokenProject>,
    #[serde(default)]
    catalog: Option<Vec<CatalogService>>,
}

#[derive(Deserialize)]
struct TokenProject {
    id: String,
}

/// A provider's Keystone.
#[derive(Clone, Copy)]
pub(super) struct Keystone<'a> {
    pub(super) client: &'a Client,
    pub(super) clock: &'a Clock,
    pub(super) provider: &'a Provider,
}

impl Keystone<'_> {
    /// Logs in to the project; without one, to that of an application credential.
    pub(super) fn log_in(
        &self,
        project: Option<&Project>,
        spelling: DomainSpelling,
    ) -> Result<Login, CloudError> {
        let wall = self.clock.now().wall;
        let answer = self.post(project, spelling)?;
        let fail = |what: &str| answer::wrong(&answer, Step::Keystone, what);
        let token = answer
            .header("x-subject-token")
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .map(|token| Secret::new(token.to_owned()))
            .ok_or_else(|| fail("the answer has no X-Subject-Token"))?;
        let Body { token: body } = answer::json(&answer, Step::Keystone)?;
        let expires_at = body.expires_at.ok_or_else(|| fail("the token has no expires_at"))?;
        // An empty catalog says that there is no service; an absent one says nothing, least of all
        // that there is no Nova to ask for names.
        let no_catalog = || fail("the token has no catalog (is it scoped to the project?)");
        let catalog = body.catalog.ok_or_else(no_catalog)?;
        let project_id = match (project, body.project) {
            (Some(Project::Id(id)), _) => id.clone(),
            (_, Some(project)) => project.id,
            (_, None) => return Err(fail("the token has no project")),
        };
        // The server's clock counts, not ours: `Date` if it sent one, else the moment of issue.
        let server_now =
            answer.header("date").and_then(http_date).or(body.issued_at).unwrap_or(wall);
        let lifetime = Duration::try_from(expires_at.duration_since(server_now));
        let lifetime = lifetime.unwrap_or_default();
        Ok(Login { token, lifetime, project_id, catalog, secrets: answer.secrets().clone() })
    }

    /// Logs in without a project: only the user, its domain and its password can be refused. The
    /// token is of no use.
    pub(super) fn check_password(&self, spelling: DomainSpelling) -> Result<(), CloudError> {
        self.post(None, spelling).map(drop)
    }

    fn post(
        &self,
        project: Option<&Project>,
        spelling: DomainSpelling,
    ) -> Result<Answer, CloudError> {
        let Keystone { client, provider, .. } = self;
        let url = format!("{}/auth/tokens", ending_in(&provider.keystone_url, "v3"));
        let body = request_body(provider, project, spelling);
        // A second token does no harm, so a dead kept connection may be tried again.
        let request =
            Request::with_body(Service::Keystone, "POST", &url, "application/json", &body)
                .carrying([&provider.secret])
                .repeatable();
        let answer =
            client.call(&request).map_err(|error| CloudError::transport(Step::Keystone, &error))?;
        match answer.status {
            200 | 201 => Ok(answer),
            // Its text quotes the id.
            404 if provider.has_application_credential() && !answer::is_html(&answer.body) => {
                let what = "HTTP 404: there is no such application credential, user or path";
                let error = answer::wrong(&answer, Step::Keystone, what);
                Err(CloudError { refused: true, ..error })
            }
            _ => Err(answer::refused(&answer, Step::Keystone)),
        }
    }
}

/// The body of a login.
#[derive(Serialize)]
struct LoginBody<'a> {
    auth: Auth<'a>,
}

#[derive(Serialize)]
struct Auth<'a> {
    identity: Method<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Method<'a> {
    Password { methods: [&'static str; 1], password: PasswordOf<'a> },
    ApplicationCredential { methods: [&'static str; 1], application_credential: Named<'a> },
}

#[derive(Serialize)]
struct PasswordOf<'a> {
    user: Named<'a>,
}

#[derive(Serialize)]
struct Scope<'a> {
    project: Named<'a>,
}

/// What is named by its id, or by its name and where that is unique.
#[derive(Default, Serialize)]
struct Named<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Box<Named<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<Named<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn id(id: &'a str) -> Named<'a> {
        Named { id: Some(id), ..Named::default() }
    }

    fn in_domain(name: &'a str, domain: &'a Domain, spelling: DomainSpelling) -> Named<'a> {
        let domain = match (domain, spelling) {
            (Domain::Id(id), _) | (Domain::Either(id), DomainSpelling::Id) => Named::id(id),
            (Domain::Name(name), _) | (Domain::Either(name), DomainSpelling::Name) => {
                Named { name: Some(name), ..Named::default() }
            }
        };
        Named { name: Some(name), domain: Some(Box::new(domain)), ..Named::default() }
    }

    fn user(user: &'a User, spelling: DomainSpelling) -> Named<'a> {
        match user {
            User::Id(id) | User::ApplicationCredential(id) => Named::id(id),
            User::Name { name, domain } => Named::in_domain(name, domain, spelling),
            User::ApplicationCredentialOf { name, user } => {
                let user = Some(Box::new(Named::user(user, spelling)));
                Named { name: Some(name), user, ..Named::default() }
            }
        }
    }
}

/// The request's body. The secret is copied once, to where it is wiped: a buffer that grows would leave
/// its former place unwiped.
fn request_body(
    provider: &Provider,
    project: Option<&Project>,
    spelling: DomainSpelling,
) -> Zeroizing<Vec<u8>> {
    let (user, secret) = (Named::user(&provider.user, spelling), Some(provider.secret.expose()));
    let identity = match provider.has_application_credential() {
        true => Method::ApplicationCredential {
            methods: ["application_credential"],
            application_credential: Named { secret, ..user },
        },
        false => {
            let user = Named { password: secret, ..user };
            Method::Password { methods: ["password"], password: PasswordOf { user } }
        }
    };
    let scope = project.map(|project| Scope {
        project: match project {
            Project::Id(id) => Named::id(id),
            Project::Name { name, domain } => Named::in_domain(name, domain, spelling),
        },
    });
    let body = LoginBody { auth: Auth { identity, scope } };
    let mut length = Length(0);
    // A text into memory: there is nothing to fail on.
    let _ = serde_json::to_writer(&mut length, &body);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    let _ = serde_json::to_writer(&mut *bytes, &body);
    bytes
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `Sun, 22 Nov 2026 20:48:08 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(parsed.timestamp())
}

#[cfg(test)]
mod tests {
    use super::{DomainSpelling, http_date, request_body};
    use crate::cloud::provider::Provider;
    use crate::config::{Domain, Project, User};
    use crate::secret::Secret;
    use serde_json::{Value, json};

    fn provider(user: User, secret: &str) -> Provider {
        Provider {
            id: "p".to_owned(),
            is_of_secret: false,
            keystone_url: String::new(),
            user,
            secret: Secret::new(secret.to_owned()),
            project: None,
            rabbitmq: Ok(None),
        }
    }

    fn named(name: &str, domain: Domain) -> User {
        User::Name { name: name.to_owned(), domain }
    }

    fn domain() -> Domain {
        Domain::Either("Default".to_owned())
    }

    fn body(user: User, project: Option<&Project>) -> Value {
        let body = request_body(&provider(user, "secret"), project, DomainSpelling::Id);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn the_password_is_written_into_a_buffer_that_is_large_enough() {
        let provider = provider(named("admin", domain()), &"\u{1}\"ä".repeat(1000));
        let project = Project::Id("project".to_owned());
        for (spelling, domain) in [
            (DomainSpelling::Name, json!({"name": "Default"})),
            (DomainSpelling::Id, json!({"id": "Default"})),
        ] {
            let body = request_body(&provider, Some(&project), spelling);
            assert_eq!(body.capacity(), body.len(), "it has grown");
            let user = json!({"name": "admin", "domain": domain,
                "password": provider.secret.expose()});
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
    fn users_and_projects_are_named_by_id_or_in_their_domain() {
        let id = |id: &str| Domain::Id(id.to_owned());
        let project = Project::Name { name: "demo".to_owned(), domain: id("d1") };
        let by_name = body(named("u", Domain::Name("D".to_owned())), Some(&project));
        assert_eq!(
            by_name["auth"],
            json!({
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": "u", "domain": {"name": "D"}, "password": "secret"}}},
                "scope": {"project": {"name": "demo", "domain": {"id": "d1"}}},
            })
        );
        let by_id = body(User::Id("u1".to_owned()), None);
        let user = &by_id["auth"]["identity"]["password"]["user"];
        assert_eq!(*user, json!({"id": "u1", "password": "secret"}));
    }

    #[test]
    fn an_application_credential_is_named_by_id_or_with_its_user_and_no_project() {
        let identity = |user| body(user, None)["auth"].clone();
        let by_id = identity(User::ApplicationCredential("a1".to_owned()));
        assert_eq!(
            by_id,
            json!({"identity": {"methods": ["application_credential"],
                "application_credential": {"id": "a1", "secret": "secret"}}})
        );
        let of = |user| {
            let (name, user) = ("app".to_owned(), Box::new(user));
            let identity = identity(User::ApplicationCredentialOf { name, user });
            identity["identity"]["application_credential"].clone()
        };
        assert_eq!(
            of(User::Id("u1".to_owned())),
            json!({"name": "app", "user": {"id": "u1"}, "secret": "secret"})
        );
        assert_eq!(
            of(named("u", domain())),
            json!({"name": "app", "secret": "secret",
                "user": {"name": "u", "domain": {"id": "Default"}}})
        );
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
