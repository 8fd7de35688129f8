//! The program: command, settings, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use multinic_operator::clock::Clock;
use multinic_operator::command_line::{self, Command};
use multinic_operator::config::Config;
use multinic_operator::{check, logging, operator, preview};

/// The command line or the configuration can't be used.
const EXIT_BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let command = match command_line::parse(arguments) {
        Ok(Command::Help) => return said(&command_line::help()),
        Ok(Command::Version) => {
            return said(&format!("multinic-operator {}\n", env!("CARGO_PKG_VERSION")));
        }
        Ok(command) => command,
        Err(mistake) => return unusable(&mistake.to_string()),
    };
    let config = match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(report) => return unusable(&report.to_string()),
    };
    let is_operator = command == Command::Run;
    // The commands' results are their output; a log beside it is for whoever asks for one.
    if is_operator || std::env::var_os("RUST_LOG").is_some() {
        let clock = Clock::system();
        logging::start(&config.log_filter, config.log_format, move || clock.now().wall);
    }
    match command {
        Command::Check => {
            let report = check::run(&config);
            say(&report.to_string());
            if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Plan { object, json } => match preview::run(&config, &object, json) {
            Ok(text) => said(&text),
            Err(no_plan) => {
                complain(&format!("{no_plan}\n"));
                ExitCode::FAILURE
            }
        },
        Command::Run | Command::Help | Command::Version => operator::run(config),
    }
}

fn said(text: &str) -> ExitCode {
    say(text);
    ExitCode::SUCCESS
}

fn unusable(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(EXIT_BAD_CONFIGURATION)
}

/// To standard output; whoever reads it may go away early, as `head` does.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
