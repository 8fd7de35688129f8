//! SIGTERM and SIGINT become a message.

use std::io;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::threads;

/// A channel that gets a message when a stop is asked for. A SIGINT while one is being carried out ends
/// the process at once, for a person at a terminal. A second SIGTERM doesn't: the kubelet may repeat
/// its own, and a stop is over within ten seconds anyway.
pub fn stop_requests() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (sender, stop) = bounded(1);
    threads::spawn("signals", move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked && signal == SIGINT {
                std::process::exit(130);
            }
            asked = true;
            let _ = sender.try_send(());
        }
    })?;
    Ok(stop)
}
