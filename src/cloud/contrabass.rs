//! Contrabass, the registry of clouds: where a provider is and how to log in
//! (docs/behaviour.md#provider).

use serde::Deserialize;
use serde_json::Value;

use super::answer;
use super::cipher;
use super::error::{CloudError, Step};
use super::provider::Provider;
use crate::config::{Domain, User};
use crate::http::client::{Client, Request, Service};
use crate::http::url::path_segment;
use crate::secret::Secret;

/// The key is another one than Contrabass encrypts with.
const UNDECRYPTABLE: &str = "adminPw can't be decrypted; does the key belong to this Contrabass?";

/// What the Secret `rabbitmq-<object>` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RabbitMq {
    /// `host:port` of each node.
    pub urls: Vec<String>,
    /// User name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    return_code: Value,
    #[serde(default)]
    return_message: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    admin_id: Option<String>,
    admin_pw: Option<String>,
    domain: Option<String>,
    #[serde(rename = "rabbitMQId")]
    rabbitmq_id: Option<String>,
    #[serde(rename = "rabbitMQPw")]
    rabbitmq_pw: Option<String>,
    // Of no use to a sync, so whatever stands there must not stop one.
    #[serde(rename = "rabbitMQUrls", default)]
    rabbitmq_urls: Value,
}

/// Asks for one provider and decrypts what it needs.
pub(crate) fn look_up(
    client: &Client,
    endpoint: &str,
    key: &Secret,
    provider_id: &str,
) -> Result<Provider, CloudError> {
    let path = format!("/v1/contrabass/admin/infra/provider/{}", path_segment(provider_id));
    let url = format!("{endpoint}{path}");
    let answer = client
        .call(&Request::get(Service::Contrabass, &url))
        .map_err(|error| CloudError::transport(Step::Contrabass, &error))?;
    let envelope: Envelope = answer::read(&answer, Step::Contrabass)?;
    provider(envelope, key, provider_id).map_err(|what| CloudError {
        undecryptable: what == UNDECRYPTABLE,
        ..answer::wrong(&answer, Step::Contrabass, &what)
    })
}

/// The provider in the answer, or why it can't be used.
fn provider(envelope: Envelope, key: &Secret, provider_id: &str) -> Result<Provider, String> {
    let code = match &envelope.return_code {
        Value::String(code) => code.trim().to_owned(),
        other => other.to_string(),
    };
    if code != "200" {
        let message = answer::shortened(&envelope.return_message.unwrap_or_default(), 240);
        let separator = if message.is_empty() { "" } else { ": " };
        return Err(format!("returnCode {code}{separator}{message}"));
    }
    let data = envelope.data.ok_or("the answer has no data")?;
    let attributes = data.attributes.ok_or("the answer has no attributes")?;
    let keystone_url = not_blank(data.url.as_ref()).ok_or("the provider has no url")?;
    let user = attributes.admin_id.as_ref().filter(|user| !user.trim().is_empty());
    let encrypted = not_blank(attributes.admin_pw.as_ref()).ok_or("the provider has no adminPw");
    let name = user.ok_or("the provider has no adminId")?.clone();
    let domain = not_blank(attributes.domain.as_ref()).unwrap_or("default").to_owned();
    Ok(Provider {
        id: provider_id.to_owned(),
        is_of_secret: false,
        keystone_url: keystone_url.to_owned(),
        user: User::Name { name, domain: Domain::Either(domain) },
        secret: cipher::decrypt(key, encrypted?).map_err(|_| UNDECRYPTABLE)?,
        project: None,
        rabbitmq: rabbitmq(key, &attributes),
    })
}

/// All attributes, none (`Ok(None)`), or why they can't be used. Never a reason to stop a sync.
fn rabbitmq(key: &Secret, attributes: &Attributes) -> Result<Option<RabbitMq>, String> {
    let urls: Vec<&str> = match &attributes.rabbitmq_urls {
        Value::Array(urls) => urls.iter().filter_map(Value::as_str).collect(),
        Value::String(urls) => urls.split(',').collect(),
        _ => Vec::new(),
    };
    let urls = urls.into_iter().map(|url| url.trim().to_owned());
    let urls: Vec<String> = urls.filter(|url| !url.is_empty()).collect();
    let user = not_blank(attributes.rabbitmq_id.as_ref());
    let encrypted = not_blank(attributes.rabbitmq_pw.as_ref());
    let (Some(user), Some(encrypted), false) = (user, encrypted, urls.is_empty()) else {
        return Ok(None);
    };
    let password =
        cipher::decrypt(key, encrypted).map_err(|_| "Contrabass' rabbitMQPw can't be decrypted")?;
    Ok(Some(RabbitMq { urls, user: user.to_owned(), password }))
}

fn not_blank(value: Option<&String>) -> Option<&str> {
    value.map(|value| value.trim()).filter(|value| !value.is_empty())
}
