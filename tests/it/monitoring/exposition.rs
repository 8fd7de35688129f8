//! A reader of the text exposition format 0.0.4 that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};

/// Name and labels, by which a series is identified.
pub(crate) type Labels = BTreeMap<String, String>;

/// What a scrape brought.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Families, each with its type.
    pub(crate) types: BTreeMap<String, String>,
    /// Samples by name and labels.
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Reads it all.
    pub(crate) fn of(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut read = Exposition::default();
        let (mut helped, mut present) = (BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(!words.is_empty() && helped.insert(name), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(name), "{line}: without help");
                let twice = read.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(twice, None, "{line}");
                name.clone_into(&mut present);
            } else {
                let (name, labels, value) = sample(line);
                let kind = &read.types[&present];
                let rest = name.strip_prefix(&present).unwrap_or_else(|| panic!("{line}: stray"));
                let parts: &[&str] = match kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(parts.contains(&rest), "{line}: in {present}");
                assert_eq!(labels.contains_key("le"), rest == "_bucket", "{line}");
                let twice = read.samples.insert((name, labels), value);
                assert_eq!(twice, None, "{line}: twice");
            }
        }
        read.check_histograms();
        read
    }

    /// The value of one series.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.samples.get(&(name.to_owned(), labels.collect())).copied()
    }

    fn check_histograms(&self) {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut histograms: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((name, labels), value) in &self.samples {
                if *name == format!("{family}_bucket") {
                    let mut labels = labels.clone();
                    let limit = number(&labels.remove("le").unwrap());
                    histograms.entry(labels).or_default().push((limit, *value));
                }
            }
            for (labels, mut buckets) in histograms {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{family}");
                let last = buckets.last().unwrap();
                let count = self.samples[&(format!("{family}_count"), labels.clone())];
                assert_eq!((last.0, last.1), (f64::INFINITY, count), "{family} {labels:?}");
                assert!(self.samples[&(format!("{family}_sum"), labels)] >= 0.0, "{family}");
            }
        }
    }
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        text => text.parse().unwrap_or_else(|_| panic!("{text:?} is no number")),
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Name, labels and value of one line.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line:?} is no sample"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let mut unescaped = String::new();
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next().unwrap_or_else(|| panic!("{line}: a label has no end")) {
                    (at, '"') => break at + 1,
                    (_, '\\') => unescaped.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        plain @ ('\\' | '"') => plain,
                        other => panic!("{line}: \\{other}"),
                    }),
                    (_, plain) => unescaped.push(plain),
                }
            };
            assert_eq!(labels.insert(label.to_owned(), unescaped), None, "{line}");
            rest = &value[end..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("{line}: the labels have no end"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}: no value"));
    (name.to_owned(), labels, number(value))
}
