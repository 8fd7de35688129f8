//! YAML as a tree of texts with their lines. Pure.
//!
//! The text is from a Secret, so an error has a line and never a word of it. Texts are as written, whatever
//! their type in YAML would be: a password of digits is a password.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::secret::Secret;

/// How deep collections may be nested.
const MAX_DEPTH: usize = 32;

/// A value, and the line at which it begins; the first is 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a YAML text is made of.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Text(Secret),
    List,
    /// By key.
    Map(BTreeMap<String, Rc<Node>>),
}

/// The first document of a text.
///
/// # Errors
/// Which line can't be read, and why, in words that are none of the text's.
pub(super) fn read(text: &str) -> Result<Rc<Node>, String> {
    let mut reader =
        Reader { text, parser: Parser::new_from_str(text), anchors: HashMap::new(), line: 1 };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(Rc::new(Node { line: 1, value: Value::Null })),
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (event, span) => return reader.node(event, span, 0),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// What an alias stands for, shared with it.
    anchors: HashMap<usize, Rc<Node>>,
    /// Of the last event.
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok((event, span))
            }
            Some(Err(error)) => Err(self.no_yaml(error.marker().line())),
            None => Err(self.no_yaml(self.line)),
        }
    }

    fn no_yaml(&self, line: usize) -> String {
        let lines = self.text.lines().enumerate().map(|(at, text)| (at + 1, text));
        let mut nearby = lines.filter(|(at, _)| at.abs_diff(line) <= 1);
        let is_by_tab = |text: &str| text[..text.len() - text.trim_start().len()].contains('\t');
        // The parser may notice it at the line before or after.
        match nearby.find(|(_, text)| is_by_tab(text)) {
            Some((line, _)) => {
                format!("line {line} is indented with a tab; YAML takes spaces only")
            }
            None => format!("line {line} is no YAML"),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, String> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(format!("line {line} is nested too deeply"));
        }
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).map(Rc::clone);
                return known.ok_or_else(|| format!("line {line} has an alias of itself"));
            }
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _) => {
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => drop(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Value::List)
            }
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            _ => return Err(self.no_yaml(line)),
        };
        let node = Rc::new(Node { line, value });
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Result<BTreeMap<String, Rc<Node>>, String> {
        let mut map = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(map);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let line = key.line;
            let Value::Text(key) = &key.value else { continue };
            if key.expose() == "<<" {
                return Err(format!("line {line} merges keys by <<, which isn't supported"));
            }
            // Programs differ in which one they take.
            if map.insert(key.expose().to_owned(), value).is_some() {
                return Err(format!("line {line} has a key that its map has already"));
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Text(Secret::new(text.to_owned())),
    }
}
