//! The environment: lines of `NAME=value`, where a number stands for one of our names.

use std::collections::BTreeMap;

use multinic_operator::config::{Config, VARIABLES};

/// Settings that are taken make sense; those that aren't are reported by name.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut environment = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = match name.parse::<usize>() {
            Ok(number) => VARIABLES[number % VARIABLES.len()].name,
            Err(_) => name,
        };
        environment.insert(name.to_owned(), value.to_owned());
    }
    match Config::read(|name| environment.get(name).cloned()) {
        Ok(config) => {
            let intervals = config.settings.intervals;
            assert!(!intervals.fast.is_zero() && !intervals.error.is_zero());
            assert!(intervals.fast <= intervals.slow);
            assert!(intervals.resync.is_none_or(|interval| !interval.is_zero()));
            assert!(config.workers > 0);
            let timeouts = [
                config.settings.contrabass.timeout,
                config.settings.openstack.timeout,
                config.settings.viola.timeout,
            ];
            assert!(timeouts.iter().all(|timeout| !timeout.is_zero()));
            // No secret among the settings can be printed.
            let key = environment.get("CONTRABASS_ENCRYPT_KEY").map(|key| key.trim());
            if let Some(key) = key.filter(|key| key.len() > 12) {
                let others =
                    environment.iter().filter(|(name, _)| *name != "CONTRABASS_ENCRYPT_KEY");
                let elsewhere = others.into_iter().any(|(_, value)| value.contains(key));
                assert!(elsewhere || !format!("{config:?}").contains(key));
            }
        }
        Err(report) => {
            let text = report.to_string();
            // The proxies' variables are read in lower case, too.
            let upper = text.to_ascii_uppercase();
            let named = VARIABLES.iter().any(|variable| upper.contains(variable.name));
            assert!(named, "{text}");
        }
    }
}
