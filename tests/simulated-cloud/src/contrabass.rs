//! Contrabass: tells where a cloud is and how to log in there, with the secrets encrypted.

use std::sync::Arc;

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherEncrypt, BlockModeEncrypt, KeyInit, KeyIvInit};
use serde_json::{Value, json};

use crate::pseudo_random::random_bytes;
use crate::state::{CloudState, Provider, SharedState};
use crate::wire::{Handler, Request, Response};

/// Path in front of a provider's id.
const PROVIDERS: &str = "/v1/contrabass/admin/infra/provider/";
/// Bytes of an AES block, and of an initialisation vector.
const BLOCK: usize = 16;

pub struct Contrabass {
    state: Arc<SharedState>,
}

impl Contrabass {
    pub fn new(state: Arc<SharedState>) -> Arc<Contrabass> {
        Arc::new(Contrabass { state })
    }
}

impl Handler for Contrabass {
    fn handle(&self, request: &Request) -> Response {
        let state = self.state.lock();
        let id = request
            .path
            .strip_prefix(&state.settings.contrabass_prefix)
            .and_then(|path| path.strip_prefix(PROVIDERS));
        let Some(id) = id.filter(|_| request.method == "GET") else {
            return Response::json(404, &error(404, "COMMON_NOT_FOUND"));
        };
        match state.providers.iter().find(|provider| provider.id == id) {
            Some(provider) => match provider_body(&state, provider) {
                Some(data) => Response::json(
                    200,
                    &json!({"returnCode": "200", "returnMessage": "COMMON_OK", "data": data}),
                ),
                None => Response::json(500, &error(500, "COMMON_ENCRYPTION_KEY")),
            },
            None => Response::json(
                state.settings.unknown_provider_status,
                &error(404, "PROVIDER_NOT_FOUND"),
            ),
        }
    }
}

fn error(code: u16, message: &str) -> Value {
    json!({"returnCode": code.to_string(), "returnMessage": message, "data": null})
}

/// None when the state's key is no AES key.
fn provider_body(state: &CloudState, provider: &Provider) -> Option<Value> {
    let key = state.encryption_key.as_bytes();
    let password = match &provider.admin_password_ciphertext {
        Some(ciphertext) => ciphertext.clone(),
        None => encrypt(key, &provider.id, &provider.admin_password)?,
    };
    let mut attributes = json!({
        "adminId": provider.admin_id,
        "adminPw": password,
        "domain": provider.domain,
    });
    if let Some(rabbitmq) = &provider.rabbitmq {
        attributes["rabbitMQId"] = json!(rabbitmq.user);
        attributes["rabbitMQPw"] = json!(encrypt(key, &provider.id, &rabbitmq.password)?);
        attributes["rabbitMQUrls"] = json!(rabbitmq.urls);
    }
    let keystone = format!("{}{}", state.urls.keystone, state.settings.keystone_prefix);
    Some(json!({
        "uuid": provider.id,
        "url": provider.url.replace("{keystone}", &keystone),
        "attributes": attributes,
    }))
}

/// `base64(IV || AES-CBC, PKCS#7)`, with an IV that looks random and is the same for the same text.
/// None when the key has none of the lengths 16, 24, 32.
pub fn encrypt(key: &[u8], salt: &str, plain: &str) -> Option<String> {
    let iv: Vec<u8> = random_bytes(&format!("{salt} {plain}")).take(BLOCK).collect();
    let mut bytes = iv.clone();
    bytes.extend(match key.len() {
        16 => encrypt_with::<Aes128>(key, &iv, plain)?,
        24 => encrypt_with::<Aes192>(key, &iv, plain)?,
        32 => encrypt_with::<Aes256>(key, &iv, plain)?,
        _ => return None,
    });
    Some(STANDARD.encode(bytes))
}

fn encrypt_with<C>(key: &[u8], iv: &[u8], plain: &str) -> Option<Vec<u8>>
where
    C: BlockCipherEncrypt + KeyInit,
{
    let mut buffer = plain.as_bytes().to_vec();
    // Padding takes at least one byte and at most a whole block.
    buffer.resize((plain.len() / BLOCK + 1) * BLOCK, 0);
    let encryptor = Encryptor::<C>::new_from_slices(key, iv).ok()?;
    let length = plain.len();
    encryptor.encrypt_padded::<Pkcs7>(&mut buffer, length).ok()?;
    Some(buffer)
}
