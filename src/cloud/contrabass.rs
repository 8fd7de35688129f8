//! Contrabass, the registry of clouds: where a provider is and how to log in
//! (docs/behaviour.md#provider).

use serde::Deserialize;

use super::answer;
use super::cipher;
use super::error::{CloudError, Step};
use crate::http::client::{Client, Request, Service};
use crate::http::url::path_segment;
use crate::secret::Secret;

/// A cloud as Contrabass describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Contrabass' id of the provider.
    pub id: String,
    /// Keystone's URL, in any of the spellings installers use.
    pub keystone_url: String,
    /// The admin user's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Its domain, by name or by id.
    pub domain: String,
    /// Access to the cloud's RabbitMQ, where all of it is there.
    pub rabbitmq: Option<RabbitMq>,
    /// Why there is no `rabbitmq` although Contrabass has something to say of it.
    pub rabbitmq_problem: Option<String>,
}

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
    return_code: serde_json::Value,
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
    rabbitmq_urls: serde_json::Value,
}

/// Asks for one provider and decrypts what it needs.
pub fn look_up(
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
    let fail = |what: String| Err(answer::wrong(&answer, Step::Contrabass, &what));
    let code = match &envelope.return_code {
        serde_json::Value::String(code) => code.trim().to_owned(),
        other => other.to_string(),
    };
    if code != "200" {
        let message = envelope.return_message.unwrap_or_default();
        let message = answer::shortened(&message, 240);
        let separator = if message.is_empty() { "" } else { ": " };
        return fail(format!("returnCode {code}{separator}{message}"));
    }
    let Some(data) = envelope.data else { return fail("the answer has no data".to_owned()) };
    let Some(attributes) = data.attributes else {
        return fail("the answer has no attributes".to_owned());
    };
    let given = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
    let Some(keystone_url) = given(data.url) else {
        return fail("the provider has no url".to_owned());
    };
    let Some(user) = given(attributes.admin_id.clone()) else {
        return fail("the provider has no adminId".to_owned());
    };
    let Some(encrypted) = given(attributes.admin_pw.clone()) else {
        return fail("the provider has no adminPw".to_owned());
    };
    let Ok(password) = cipher::decrypt(key, &encrypted) else {
        return fail(
            "adminPw can't be decrypted; does CONTRABASS_ENCRYPT_KEY belong to this \
                     Contrabass?"
                .to_owned(),
        );
    };
    let domain = given(attributes.domain.clone())
        .map_or_else(|| "default".to_owned(), |d| d.trim().to_owned());
    let (rabbitmq, rabbitmq_problem) = match rabbitmq(key, &attributes) {
        Ok(rabbitmq) => (rabbitmq, None),
        Err(problem) => (None, Some(problem)),
    };
    Ok(Provider {
        id: provider_id.to_owned(),
        keystone_url: keystone_url.trim().to_owned(),
        user,
        password,
        domain,
        rabbitmq,
        rabbitmq_problem,
    })
}

/// All attributes, none (`Ok(None)`), or why they can't be used. Never a reason to stop a sync.
fn rabbitmq(key: &Secret, attributes: &Attributes) -> Result<Option<RabbitMq>, String> {
    let urls: Vec<String> = match &attributes.rabbitmq_urls {
        serde_json::Value::Array(urls) => urls
            .iter()
            .filter_map(serde_json::Value::as_str)
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect(),
        serde_json::Value::String(urls) => {
            urls.split(',').map(|u| u.trim().to_owned()).filter(|u| !u.is_empty()).collect()
        }
        _ => Vec::new(),
    };
    let user = attributes.rabbitmq_id.as_deref().map(str::trim).filter(|user| !user.is_empty());
    let encrypted = attributes.rabbitmq_pw.as_deref().filter(|text| !text.trim().is_empty());
    let (Some(user), Some(encrypted), false) = (user, encrypted, urls.is_empty()) else {
        return Ok(None);
    };
    let password = cipher::decrypt(key, encrypted)
        .map_err(|_| "Contrabass' rabbitMQPw can't be decrypted".to_owned())?;
    Ok(Some(RabbitMq { urls, user: user.to_owned(), password }))
}
