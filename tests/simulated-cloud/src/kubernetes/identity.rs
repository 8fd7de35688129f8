//! What the server invents for a new object: times in its own notation, uids, name suffixes.

use std::sync::atomic::{AtomicU64, Ordering};

/// The time as `metav1.Time` writes it: UTC, whole seconds.
pub(super) fn timestamp() -> String {
    crate::clock::timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A number that no other call in this process gets, well mixed (SplitMix64).
fn unique() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let mut mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A UUID of version 4 in form; unique within the process.
pub(super) fn uuid() -> String {
    let (high, low) = (unique(), unique());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// Five characters as `generateName` appends them (no vowels, nothing easily misread).
pub(super) fn name_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = unique();
    let mut suffix = String::new();
    for _ in 0..5 {
        let index = usize::try_from(rest % LETTERS.len() as u64).unwrap_or_default();
        suffix.push(char::from(LETTERS[index]));
        rest /= LETTERS.len() as u64;
    }
    suffix
}
