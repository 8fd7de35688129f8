//! How Neutron and Nova are asked: with a token, and lists page by page.
//!
//! What an answer means is the business of the two; here are only the habits they share.

use serde::Deserialize;

use super::answer::Question;
use super::error::{CloudError, Step};
use crate::http::client::{Answer, Client, Request, Service};
use crate::http::url::{path_of, query_value};
use crate::secret::Secret;

/// A list that never ends is a fault of the server.
const MAX_PAGES: usize = 10_000;
/// How often a list starts over because its marker vanished between two pages.
const MAX_RESTARTS: usize = 3;

/// A service that takes our token.
#[derive(Clone, Copy)]
pub(super) struct TokenService<'a> {
    /// Which one, for messages and metrics.
    pub(super) service: Service,
    /// The client.
    pub(super) client: &'a Client,
    /// The token.
    pub(super) token: &'a Secret,
}

/// A link of a paged list.
#[derive(Deserialize)]
pub(super) struct Link {
    rel: String,
    href: String,
}

/// The marker of the next page. Only the marker is taken: the link's host may be one that only the
/// service's proxy knows, and the token must not go there.
pub(super) fn next_marker(links: Option<&[Link]>) -> Option<String> {
    let next = links?.iter().find(|link| link.rel == "next")?;
    let query = next.href.split_once('?')?.1;
    let marker = query.split('&').find_map(|pair| pair.strip_prefix("marker="))?;
    let marker = percent_encoding::percent_decode_str(marker).decode_utf8().ok()?;
    (!marker.is_empty()).then(|| marker.into_owned())
}

impl TokenService<'_> {
    /// The answer, whatever its status.
    pub(super) fn get(&self, url: &str, step: Step) -> Result<Answer, CloudError> {
        let request = Request::get(self.service, url).secret_header("x-auth-token", "", self.token);
        let failed = |error| CloudError::transport(step, &error).without(&[self.token]);
        self.client.call(&request).map_err(failed)
    }

    /// A failure whose message holds parts of an answer.
    pub(super) fn failed(&self, step: Step, message: String) -> CloudError {
        CloudError::new(step, message).without(&[self.token])
    }

    /// What a good answer says; any other is an error.
    pub(super) fn read<'a, T: Deserialize<'a>>(
        &self,
        url: &str,
        step: Step,
        answer: &'a Answer,
    ) -> Result<T, CloudError> {
        let question = Question {
            service: self.service,
            method: "GET",
            path: path_of(url),
            step,
            secrets: &[self.token],
        };
        match answer.status {
            200 => question.read(&answer.body),
            _ => Err(question.refused(answer)),
        }
    }

    /// Asks for a list page by page; `take` reads one and gives the next one's marker. A marker whose row vanished
    /// is a 404 (Neutron) or 400 (Nova) that doesn't mean "nothing there": the list starts over,
    /// and `take` must not mind seeing rows twice.
    pub(super) fn pages(
        &self,
        url: &str,
        step: Step,
        mut take: impl FnMut(&Answer) -> Result<Option<String>, CloudError>,
    ) -> Result<(), CloudError> {
        let separator = if url.contains('?') { '&' } else { '?' };
        let (mut marker, mut restarts): (Option<String>, usize) = (None, 0);
        for _ in 0..MAX_PAGES {
            let page_url = match &marker {
                None => url.to_owned(),
                Some(marker) => format!("{url}{separator}marker={}", query_value(marker)),
            };
            let answer = self.get(&page_url, step)?;
            if marker.is_some() && matches!(answer.status, 400 | 404) && restarts < MAX_RESTARTS {
                restarts += 1;
                marker = None;
                continue;
            }
            let next = take(&answer).map_err(|error| error.without(&[self.token]))?;
            match next {
                None => return Ok(()),
                Some(next) if marker.as_deref() == Some(&next) => break,
                Some(next) => marker = Some(next),
            }
        }
        let (service, path) = (self.service, path_of(url));
        let message = format!("{service} GET {path}: the list's pages don't end");
        Err(CloudError::new(step, message))
    }
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
        assert_eq!(next_marker(Some(&page)).as_deref(), Some("a/b"));
        assert_eq!(next_marker(Some(&links(&[("previous", "http://h?marker=x")]))), None);
        assert_eq!(next_marker(None), None);
    }
}
