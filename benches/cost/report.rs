//! The table and its JSON.

use serde_json::{Value, json};

/// One figure, and what it should be.
struct Figure {
    section: String,
    what: &'static str,
    value: f64,
    goal: Option<f64>,
}

/// All figures, in the order they were taken; each is printed at once, for some take minutes.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// A figure without a goal.
    pub(crate) fn add(&mut self, section: &str, what: &'static str, value: f64) {
        self.put(section, what, value, None);
    }

    /// A figure that should be no more than `goal`, where there is one.
    pub(crate) fn add_with_goal(
        &mut self,
        section: &str,
        what: &'static str,
        value: f64,
        goal: impl Into<Option<f64>>,
    ) {
        self.put(section, what, value, goal.into());
    }

    fn put(&mut self, section: &str, what: &'static str, value: f64, goal: Option<f64>) {
        if self.figures.is_empty() {
            println!("{:<28} {:<52} {:>10}  {:>8}", "case", "figure", "measured", "goal");
        }
        let (limit, verdict) = match goal {
            Some(goal) => (format!("{goal}"), if value <= goal { "met" } else { "MISSED" }),
            None => (String::new(), ""),
        };
        println!("{section:<28} {what:<52} {value:>10.3}  {limit:>8}  {verdict}");
        self.figures.push(Figure { section: section.to_owned(), what, value, goal });
    }

    /// The JSON, on one line.
    pub(crate) fn print(&self) {
        let figure = |figure: &Figure| {
            let Figure { section, what, value, goal } = figure;
            json!({"case": section, "figure": what, "measured": value, "goal": goal,
                   "met": goal.map(|goal| *value <= goal)})
        };
        println!("{}", Value::Array(self.figures.iter().map(figure).collect()));
    }
}
