//! The page and the description of the API, embedded in the program.

use super::etag;
use crate::http::server::{Body, Request, Response};

/// Own files only, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// A file of the program.
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const ASSETS: &[Asset] = &[
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        content: include_str!("../page/index.html"),
    },
    Asset {
        path: "/page.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../page/page.css"),
    },
    Asset {
        path: "/page.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("../page/page.js"),
    },
    Asset {
        path: "/words.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("../page/words.js"),
    },
    Asset {
        path: "/docs",
        content_type: "text/html; charset=utf-8",
        content: include_str!("../page/docs.html"),
    },
    Asset {
        path: "/openapi.yaml",
        content_type: "application/yaml",
        content: include_str!("../page/openapi.yaml"),
    },
];

impl Asset {
    /// The file at a path; there are no others.
    pub(super) fn at(path: &str) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.path == path)
    }

    /// The file, or 304 if the client has it.
    pub(super) fn answer(&self, request: &Request) -> Response {
        let tag = etag::of_content(self.content.as_bytes());
        let known = request.if_none_match.as_deref().is_some_and(|list| etag::matches(list, &tag));
        let response = match known {
            true => Response::new(304, Body::Empty),
            false => Response::new(200, Body::Static(self.content.as_bytes()))
                .with("Content-Type", self.content_type),
        };
        response
            .with("ETag", tag)
            .with("Cache-Control", "no-cache")
            .with("Content-Security-Policy", POLICY)
    }
}
