//! One cloud of a `clouds.yaml` (docs/behaviour.md#credentials-of-objects). Pure.
//!
//! Errors name keys and lines, never content: the file is from a Secret.

use super::parse::base_url;
use super::yaml::{self, Map};
use crate::secret::Secret;

/// Keys of a cloud that would mean something else than what is read, and why they aren't.
const REFUSED: [(&str, &str); 5] = [
    ("profile", "write the profile's auth_url and region_name here"),
    ("regions", "name one region as region_name"),
    ("cert", "client certificates aren't supported"),
    ("key", "client certificates aren't supported"),
    ("system_scope", "a token for a project is needed"),
];

/// What a cloud says of itself.
#[derive(Debug)]
pub(crate) struct CloudEntry {
    pub(super) auth_url: Located,
    pub(super) user: User,
    /// The password, or the application credential's secret.
    pub(super) secret: Secret,
    /// None if it names none, or an application credential has one.
    pub(super) project: Option<Project>,
    pub(super) region: Option<String>,
    pub(super) interface: Option<String>,
    /// The line that turns the verification of certificates off, if one does.
    pub(super) unverified: Option<String>,
    pub(super) network_endpoint: Option<Located>,
    pub(super) compute_endpoint: Option<Located>,
}

/// A base URL, and the key and line that have it.
#[derive(Debug)]
pub(crate) struct Located {
    pub(super) url: String,
    pub(super) place: String,
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// A user by its id.
    Id(String),
    /// A user by its name.
    Name {
        /// Its name.
        name: String,
        /// Its domain.
        domain: Domain,
    },
    /// An application credential by its id.
    ApplicationCredential(String),
    /// An application credential by its name.
    ApplicationCredentialOf {
        /// Its name.
        name: String,
        /// Its user, by id or by name.
        user: Box<User>,
    },
}

/// How a domain is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
    /// By one of both; it isn't said by which.
    Either(String),
}

/// The project of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Project {
    /// By its id.
    Id(String),
    /// By its name.
    Name {
        /// Its name.
        name: String,
        /// Its domain.
        domain: Domain,
    },
}

/// Reads the cloud of that name. `has_cacert`: the Secret has the root certificates, so a path to
/// them doesn't matter.
///
/// # Errors
/// What is wrong, by key and line.
pub(crate) fn read(text: &str, cloud: &str, has_cacert: bool) -> Result<CloudEntry, String> {
    let document = yaml::read(text)?;
    let document = Map::of(&document);
    let clouds = document.map("clouds")?;
    let cloud = clouds.map(cloud)?;
    let auth = cloud.map("auth")?;
    for (key, instead) in REFUSED {
        cloud.refuse(key, instead)?;
    }
    auth.refuse("system_scope", "a token for a project is needed")?;
    if !has_cacert {
        cloud.refuse("cacert", "put the certificates into the Secret, as key cacert")?;
    }
    let auth_url = url(&auth, "auth_url")?.ok_or_else(|| auth.lacks("auth_url"))?;
    let (user, secret, project) = credentials(&cloud, &auth)?;
    Ok(CloudEntry {
        auth_url,
        user,
        secret,
        project,
        region: cloud.text("region_name")?,
        interface: interface(&cloud)?,
        unverified: unverified(&cloud)?,
        network_endpoint: url(&cloud, "network_endpoint_override")?,
        compute_endpoint: url(&cloud, "compute_endpoint_override")?,
    })
}

fn credentials(cloud: &Map<'_>, auth: &Map<'_>) -> Result<(User, Secret, Option<Project>), String> {
    let [id, name] =
        ["application_credential_id", "application_credential_name"].map(|key| auth.text(key));
    let (id, name) = (id?, name?);
    let is_application_credential = match cloud.text("auth_type")?.as_deref() {
        None => id.is_some() || name.is_some(),
        Some("password" | "v3password") => false,
        Some("v3applicationcredential") => true,
        Some(_) => {
            let known = "is none of password, v3password, v3applicationcredential";
            return Err(cloud.problem("auth_type", known));
        }
    };
    let secret = |key| auth.secret(key)?.ok_or_else(|| auth.lacks(key));
    if !is_application_credential {
        return Ok((user(auth)?, secret("password")?, project(auth)?));
    }
    let user = match (id, name) {
        (Some(id), _) => User::ApplicationCredential(id),
        (None, Some(name)) => User::ApplicationCredentialOf { name, user: Box::new(user(auth)?) },
        (None, None) => return Err(auth.lacks("application_credential_id")),
    };
    Ok((user, secret("application_credential_secret")?, None))
}

fn user(auth: &Map<'_>) -> Result<User, String> {
    match (auth.text("user_id")?, auth.text("username")?) {
        (Some(id), _) => Ok(User::Id(id)),
        (None, Some(name)) => Ok(User::Name { name, domain: domain(auth, "user_domain")? }),
        (None, None) => Err(auth.lacks("username")),
    }
}

fn project(auth: &Map<'_>) -> Result<Option<Project>, String> {
    Ok(match (auth.text("project_id")?, auth.text("project_name")?) {
        (Some(id), _) => Some(Project::Id(id)),
        (None, Some(name)) => Some(Project::Name { name, domain: domain(auth, "project_domain")? }),
        (None, None) => None,
    })
}

/// The domain by its own keys, by those that are for user and project, or Keystone's first one.
fn domain(auth: &Map<'_>, of: &str) -> Result<Domain, String> {
    for keys in [of, "domain", "default_domain"] {
        if let Some(id) = auth.text(&format!("{keys}_id"))? {
            return Ok(Domain::Id(id));
        }
        if let Some(name) = auth.text(&format!("{keys}_name"))? {
            return Ok(Domain::Name(name));
        }
    }
    Ok(Domain::Id("default".to_owned()))
}

fn interface(cloud: &Map<'_>) -> Result<Option<String>, String> {
    let Some(given) = cloud.text("interface")? else { return Ok(None) };
    match given.strip_suffix("URL").unwrap_or(&given) {
        name @ ("public" | "internal" | "admin") => Ok(Some(name.to_owned())),
        _ => Err(cloud.problem("interface", "is none of public, internal, admin")),
    }
}

fn unverified(cloud: &Map<'_>) -> Result<Option<String>, String> {
    match cloud.text("verify")?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("true" | "yes" | "on") => Ok(None),
        Some("false" | "no" | "off") => Ok(Some(cloud.problem("verify", "is false"))),
        Some(_) => Err(cloud.problem("verify", "is neither true nor false")),
    }
}

/// The base URL of a key, if it has one.
fn url(map: &Map<'_>, key: &str) -> Result<Option<Located>, String> {
    let Some(text) = map.text(key)? else { return Ok(None) };
    let url = base_url(&text).map_err(|problem| map.problem(key, &problem))?;
    Ok(Some(Located { url, place: map.problem(key, "").trim_end().to_owned() }))
}

#[cfg(test)]
mod tests;
