//! The program `viola-test-api`: settings, run, exit code.

use std::process::ExitCode;

use multinic_operator::clock::Clock;
use multinic_operator::logging;
use multinic_operator::viola_test_api::{HELP, Settings, run};

/// The configuration can't be used.
const EXIT_BAD_CONFIGURATION: u8 = 2;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a program says itself")]
fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version" | "-V") => {
            println!("viola-test-api {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("{other:?} is not known; there are --help and --version");
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    }
    match Settings::read(|name| std::env::var_os(name)) {
        Ok(settings) => {
            let clock = Clock::system();
            let wall = clock.clone();
            logging::start(&settings.log_filter, settings.log_format, move || wall.now().wall);
            run(settings, clock)
        }
        Err(report) => {
            eprint!("{report}");
            ExitCode::from(EXIT_BAD_CONFIGURATION)
        }
    }
}
