//! The program: command, settings, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use multinic_operator::clock::Clock;
use multinic_operator::command_line::{self, Command};
use multinic_operator::config::Config;
use multinic_operator::resources::ObjectKey;
use multinic_operator::{check, logging, operator, plan_command};

/// The command line or the configuration can't be used.
const EXIT_BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    match command_line::parse(arguments) {
        Ok(Command::Help) => print(&command_line::help(), ExitCode::SUCCESS),
        Ok(Command::Version) => {
            print(&format!("multinic-operator {}\n", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS)
        }
        Ok(Command::Run) => with_settings(|config| {
            start_log(&config);
            operator::run(config)
        }),
        Ok(Command::Check) => with_settings(check),
        Ok(Command::Plan { object, json }) => with_settings(|config| plan(config, &object, json)),
        Err(mistake) => print_error(&mistake, ExitCode::from(EXIT_BAD_CONFIGURATION)),
    }
}

fn with_settings(run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::read(|name| std::env::var_os(name)) {
        Ok(config) => run(config),
        Err(report) => print_error(&report.to_string(), ExitCode::from(EXIT_BAD_CONFIGURATION)),
    }
}

fn check(config: Config) -> ExitCode {
    start_log_if_asked(&config);
    let report = check::run(&config);
    let code = if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print(&report.to_string(), code)
}

fn plan(config: Config, object: &ObjectKey, json: bool) -> ExitCode {
    start_log_if_asked(&config);
    match plan_command::run(&config, object, json) {
        Ok(shown) => {
            for note in shown.notes {
                print_error(&format!("note: {note}\n"), ExitCode::SUCCESS);
            }
            print(&shown.output, ExitCode::SUCCESS)
        }
        Err(error) => print_error(&format!("{error}\n"), ExitCode::FAILURE),
    }
}

/// The commands' results are their output; a log beside it is written only if `RUST_LOG` is set.
fn start_log_if_asked(config: &Config) {
    if std::env::var_os("RUST_LOG").is_some() {
        start_log(config);
    }
}

fn start_log(config: &Config) {
    let clock = Clock::system();
    logging::start(&config.log_filter, config.log_format, move || clock.now().wall);
}

/// To standard output; its reader may end early, as `head` does.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn print_error(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}
