//! Text and bytes that look random and are the same for the same seed, so that a cloud is the same
//! each time: ids, tokens, initialisation vectors.

/// Text that looks random and is the same for the same seed: letters, digits, `-` and `_`.
pub(crate) fn random_text(seed: &str, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    random_bytes(seed)
        .take(length)
        .map(|byte| char::from(LETTERS[usize::from(byte % 64)]))
        .collect()
}

/// Hexadecimal digits that look random and are the same for the same seed.
pub(crate) fn random_hex(seed: &str, length: usize) -> String {
    random_bytes(seed)
        .take(length)
        .map(|byte| char::from(b"0123456789abcdef"[usize::from(byte % 16)]))
        .collect()
}

/// Endless bytes that look random and are the same for the same seed: FNV-1a over the seed, then
/// splitmix64.
pub(crate) fn random_bytes(seed: &str) -> impl Iterator<Item = u8> + use<> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    })
    .flatten()
}
