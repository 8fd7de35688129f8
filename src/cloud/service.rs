//! How Neutron and Nova are asked: with a token, and lists page by page.
//!
//! What an answer means is the business of the two; here are only the habits they share.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer;
use super::error::{CloudError, Step};
use crate::http::client::{Answer, Client, Request, Service};
use crate::http::url::{path_of, query_value};
use crate::secret::{Secret, Secrets};

/// A list that never ends is a fault of the server.
const MAX_PAGES: usize = 10_000;
/// How often a list starts over because its marker vanished between two pages.
const MAX_RESTARTS: usize = 3;

/// An endpoint of a project's catalog, and the project's token. Clones share all of it.
#[derive(Clone)]
pub(crate) struct TokenService {
    /// Which service it is, for messages and metrics.
    pub(super) service: Service,
    pub(super) client: Arc<Client>,
    /// The URL up to the version, without a slash at its end.
    pub(crate) endpoint: Arc<str>,
    pub(super) token: Arc<Secret>,
    pub(super) project_id: Arc<str>,
}

/// A link of a paged list.
#[derive(Deserialize)]
struct Link {
    rel: String,
    href: String,
}

/// The marker of the next page; none at the end of the list. Only the marker is taken: the link's
/// host may be one that only the service's proxy knows, and the token must not go there. What is
/// beyond a link without a marker is unknown, so the list isn't whole.
fn next_marker(links: Option<&[Link]>) -> Result<Option<String>, &'static str> {
    let next = links.and_then(|links| links.iter().find(|link| link.rel == "next"));
    let no_marker = "the link to the list's next page has no marker";
    next.map(|link| marker_of(&link.href).ok_or(no_marker)).transpose()
}

fn marker_of(href: &str) -> Option<String> {
    let query = href.split_once('?')?.1;
    let marker = query.split('&').find_map(|pair| pair.strip_prefix("marker="))?;
    let marker = percent_encoding::percent_decode_str(marker).decode_utf8().ok()?;
    (!marker.is_empty()).then(|| marker.into_owned())
}

impl TokenService {
    /// The answer to a GET of this path and query below the endpoint, whatever its status.
    pub(super) fn get(&self, path: &str, step: Step) -> Result<Answer, CloudError> {
        let url = format!("{}{path}", self.endpoint);
        let request =
            Request::get(self.service, &url).secret_header("x-auth-token", "", &self.token);
        self.client.call(&request).map_err(|error| CloudError::transport(step, &error))
    }

    /// Good answers that together say something that can't be used.
    pub(super) fn wrong(&self, path: &str, step: Step, what: &str) -> CloudError {
        let url = format!("{}{path}", self.endpoint);
        let message = format!("{} GET {}: {what}", self.service, path_of(&url));
        CloudError::new(step, Secrets::of([&*self.token]).redacted(&message))
    }

    /// Asks for a list page by page; `keep` says what is kept of a row. A marker whose row vanished
    /// is a 404 (Neutron) or 400 (Nova) that doesn't mean "nothing there": the list starts over, from
    /// nothing, for the rows that were read before may be gone as well.
    pub(super) fn list<R: DeserializeOwned, T>(
        &self,
        path: &str,
        step: Step,
        mut keep: impl FnMut(R, &Answer) -> Result<Option<T>, CloudError>,
    ) -> Result<Vec<T>, CloudError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let collection = path.split(['/', '?']).nth(1).unwrap_or_default();
        let (mut kept, mut restarts) = (Vec::new(), 0);
        let mut marker: Option<String> = None;
        // Since the list began, or started over.
        let mut seen: HashSet<String> = HashSet::new();
        for _ in 0..MAX_PAGES {
            let page = match &marker {
                None => path.to_owned(),
                Some(marker) => format!("{path}{separator}marker={}", query_value(marker)),
            };
            let answer = self.get(&page, step)?;
            if marker.is_some() && matches!(answer.status, 400 | 404) && restarts < MAX_RESTARTS {
                restarts += 1;
                marker = None;
                kept.clear();
                seen.clear();
                continue;
            }
            let Page { rows, links } = answer::read(&answer, step)?;
            for row in rows.ok_or_else(|| missing(&answer, step, collection))? {
                kept.extend(keep(row, &answer)?);
            }
            let next = next_marker(links.as_deref()).map_err(|what| self.wrong(path, step, what));
            let Some(next) = next? else { return Ok(kept) };
            if !seen.insert(next.clone()) {
                break;
            }
            marker = Some(next);
        }
        Err(self.wrong(path, step, "the list's pages don't end"))
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<R> {
    #[serde(alias = "ports", alias = "servers", alias = "subnets")]
    rows: Option<Vec<R>>,
    #[serde(alias = "ports_links", alias = "servers_links", alias = "subnets_links")]
    links: Option<Vec<Link>>,
}

/// An answer about one thing.
#[derive(Deserialize)]
struct Body<T> {
    #[serde(alias = "metadata", alias = "network", alias = "server", alias = "subnet")]
    content: Option<T>,
}

/// Reads an answer about one thing, which is under this key.
pub(super) fn content<T: DeserializeOwned>(
    answer: &Answer,
    step: Step,
    key: &str,
) -> Result<T, CloudError> {
    let Body { content } = answer::read(answer, step)?;
    content.ok_or_else(|| missing(answer, step, key))
}

fn missing(answer: &Answer, step: Step, key: &str) -> CloudError {
    answer::wrong(answer, step, &format!("the answer can't be read: missing field `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::{Link, next_marker};

    fn links(links: &[(&str, &str)]) -> Vec<Link> {
        let link =
            |(rel, href): &(&str, &str)| Link { rel: (*rel).to_owned(), href: (*href).to_owned() };
        links.iter().map(link).collect()
    }

    #[test]
    fn only_the_marker_of_a_next_link_is_used() {
        let page = links(&[
            ("previous", "http://h/ports?marker=first&page_reverse=True"),
            ("next", "http://internal:1/v2.0/ports?limit=2&marker=a%2Fb&x=1"),
        ]);
        assert_eq!(next_marker(Some(&page)), Ok(Some("a/b".to_owned())));
        assert_eq!(next_marker(Some(&links(&[("previous", "http://h?marker=x")]))), Ok(None));
        assert_eq!(next_marker(None), Ok(None));
        assert!(next_marker(Some(&links(&[("next", "http://h?limit=2")]))).is_err());
    }
}
