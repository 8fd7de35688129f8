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
    List(Vec<Rc<Node>>),
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
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => list.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Value::List(list))
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

/// A map and where it is, for messages.
pub(super) struct Map<'a> {
    /// Its key, after those of the maps around it.
    path: String,
    node: &'a Node,
}

impl<'a> Map<'a> {
    /// The whole document.
    pub(super) fn of(node: &'a Node) -> Map<'a> {
        Map { path: String::new(), node }
    }

    /// The value of a key; none if it is absent or empty.
    pub(super) fn get(&self, key: &str) -> Result<Option<&'a Node>, String> {
        let Value::Map(map) = &self.node.value else {
            return Err(format!("{} is no map of keys, {}", self.shown(), self.line()));
        };
        Ok(map.get(key).map(|node| &**node).filter(|node| match &node.value {
            Value::Null => false,
            Value::Text(text) => !text.expose().trim().is_empty(),
            Value::List(_) | Value::Map(_) => true,
        }))
    }

    pub(super) fn map(&self, key: &str) -> Result<Map<'a>, String> {
        let node = self.get(key)?.ok_or_else(|| self.lacks(key))?;
        let map = Map { path: self.path_of(key), node };
        map.get("").map(|_| map)
    }

    /// The maps of a list; none if it is absent or empty.
    pub(super) fn maps(&self, key: &str) -> Result<Vec<Map<'a>>, String> {
        let Some(node) = self.get(key)? else { return Ok(Vec::new()) };
        let Value::List(list) = &node.value else { return Err(self.problem(key, "is no list")) };
        let maps = list.iter().map(|node| {
            let map = Map { path: self.path_of(key), node };
            map.get("").map(|_| map)
        });
        maps.collect()
    }

    /// As it is written.
    pub(super) fn secret(&self, key: &str) -> Result<Option<Secret>, String> {
        match self.get(key)?.map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.problem(key, "is no text")),
        }
    }

    /// Without spaces around it.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        let text = self.secret(key)?.map(|text| text.expose().trim().to_owned());
        match text {
            Some(text) if text.contains(char::is_control) => {
                Err(self.problem(key, "has a control character"))
            }
            text => Ok(text),
        }
    }

    pub(super) fn refuse(&self, key: &str, instead: &str) -> Result<(), String> {
        match self.get(key)? {
            None => Ok(()),
            Some(_) => Err(self.problem(key, &format!("isn't read: {instead}"))),
        }
    }

    fn path_of(&self, key: &str) -> String {
        let separator = if self.path.is_empty() { "" } else { "." };
        format!("{}{separator}{key}", self.path)
    }

    fn shown(&self) -> &str {
        if self.path.is_empty() { "the document" } else { &self.path }
    }

    fn line(&self) -> String {
        format!("line {}", self.node.line)
    }

    /// What is said of the map itself.
    pub(super) fn is(&self, what: &str) -> String {
        format!("{} ({}) {what}", self.shown(), self.line())
    }

    pub(super) fn lacks(&self, key: &str) -> String {
        format!("{} is missing, {}", self.path_of(key), self.line())
    }

    pub(super) fn problem(&self, key: &str, what: &str) -> String {
        let line = self.get(key).ok().flatten().map_or(self.node.line, |node| node.line);
        format!("{} (line {line}) {what}", self.path_of(key))
    }
}
