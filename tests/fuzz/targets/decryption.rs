//! Contrabass' encrypted secrets: any key, any text.

use multinic_operator::cloud::cipher::{Undecryptable, decrypt};
use multinic_operator::secret::Secret;

/// The first byte chooses the key's length, also wrong ones. A failure says nothing of the text, and
/// line breaks in it make no difference.
pub fn run(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let length = [16, 24, 32, usize::from(*choice)][usize::from(choice % 4)];
    let key: Vec<u8> = data.iter().copied().chain(std::iter::repeat(b'k')).take(length).collect();
    let Ok(key) = String::from_utf8(key) else { return };
    let Ok(text) = std::str::from_utf8(data.get(length..).unwrap_or_default()) else { return };
    let key = Secret::new(key);
    let result = decrypt(&key, text);
    let folded: String = text.chars().flat_map(|character| [character, '\n']).collect();
    assert_eq!(decrypt(&key, &folded), result);
    match result {
        Err(error) => assert_eq!(format!("{error:?}"), format!("{Undecryptable:?}")),
        Ok(plain) => {
            assert!(matches!(key.expose().len(), 16 | 24 | 32));
            assert!(!format!("{plain:?}").contains(plain.expose()) || plain.expose().len() < 4);
        }
    }
}
