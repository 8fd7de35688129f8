//! The doorway of signals: SIGTERM and SIGINT become a message.

use std::io;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::threads;

/// A channel that gets one message for each request to stop. A SIGINT while one is being carried out
/// ends the process at once, for whoever sits before it. A second SIGTERM doesn't: the kubelet may
/// repeat its own, and a stop is over within ten seconds anyway.
pub fn stop_requests() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (tell, told) = bounded(1);
    threads::spawn("signals", move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked && signal == SIGINT {
                std::process::exit(130);
            }
            asked = true;
            let _ = tell.try_send(());
        }
    })?;
    Ok(told)
}
