//! The program: command, settings, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use multinic_operator::clock::Clock;
use multinic_operator::command_line::{self, Command};
use multinic_operator::config::Config;
use multinic_operator::plan_command::{self, Shown};
use multinic_operator::{check, export_import, logging, operator};

/// The command line or the configuration can't be used.
const EXIT_BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let command = match command_line::parse(arguments) {
        Ok(Command::Print(text)) => return print(&text, ExitCode::SUCCESS),
        Ok(command) => command,
        Err(mistake) => return print_error(&mistake, ExitCode::from(EXIT_BAD_CONFIGURATION)),
    };
    let config = match Config::read(|name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(report) => {
            return print_error(&report.to_string(), ExitCode::from(EXIT_BAD_CONFIGURATION));
        }
    };
    // The results of `check` and `plan` are their output, so they have a log only if it is asked for.
    if command == Command::Run || std::env::var_os("RUST_LOG").is_some() {
        let clock = Clock::system();
        logging::start(&config.log_filter, config.log_format, move || clock.now().wall);
    }
    match command {
        Command::Run => operator::run(config),
        Command::Check => {
            let report = check::run(&config);
            let code = if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            print(&report.to_string(), code)
        }
        Command::Plan { subject, json } => print_result(plan_command::run(&config, &subject, json)),
        Command::Export => print_result(export_import::export(&config)),
        Command::Import { file, is_confirmed } => {
            print_result(export_import::import(&config, &file, is_confirmed))
        }
        Command::Print(text) => print(&text, ExitCode::SUCCESS),
    }
}

fn print_result(result: Result<Shown, String>) -> ExitCode {
    match result {
        Ok(Shown { output, notes }) => {
            let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
            print_error(&notes, ExitCode::SUCCESS);
            print(&output, ExitCode::SUCCESS)
        }
        Err(error) => print_error(&format!("{error}\n"), ExitCode::FAILURE),
    }
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
