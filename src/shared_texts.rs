//! Texts that come again and again, each kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The texts met so far: of networks, subnets, ranges and statuses there are few, however many ports.
#[derive(Debug, Default)]
pub struct SharedTexts(BTreeSet<Arc<str>>);

impl SharedTexts {
    /// The text as it was met first.
    pub fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}
