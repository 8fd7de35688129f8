//! The program: settings, run, exit code.

use std::process::ExitCode;

use multinic_operator::clock::Clock;
use multinic_operator::config::{Config, VARIABLES};
use multinic_operator::{logging, operator};

/// The configuration can't be used.
const EXIT_BAD_CONFIGURATION: u8 = 2;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a program says itself")]
fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version" | "-V") => {
            println!("multinic-operator {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("{other:?} is not known; there are --help and --version");
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    }
    match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => {
            let clock = Clock::system();
            logging::start(&config.log_filter, config.log_format, move || clock.now().wall);
            operator::run(config)
        }
        Err(report) => {
            eprint!("{report}");
            ExitCode::from(EXIT_BAD_CONFIGURATION)
        }
    }
}

fn help() -> String {
    let mut text = String::from(
        "multinic-operator tells each OpenStack-hosted Kubernetes node which NIC has which \
         address.\n\nIt takes no arguments and is set up by its environment:\n\n",
    );
    for variable in VARIABLES {
        let default = match variable.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        text.push_str(&format!("  {}{default}\n      {}\n", variable.name, variable.help));
    }
    text
}
