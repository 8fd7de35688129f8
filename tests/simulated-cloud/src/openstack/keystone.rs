//! Keystone: versions, tokens and the catalog.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{below_prefix, keystone_challenge, public_base, request_id, uwsgi_response};
use crate::pseudo_random::random_hex;
use crate::state::{ApplicationCredential, CatalogService, CloudState, SharedState, Token, User};
use crate::wire::{Handler, Limits, Request, Response};

pub struct Keystone {
    state: Arc<SharedState>,
}

impl Keystone {
    pub fn new(state: Arc<SharedState>) -> Arc<Keystone> {
        Arc::new(Keystone { state })
    }
}

impl Handler for Keystone {
    fn handle(&self, request: &Request) -> Response {
        let mut state = self.state.lock();
        let prefix = state.settings.keystone_prefix.clone();
        let Some(path) = below_prefix(&request.path, &prefix) else {
            return html_not_found(&state);
        };
        if path.contains("//") {
            let location = format!("{}{prefix}{}", public_base(request), path.replace("//", "/"));
            return answer(&state, 308, vec![("Location", location)], String::new());
        }
        match (request.method.as_str(), path.trim_end_matches('/')) {
            ("GET", "") => versions(&state, request, &prefix),
            ("GET", "/v3") => {
                let body = json!({"version": version(request, &prefix)});
                answer(&state, 200, vec![], body.to_string())
            }
            ("POST", "/v3/auth/tokens") => issue(&mut state, request),
            ("GET", "/v3/auth/tokens") => validate(&state, request),
            _ => html_not_found(&state),
        }
    }

    fn limits(&self) -> Limits {
        Limits { request_line: None, head: Some(self.state.lock().settings.uwsgi_head_limit) }
    }
}

/// An answer with the headers that all have. Keystone writes its reason phrases in capitals.
fn answer(
    state: &CloudState,
    status: u16,
    additional: Vec<(&str, String)>,
    body: String,
) -> Response {
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    headers.extend(additional);
    headers.push(("Vary", "X-Auth-Token".to_owned()));
    headers.push(("x-openstack-request-id", request_id()));
    let mut response = uwsgi_response(state, status, headers, body);
    response.reason = Some(match status {
        200 => "OK",
        201 => "CREATED",
        300 => "MULTIPLE CHOICES",
        308 => "PERMANENT REDIRECT",
        400 => "BAD REQUEST",
        401 => "UNAUTHORIZED",
        _ => "NOT FOUND",
    });
    response
}

fn html_not_found(state: &CloudState) -> Response {
    let body = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n";
    let mut response = answer(state, 404, vec![], body.to_owned());
    if let Some((_, value)) = response.headers.first_mut() {
        *value = "text/html; charset=utf-8".to_owned();
    }
    response
}

fn error(state: &CloudState, status: u16, title: &str, message: &str) -> Response {
    let body = json!({"error": {"code": status, "message": message, "title": title}});
    answer(state, status, vec![], body.to_string())
}

/// Every failure of a login looks like this, whatever its cause.
fn unauthorized(state: &CloudState) -> Response {
    let body = json!({"error": {
        "code": 401,
        "message": "The request you have made requires authentication.",
        "title": "Unauthorized",
    }});
    let challenge = vec![("WWW-Authenticate", keystone_challenge(state))];
    answer(state, 401, challenge, body.to_string())
}

fn version(request: &Request, prefix: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}{prefix}/v3/", public_base(request))}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.identity-v3+json",
        }],
    })
}

fn versions(state: &CloudState, request: &Request, prefix: &str) -> Response {
    let location = format!("{}{prefix}/v3/", public_base(request));
    let body = json!({"versions": {"values": [version(request, prefix)]}});
    answer(state, 300, vec![("Location", location)], body.to_string())
}

fn issue(state: &mut CloudState, request: &Request) -> Response {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let auth = &body["auth"];
    if !auth["identity"].is_object() {
        let message = "'identity' is a required property\n\nFailed validating 'required' in schema:\n    {'properties': {'identity': {'required': ['methods']}}}\n\nOn instance:\n    {}";
        return error(state, 400, "Bad Request", message);
    }
    let issued = match &auth["identity"]["application_credential"] {
        Value::Null => issue_for_password(state, auth),
        named => issue_for_credential(state, named, &auth["scope"]),
    };
    let token = match issued {
        Ok(token) => token,
        Err(refused) => return refused,
    };
    // A bare `?nocatalog` counts.
    let with_catalog = request.query_value("nocatalog").is_none();
    let body = state.token(&token).and_then(|token| token_body(state, token, with_catalog));
    match body {
        Some(body) => answer(state, 201, vec![("X-Subject-Token", token)], body.to_string()),
        None => unauthorized(state),
    }
}

fn issue_for_password(state: &mut CloudState, auth: &Value) -> Result<String, Response> {
    let credentials = &auth["identity"]["password"]["user"];
    let Some(user) = find_user(state, credentials) else {
        return Err(unauthorized(state));
    };
    let project_id = match &auth["scope"] {
        Value::Null => None,
        scope => match find_project(state, &user, &scope["project"]) {
            Some(project_id) => Some(project_id),
            None => return Err(unauthorized(state)),
        },
    };
    Ok(state.issue_token(&user, project_id))
}

/// Unlike with passwords, an answer tells what isn't there.
fn issue_for_credential(
    state: &mut CloudState,
    named: &Value,
    scope: &Value,
) -> Result<String, Response> {
    if !scope.is_null() {
        let message = "Error authenticating with application credential: Application credentials cannot request a scope.";
        let body = json!({"error": {
            "code": 401, "identity": {}, "message": message, "title": "Unauthorized",
        }});
        let challenge = vec![("WWW-Authenticate", keystone_challenge(state))];
        return Err(answer(state, 401, challenge, body.to_string()));
    }
    let credential = find_credential(state, named)?;
    let user = state.users.iter().find(|user| user.id == credential.user_id).cloned();
    let has_role = |user: &User| {
        user.projects.as_ref().is_none_or(|projects| projects.contains(&credential.project_id))
    };
    match user.filter(has_role) {
        Some(user) if named["secret"] == credential.secret => {
            Ok(state.issue_restricted_token(&user, &credential))
        }
        _ => Err(unauthorized(state)),
    }
}

fn find_credential(state: &CloudState, named: &Value) -> Result<ApplicationCredential, Response> {
    let credentials = &state.application_credentials;
    if let Some(id) = named["id"].as_str() {
        let found = credentials.iter().find(|known| known.id == id).cloned();
        let message = format!("Could not find Application Credential: {id}.");
        return found.ok_or_else(|| error(state, 404, "Not Found", &message));
    }
    let user = &named["user"];
    if !user.is_object() {
        let message = "Expecting to find user in application credential. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.";
        return Err(error(state, 400, "Bad Request", message));
    }
    let Some(owner) = named_user(state, user) else {
        let shown = user["id"].as_str().or(user["name"].as_str()).unwrap_or_default();
        return Err(error(state, 404, "Not Found", &format!("Could not find user: {shown}.")));
    };
    let name = named["name"].as_str().unwrap_or_default();
    let is_it = |known: &&ApplicationCredential| {
        known.user_id == owner.id && equal_names(&known.name, name)
    };
    credentials.iter().find(is_it).cloned().ok_or_else(|| unauthorized(state))
}

/// Tells about a token.
fn validate(state: &CloudState, request: &Request) -> Response {
    let asking = request.header("X-Auth-Token").unwrap_or_default();
    if state.valid_token(asking).is_none() {
        return unauthorized(state);
    }
    let subject = request.header("X-Subject-Token").unwrap_or_default();
    let body = state.valid_token(subject).and_then(|token| token_body(state, token, true));
    match body {
        Some(body) => {
            let headers = vec![("X-Subject-Token", subject.to_owned())];
            answer(state, 200, headers, body.to_string())
        }
        None => error(state, 404, "Not Found", "Could not recognize Fernet token"),
    }
}

/// The user whom the credentials name, if the password is right.
fn find_user(state: &CloudState, credentials: &Value) -> Option<User> {
    let password = credentials["password"].as_str()?;
    let user = named_user(state, credentials)?;
    (user.password == password).then(|| user.clone())
}

fn named_user<'a>(state: &'a CloudState, named: &Value) -> Option<&'a User> {
    match named["id"].as_str() {
        Some(id) => state.users.iter().find(|user| user.id == id),
        None => {
            let name = named["name"].as_str()?;
            let domain_id = find_domain(state, &named["domain"])?;
            state
                .users
                .iter()
                .find(|user| user.domain_id == domain_id && equal_names(&user.name, name))
        }
    }
}

/// The id of the project that the scope names, if the user has a role there.
fn find_project(state: &CloudState, user: &User, scope: &Value) -> Option<String> {
    let project = match scope["id"].as_str() {
        Some(id) => state.projects.iter().find(|project| project.id == id)?,
        None => {
            let name = scope["name"].as_str()?;
            let domain_id = find_domain(state, &scope["domain"])?;
            state.projects.iter().find(|project| {
                project.domain_id == domain_id && equal_names(&project.name, name)
            })?
        }
    };
    let has_role = user.projects.as_ref().is_none_or(|projects| projects.contains(&project.id));
    has_role.then(|| project.id.clone())
}

/// The id of the domain: ids match exactly, names in any case.
fn find_domain(state: &CloudState, domain: &Value) -> Option<String> {
    let found = match domain["id"].as_str() {
        Some(id) => state.domains.iter().find(|domain| domain.id == id)?,
        None => {
            let name = domain["name"].as_str()?;
            state.domains.iter().find(|domain| equal_names(&domain.name, name))?
        }
    };
    Some(found.id.clone())
}

/// Names compare as MySQL's usual collation does.
fn equal_names(stored: &str, asked: &str) -> bool {
    stored.to_lowercase() == asked.trim_end().to_lowercase()
}

fn token_body(state: &CloudState, token: &Token, with_catalog: bool) -> Option<Value> {
    let user = state.users.iter().find(|user| user.id == token.user_id)?;
    let mut body = json!({
        "methods": ["password"],
        "user": {
            "domain": domain_body(state, &user.domain_id),
            "id": user.id,
            "name": user.name,
            "password_expires_at": null,
        },
        "audit_ids": [token.audit_id],
        "expires_at": six_digits(token.expires_at),
        "issued_at": six_digits(token.issued_at),
    });
    if let Some(project_id) = &token.project_id {
        let project = state.projects.iter().find(|project| project.id == *project_id)?;
        body["project"] = json!({
            "domain": domain_body(state, &project.domain_id),
            "id": project.id,
            "name": project.name,
        });
        body["is_domain"] = json!(false);
        let roles: &[&str] =
            if token.admin { &["reader", "admin", "member"] } else { &["reader", "member"] };
        body["roles"] =
            roles.iter().map(|role| json!({"id": random_hex(role, 32), "name": role})).collect();
        if with_catalog {
            body["catalog"] = state
                .catalog
                .iter()
                .map(|service| catalog_body(state, service, project_id))
                .collect();
        }
    }
    if let Some(id) = &token.application_credential_id {
        let known = state.application_credentials.iter().find(|known| known.id == *id)?;
        body["methods"] = json!(["application_credential"]);
        body["application_credential"] =
            json!({"id": known.id, "name": known.name, "restricted": true});
    }
    Some(json!({"token": body}))
}

fn catalog_body(state: &CloudState, service: &CatalogService, project_id: &str) -> Value {
    let endpoints: Vec<Value> = service
        .endpoints
        .iter()
        .map(|endpoint| {
            let url = endpoint
                .url
                .replace("{keystone}", &state.urls.keystone)
                .replace("{neutron}", &state.urls.neutron)
                .replace("{nova}", &state.urls.nova)
                .replace("{project_id}", project_id);
            let seed = format!("{:?} {}", endpoint, service.kind);
            let mut body = json!({
                "id": random_hex(&seed, 32),
                "interface": endpoint.interface,
                "url": url,
            });
            if let Some(region) = &endpoint.region {
                body["region"] = json!(region);
            }
            if let Some(region_id) = &endpoint.region_id {
                body["region_id"] = json!(region_id);
            }
            body
        })
        .collect();
    json!({
        "endpoints": endpoints,
        "id": random_hex(&service.kind, 32),
        "type": service.kind,
        "name": service.name,
    })
}

fn domain_body(state: &CloudState, id: &str) -> Value {
    let name =
        state.domains.iter().find(|domain| domain.id == id).map_or("", |domain| &domain.name);
    json!({"id": id, "name": name})
}

/// Keystone's form of a time: whole seconds, written with six fraction digits.
fn six_digits(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}
