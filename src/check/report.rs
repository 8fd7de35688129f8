//! The results of the checks, as a table for people. Pure.

use std::fmt;

use super::advice::Advice;
use crate::table::aligned;

const OK: &str = "ok";
const FAILED: &str = "FAILED";
const SKIPPED: &str = "skipped";

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    what: String,
    place: String,
    result: &'static str,
    seen: String,
    advice: String,
}

impl Row {
    /// `what` works, at this address or for this object, and what was seen of it.
    pub fn fine(what: &str, place: impl Into<String>, seen: impl ToString) -> Row {
        let (what, place, seen) = (what.to_owned(), place.into(), seen.to_string());
        Row { what, place, result: OK, seen, advice: String::new() }
    }

    /// It doesn't: what was seen instead, and what a person can do about it.
    pub fn failed(
        what: &str,
        place: impl Into<String>,
        seen: impl ToString,
        advice: impl Into<String>,
    ) -> Row {
        Row { result: FAILED, advice: advice.into(), ..Row::fine(what, place, seen) }
    }

    /// What was seen of it, or its failure with what to do about that.
    pub(super) fn of<E: Advice>(
        what: &str,
        place: impl Into<String>,
        result: Result<impl ToString, E>,
    ) -> Row {
        match result {
            Ok(seen) => Row::fine(what, place, seen),
            Err(error) => Row::failed(what, place, &error, error.advice()),
        }
    }

    /// It wasn't tried, and why.
    pub fn skipped(what: &str, place: impl Into<String>, why: impl ToString) -> Row {
        Row { result: SKIPPED, ..Row::fine(what, place, why) }
    }
}

/// All checks, in the order in which a pass needs what they check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One row each.
    pub rows: Vec<Row>,
}

impl Report {
    /// Does everything work that was tried?
    pub fn is_fine(&self) -> bool {
        self.count(FAILED) == 0
    }

    fn count(&self, result: &str) -> usize {
        self.rows.iter().filter(|row| row.result == result).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let mut lines = vec![cells(["CHECK", "WHERE", "RESULT", "SEEN, AND WHAT TO DO"])];
        for Row { what, place, result, seen, advice } in &self.rows {
            lines.push(cells([what, place, result, seen]));
            if !advice.is_empty() {
                lines.push(cells(["", "", "", &format!("-> {advice}")]));
            }
        }
        writeln!(formatter, "{}\n", aligned(&lines).join("\n"))?;
        let (ok, failed, skipped) = (self.count(OK), self.count(FAILED), self.count(SKIPPED));
        match failed {
            0 => write!(formatter, "all {ok} checks are ok")?,
            _ => write!(formatter, "{failed} of {} checks FAILED", ok + failed)?,
        }
        match skipped {
            0 => writeln!(formatter),
            _ => writeln!(formatter, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Row};

    #[test]
    fn a_failure_is_seen_and_says_what_to_do() {
        let mut report = Report { rows: vec![Row::fine("Viola", "http://v", "HTTP 405")] };
        report.rows.push(Row::skipped("RBAC leases", "", "LEADER_ELECT is off"));
        assert!(report.is_fine());
        assert!(report.to_string().ends_with("all 1 checks are ok, 1 skipped\n"), "{report}");
        report.rows.push(Row::failed("Keystone", "project p", "HTTP 401", "look at the password"));
        assert!(!report.is_fine());
        assert_eq!(
            report.to_string(),
            "\
CHECK        WHERE      RESULT   SEEN, AND WHAT TO DO
Viola        http://v   ok       HTTP 405
RBAC leases             skipped  LEADER_ELECT is off
Keystone     project p  FAILED   HTTP 401
                                 -> look at the password

1 of 2 checks FAILED, 1 skipped
"
        );
    }
}
