//! Contrabass' secrets: `base64(IV || AES-CBC, PKCS#7)`, key = the bytes of the configured key.
//!
//! CBC proves nothing about its key: about one wrong key in 256 leaves padding that looks right.
//! So the result must be UTF-8 as well, and every failure reads the same, whatever its cause.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::Secret;

const BLOCK_BYTES: usize = 16;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The text can't be decrypted with this key; nothing more is said, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecryptable;

/// Decrypts one secret.
pub fn decrypt(key: &Secret, text: &str) -> Result<Secret, Undecryptable> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD
        .decode(&compact)
        .or_else(|_| URL_SAFE.decode(&compact))
        .map_err(|_| Undecryptable)?;
    let (iv, encrypted) = bytes.split_at_checked(BLOCK_BYTES).ok_or(Undecryptable)?;
    let key = key.expose().as_bytes();
    let plain = match key.len() {
        16 => run::<cbc::Decryptor<Aes128>>(key, iv, encrypted),
        24 => run::<cbc::Decryptor<Aes192>>(key, iv, encrypted),
        32 => run::<cbc::Decryptor<Aes256>>(key, iv, encrypted),
        _ => Err(Undecryptable),
    }?;
    let plain = std::str::from_utf8(&plain).map_err(|_| Undecryptable)?;
    Ok(Secret::new(plain.to_owned()))
}

fn run<D: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Undecryptable> {
    let decryptor = D::new_from_slices(key, iv).map_err(|_| Undecryptable)?;
    let mut buffer = Zeroizing::new(encrypted.to_vec());
    let length = decryptor.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| Undecryptable)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::{Undecryptable, decrypt};
    use crate::secret::Secret;

    const ADMIN: &str = "AAECAwQFBgcICQoLDA0OD44bCQYZHUjTgcX1QlwdojH/EL8T07ToLB+bASjmJFxL";
    const RABBIT: &str = "8ODQwLCgkIBwYFBAMCAQALQ4qDi6YAaeloA0dOZVAjbhZUkdN324oz8oN5BRju1l";

    fn key(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn the_vectors_of_the_specification_decrypt() {
        let demo = key("multinic-demo-16");
        assert_eq!(decrypt(&demo, ADMIN).unwrap().expose(), "Adm1n-pässwörd!");
        assert_eq!(decrypt(&demo, RABBIT).unwrap().expose(), "rabbit-0pen5tack");
    }

    /// Made with `openssl enc -aes-192-cbc` and `-aes-256-cbc`.
    #[test]
    fn longer_keys_make_it_aes_192_and_256() {
        let vectors = [
            (
                "multinic-demo-24-bytes-k",
                "AAECAwQFBgcICQoLDA0OD5GYFfHf/5MO34Y1Qc/r42Ldlq1hV0MtZTH7htoH5RVM",
            ),
            (
                "multinic-demo-32-bytes-key-long!",
                "AAECAwQFBgcICQoLDA0OD8e2gP7tvlieYJzDf0ex6c2dMD73fTBgit9tmnp9HW+a",
            ),
        ];
        for (long, text) in vectors {
            assert_eq!(decrypt(&key(long), text).unwrap().expose(), "Adm1n-pässwörd!", "{long}");
        }
    }

    #[test]
    fn line_breaks_and_the_url_alphabet_are_fine() {
        let demo = key("multinic-demo-16");
        let wrapped = format!("{}\r\n {}\n", &ADMIN[..20], &ADMIN[20..]);
        assert_eq!(decrypt(&demo, &wrapped), decrypt(&demo, ADMIN));
        let url_safe = ADMIN.replace('+', "-").replace('/', "_");
        assert_eq!(decrypt(&demo, &url_safe), decrypt(&demo, ADMIN));
    }

    #[test]
    fn every_kind_of_damage_gives_the_same_error() {
        let demo = key("multinic-demo-16");
        let nothing_but_an_iv = "AAECAwQFBgcICQoLDA0ODw==";
        let more = format!("{ADMIN}AAAA");
        for text in ["", "AAAA", "!!!", nothing_but_an_iv, &ADMIN[..24], &ADMIN[..44], &more] {
            assert_eq!(decrypt(&demo, text), Err(Undecryptable), "{text}");
        }
        assert_eq!(decrypt(&key("another-key-16by"), ADMIN), Err(Undecryptable));
        assert_eq!(decrypt(&key("short"), ADMIN), Err(Undecryptable));
    }

    #[test]
    fn no_wrong_key_of_many_yields_a_text_that_could_be_taken_for_the_password() {
        for number in 0..3000 {
            let wrong = decrypt(&key(&format!("wrong-key-{number:06}")), RABBIT);
            assert!(wrong.is_err() || wrong.unwrap().expose() != "rabbit-0pen5tack");
        }
    }
}
