//! What the checks came to, as a table for people. Pure.

use std::fmt;

use crate::table::aligned;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was checked, such as `Keystone`.
    pub what: String,
    /// Where: an address, an object, a folder.
    pub place: String,
    /// What came of it.
    pub result: CheckResult,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// It works; what was seen.
    Fine(String),
    /// It doesn't.
    Failed {
        /// What was seen instead.
        seen: String,
        /// What a person can do about it.
        advice: String,
    },
    /// It wasn't tried, and why.
    Skipped(String),
}

/// All checks, in the order in which a sync needs what they check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One row each.
    pub rows: Vec<Row>,
}

impl Row {
    /// It works.
    pub fn fine(what: &str, place: impl Into<String>, seen: impl Into<String>) -> Row {
        Row { what: what.to_owned(), place: place.into(), result: CheckResult::Fine(seen.into()) }
    }

    /// It doesn't.
    pub fn failed(
        what: &str,
        place: impl Into<String>,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Row {
        let result = CheckResult::Failed { seen: seen.into(), advice: advice.into() };
        Row { what: what.to_owned(), place: place.into(), result }
    }

    /// It wasn't tried.
    pub fn skipped(what: &str, place: impl Into<String>, why: impl Into<String>) -> Row {
        Row { what: what.to_owned(), place: place.into(), result: CheckResult::Skipped(why.into()) }
    }
}

impl Report {
    /// Does everything work that was tried?
    pub fn is_fine(&self) -> bool {
        self.failures() == 0
    }

    fn failures(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.result, CheckResult::Failed { .. })).count()
    }

    fn skipped(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.result, CheckResult::Skipped(_))).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let mut lines = vec![cells(["CHECK", "WHERE", "RESULT", "SEEN, AND WHAT TO DO"])];
        for Row { what, place, result } in &self.rows {
            match result {
                CheckResult::Fine(seen) => lines.push(cells([what, place, "ok", seen])),
                CheckResult::Skipped(why) => lines.push(cells([what, place, "skipped", why])),
                CheckResult::Failed { seen, advice } => {
                    lines.push(cells([what, place, "FAILED", seen]));
                    lines.push(cells(["", "", "", &format!("-> {advice}")]));
                }
            }
        }
        for line in aligned(&lines) {
            writeln!(formatter, "{line}")?;
        }
        let (failures, skipped) = (self.failures(), self.skipped());
        let tried = self.rows.len() - skipped;
        match failures {
            0 => write!(formatter, "\nall {tried} checks are ok")?,
            failures => write!(formatter, "\n{failures} of {tried} checks FAILED")?,
        }
        match skipped {
            0 => writeln!(formatter),
            skipped => writeln!(formatter, ", {skipped} skipped"),
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
