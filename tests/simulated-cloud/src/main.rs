//! The program `simulated-cloud`: runs a scenario until it is told to end, for demos and for trying
//! things out.
//!
//! `simulated-cloud FOLDER [--port-base N] [--environment-file FILE]`. Ends with SIGTERM, or when
//! its standard input closes.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use simulated_cloud::{Cloud, Scenario, Service};

const USAGE: &str = "usage: simulated-cloud FOLDER [--port-base N] [--environment-file FILE]";

struct Arguments {
    folder: PathBuf,
    port_base: Option<u16>,
    environment_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to be told when standard error is gone.
            drop(writeln!(io::stderr(), "{problem}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = parse(env::args().skip(1))?;
    let scenario = Scenario::load(&arguments.folder).map_err(|error| error.to_string())?;
    let cloud = Cloud::start_from(scenario, arguments.port_base)
        .map_err(|error| format!("the cloud can't start: {error}"))?;
    if let Some(file) = &arguments.environment_file {
        let lines: String =
            cloud.environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        // Under its name only when complete, for someone may be waiting for it.
        let unfinished = file.with_extension("unfinished");
        fs::write(&unfinished, lines)
            .and_then(|()| fs::rename(&unfinished, file))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let mut output = io::stdout();
    for service in Service::ALL {
        drop(writeln!(output, "{service} {}", cloud.url(service)));
    }
    drop(output.flush());
    // Ends when standard input does.
    drop(io::stdin().read_to_end(&mut Vec::new()));
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut folder = None;
    let mut port_base = None;
    let mut environment_file = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--port-base" => {
                let number = words.next().and_then(|text| text.parse().ok());
                port_base = Some(number.ok_or("--port-base needs a port number")?);
            }
            "--environment-file" => {
                let file = words.next().ok_or("--environment-file needs a file")?;
                environment_file = Some(PathBuf::from(file));
            }
            _ if folder.is_none() && !word.starts_with('-') => folder = Some(PathBuf::from(word)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(Arguments { folder: folder.ok_or(USAGE)?, port_base, environment_file })
}
