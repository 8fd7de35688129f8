//! The page and the description of the API, embedded in the program.

use super::etag;
use crate::http::server::{Body, Request, Response};

/// Own files only, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const YAML: &str = "application/yaml";

/// Path, content type and content of each file. They refer to each other by relative paths.
const ASSETS: [(&str, &str, &str); 6] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/page.css", CSS, include_str!("../page/page.css")),
    ("/page.js", SCRIPT, include_str!("../page/page.js")),
    ("/words.js", SCRIPT, include_str!("../page/words.js")),
    ("/docs", HTML, include_str!("../page/docs.html")),
    ("/openapi.yaml", YAML, include_str!("../page/openapi.yaml")),
];

/// The file at the request's path, or 304 if the client has it; none if there is no such file.
pub(super) fn answer(request: &Request) -> Option<Response> {
    let (_, content_type, content) = ASSETS.iter().find(|(path, ..)| *path == request.path)?;
    let tag = etag::of_content(content.as_bytes());
    let known = request.if_none_match.as_deref().is_some_and(|list| etag::matches(list, &tag));
    let response = match known {
        true => Response::new(304, Body::Empty),
        false => {
            Response::new(200, Body::Static(content.as_bytes())).with("Content-Type", *content_type)
        }
    };
    let response = response.with("ETag", tag).with("Cache-Control", "no-cache");
    Some(response.with("Content-Security-Policy", POLICY))
}
