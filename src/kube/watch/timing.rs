//! All numbers of list and watch in one block, each with its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How long things may take, and how often they may fail. Tests use their own.
#[derive(Clone, Debug)]
pub struct Timing {
    /// No byte for so long means that the connection is dead. The server sends a bookmark each
    /// minute, so this allows for one that is lost and one that is late.
    pub silence_limit: Duration,
    /// When the server shall end a watch: 4 to 6 minutes at random, so that many clients, or many
    /// watches of one, don't come back in step.
    pub watch_seconds: RangeInclusive<u32>,
    /// Everything is listed again after 27 to 33 minutes, though all is well: an etcd that was
    /// restored from a backup may have objects that no watch ever tells of.
    pub relist_seconds: RangeInclusive<u32>,
    /// Limit of one page of a list, body included.
    pub list_limit: Duration,
    /// Objects a page; what client-go takes.
    pub page_size: u32,
    /// Limit of the wait after the first failure: a lost connection costs next to nothing.
    pub backoff_first: Duration,
    /// Limit of any wait: a server that is back is noticed after half a minute at the latest.
    pub backoff_most: Duration,
    /// A watch that lived so long was healthy, even if it brought nothing: waits start over.
    pub healthy_after: Duration,
    /// A watch that ends sooner without having brought anything counts as a failure; servers
    /// answer some versions they can't serve like this.
    pub short_watch: Duration,
    /// So many failures in a row and the version is given up for a new list.
    pub failures_before_relist: u32,
    /// After a restart an API server sends 410 to all clients; lists then come spread over this.
    pub relist_spread: Duration,
    /// A `Retry-After` above this is taken for a mistake.
    pub retry_after_most: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            silence_limit: Duration::from_secs(150),
            watch_seconds: 240..=360,
            relist_seconds: 1620..=1980,
            list_limit: Duration::from_secs(30),
            page_size: 500,
            backoff_first: Duration::from_millis(100),
            backoff_most: Duration::from_secs(30),
            healthy_after: Duration::from_secs(120),
            short_watch: Duration::from_secs(1),
            failures_before_relist: 3,
            relist_spread: Duration::from_secs(1),
            retry_after_most: Duration::from_secs(120),
        }
    }
}
