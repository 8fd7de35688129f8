//! The verbs of the API: a request for a resource in, an answer out.

use super::apply::Writer;
use super::kinds::ResourceKind;
use super::paging::{self, ListOptions};
use super::presenter::{Presenter, asks_for_table};
use super::rules;
use super::selectors::Selector;
use super::status::{self, Cause, Failure};
use super::store::{CollectionId, State};
use super::watch::{self, Cursor, OpenWatch};
use super::writes::{Deleted, Target};
use super::{Route, Shared, answer, events, identity, patch};
use crate::wire::{Body, Framing, Request, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a watch runs that asks for no limit; the real server takes 30 to 60 minutes.
const WATCH_DEFAULT: Duration = Duration::from_secs(1800);
const CREATE_TYPES: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const APPLY: &str = "application/apply-patch+yaml";

/// A request for a resource that is served, with what the header fields say about it.
pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    pub(super) route: &'a Route<'a>,
    pub(super) collection: CollectionId,
    /// As the client sees it; Events of the newer API are stored under core/v1.
    pub(super) kind: ResourceKind,
    pub(super) presenter: Presenter,
}

impl<'a> Call<'a> {
    /// Finds the collection and reads the `Accept` header.
    pub(super) fn new(
        state: &State,
        request: &'a Request,
        route: &'a Route<'a>,
    ) -> Result<Call<'a>, Failure> {
        let (collection, kind) = if route.group == "events.k8s.io" && route.plural == "events" {
            ((String::new(), "events".to_owned()), events::new_api())
        } else {
            let id = (route.group.to_owned(), route.plural.to_owned());
            let kind = state.collection(&id)?.kind.clone();
            (id, kind)
        };
        if kind.version != route.version
            || route.subresource.is_some_and(|name| name != "status" || !kind.status_subresource)
        {
            return Err(Failure::page_not_found());
        }
        let not_simulated = ["dryRun", "labelSelector", "sendInitialEvents"];
        if let Some(name) =
            not_simulated.into_iter().find(|name| request.query_value(name).is_some())
        {
            return Err(Failure::bad_request(format!("the simulated server has no {name}")));
        }
        let as_table = asks_for_table(request.header("Accept"))?;
        let now = crate::clock::timestamp().as_second();
        let presenter = Presenter { kind: kind.clone(), as_table, now };
        Ok(Call { request, route, collection, kind, presenter })
    }

    /// Answers all but watches.
    pub(super) fn respond(&self, state: &mut State) -> Result<Response, Failure> {
        let (response, verb) = match (self.request.method.as_str(), self.route.name) {
            ("GET", None) => return self.list(state),
            ("GET", Some(_)) => {
                let object = state.current(&self.target(state)?)?;
                return Ok(answer(200, &self.presenter.object(&object)));
            }
            ("POST", None) => (self.create(state)?, "create"),
            ("PUT", None) => return Err(Failure::bad_request("name must be provided")),
            ("PUT", Some(_)) => (self.replace(state)?, "update"),
            ("PATCH", Some(_)) => (self.patch(state)?, "patch"),
            ("DELETE", Some(_)) => (self.delete(state)?, "delete"),
            _ => return Err(Failure::method_not_allowed()),
        };
        *state.writes.entry((self.route.resource(), verb.to_owned())).or_default() += 1;
        Ok(response)
    }

    fn target(&self, state: &State) -> Result<Target, Failure> {
        Ok(Target {
            kind: state.collection(&self.collection)?.kind.clone(),
            collection: self.collection.clone(),
            namespace: self.route.namespace.unwrap_or_default().to_owned(),
            name: self.route.name.unwrap_or_default().to_owned(),
        })
    }

    fn writer(&self) -> Writer {
        let agent = self.request.header("User-Agent").unwrap_or("unknown");
        let manager = self
            .request
            .query_value("fieldManager")
            .unwrap_or_else(|| agent.split('/').next().unwrap_or_default());
        Writer {
            manager: manager.to_owned(),
            api_version: self.kind.api_version(),
            subresource: self.route.subresource.map(|_| "status"),
            time: identity::timestamp(),
            custom: self.kind.custom,
        }
    }

    fn selector(&self) -> Result<Selector, Failure> {
        Selector::read(&self.kind, self.request.query_value("fieldSelector"))
    }

    /// The parameters of a list.
    pub(super) fn list_options(&self) -> ListOptions<'a> {
        ListOptions {
            resource_version: self.request.query_value("resourceVersion"),
            version_match: self.request.query_value("resourceVersionMatch"),
            limit: self.request.query_value("limit").and_then(|limit| limit.parse().ok()),
            continue_token: self.request.query_value("continue"),
        }
    }

    fn list(&self, state: &mut State) -> Result<Response, Failure> {
        let wanted = self.list_options().wanted()?;
        let selector = self.selector()?;
        let stale = state.switches.stale_lists > 0;
        state.switches.stale_lists = state.switches.stale_lists.saturating_sub(1);
        let collection = state.collection(&self.collection)?;
        let page = state.list(collection, self.route.namespace, wanted, stale, |object| {
            selector.matches(object)
        })?;
        Ok(answer(200, &self.presenter.list(&page)))
    }

    /// The body of a create or replace, checked for its type and its unknown fields.
    fn body(&self) -> Result<(Value, Vec<String>), Failure> {
        let media_type = media_type(self.request);
        if media_type != "application/json" {
            return Err(Failure::unsupported_media_type(CREATE_TYPES));
        }
        let mut body = parse(&self.kind, &self.request.body)?;
        self.check_identity(&body)?;
        let dropped = rules::drop_unknown_fields(&self.kind, &mut body);
        if let (Some(field), Some("Strict")) =
            (dropped.first(), self.request.query_value("fieldValidation"))
        {
            return Err(Failure::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: unknown field \"{field}\"",
                self.kind.version,
                kind = self.kind.kind,
            )));
        }
        Ok((body, dropped))
    }

    /// The body must be of the kind, namespace and name of the path.
    fn check_identity(&self, body: &Value) -> Result<(), Failure> {
        let differs =
            |given: &Value, wanted: &str| given.as_str().is_some_and(|given| given != wanted);
        if differs(&body["apiVersion"], &self.kind.api_version()) {
            return Err(Failure::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({})",
                body["apiVersion"].as_str().unwrap_or_default(),
                self.kind.api_version()
            )));
        }
        if differs(&body["kind"], &self.kind.kind) || self.kind.custom && body["kind"].is_null() {
            return Err(Failure::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: no kind \"{}\" is registered for version \"{}\"",
                self.kind.kind,
                self.kind.version,
                self.kind.kind,
                body["kind"].as_str().unwrap_or_default(),
                self.kind.api_version()
            )));
        }
        if let Some(namespace) = self.route.namespace
            && differs(&body["metadata"]["namespace"], namespace)
        {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if let Some(name) = self.route.name
            && differs(&body["metadata"]["name"], name)
        {
            return Err(Failure::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                body["metadata"]["name"].as_str().unwrap_or_default()
            )));
        }
        Ok(())
    }

    fn is_new_event(&self) -> bool {
        self.kind.group == "events.k8s.io"
    }

    fn create(&self, state: &mut State) -> Result<Response, Failure> {
        let (mut body, dropped) = self.body()?;
        if self.is_new_event() {
            events::from_new_api(&mut body, true)?;
        }
        let mut target = self.target(state)?;
        target.name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if body["metadata"]["namespace"].is_null() && self.kind.namespaced {
            body["metadata"]["namespace"] = json!(target.namespace);
        }
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let object = state.create(target, body, &self.writer())?;
        Ok(with_warnings(answer(201, &self.presenter.object(&object)), &dropped))
    }

    fn replace(&self, state: &mut State) -> Result<Response, Failure> {
        let (mut body, dropped) = self.body()?;
        if self.is_new_event() {
            events::from_new_api(&mut body, false)?;
        }
        let target = self.target(state)?;
        let versionless =
            body["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty();
        let is_lease = self.kind.kind == "Lease";
        match state.current(&target) {
            Err(missing) if !is_lease => return Err(missing),
            // A Lease can be created by PUT.
            Err(_) if versionless => {
                let object = state.create(target, body, &self.writer())?;
                return Ok(answer(201, &self.presenter.object(&object)));
            }
            Err(_) => return Err(Failure::modified(&self.kind, &target.name)),
            Ok(_) => {}
        }
        // What can't be read is refused before it is compared.
        rules::normalise(&self.kind, &target.name, &mut body.clone())?;
        if versionless && (self.kind.custom || is_lease) {
            let message = "Invalid value: 0: must be specified for an update";
            let cause = Cause::new("FieldValueInvalid", message, "metadata.resourceVersion");
            return Err(Failure::invalid_update(&self.kind, &target.name, &[cause]));
        }
        let object = state.update(&target, body, &self.writer(), false)?;
        Ok(with_warnings(answer(200, &self.presenter.object(&object)), &dropped))
    }

    fn patch(&self, state: &mut State) -> Result<Response, Failure> {
        let media_type = media_type(self.request);
        if media_type == APPLY {
            return self.apply(state);
        }
        if media_type != "application/merge-patch+json" {
            return Err(Failure::unsupported_media_type(&format!(
                "application/json-patch+json, application/merge-patch+json, {APPLY}"
            )));
        }
        let target = self.target(state)?;
        let patch: Value = serde_json::from_slice(&self.request.body)
            .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
        let current = state.current(&target)?;
        let mut desired = Value::clone(&current);
        if self.is_new_event() {
            events::to_new_api(&mut desired);
        }
        patch::merge(&mut desired, &patch);
        let dropped = rules::drop_unknown_fields(&self.kind, &mut desired);
        if self.is_new_event() {
            events::from_new_api(&mut desired, false)?;
        }
        let object = state.update(&target, desired, &self.writer(), false)?;
        Ok(with_warnings(answer(200, &self.presenter.object(&object)), &dropped))
    }

    fn apply(&self, state: &mut State) -> Result<Response, Failure> {
        if self.request.query_value("fieldManager").unwrap_or_default().is_empty() {
            let message = "Required value: is required for apply patch";
            let cause = Cause::new("FieldValueRequired", message, "fieldManager");
            return Err(Failure::invalid_options("PatchOptions", cause));
        }
        let mut body: Value = serde_json::from_slice(&self.request.body).map_err(|error| {
            Failure::bad_request(format!("error decoding YAML: {error} (only JSON is simulated)"))
        })?;
        if body["kind"].is_null() || body["apiVersion"].is_null() {
            return Err(Failure::bad_request(format!(
                "invalid object type: {}/, Kind={}",
                body["apiVersion"].as_str().unwrap_or_default(),
                body["kind"].as_str().unwrap_or_default()
            )));
        }
        if !body["metadata"]["managedFields"].is_null() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        self.check_identity(&body)?;
        if self.is_new_event() {
            events::from_new_api(&mut body, false)?;
        }
        let force = self.request.query_value("force") == Some("true");
        let target = self.target(state)?;
        rules::check_declared(&self.kind, &target.namespace, &target.name, &body)?;
        let (object, created) = state.apply(target, &body, &self.writer(), force)?;
        Ok(answer(if created { 201 } else { 200 }, &self.presenter.object(&object)))
    }

    fn delete(&self, state: &mut State) -> Result<Response, Failure> {
        let options = if self.request.body.is_empty() {
            Value::Null
        } else {
            parse(&self.kind, &self.request.body)?
        };
        let target = self.target(state)?;
        match state.delete(&target, &options["preconditions"], &identity::timestamp())? {
            Deleted::Gone(uid) => Ok(answer(200, &status::deleted(&self.kind, &target.name, &uid))),
            Deleted::Terminating(object) => Ok(answer(200, &self.presenter.object(&object))),
        }
    }

    /// Opens a watch; the state is that of `shared`.
    pub(super) fn watch(
        &self,
        shared: &Arc<Shared>,
        state: &mut State,
    ) -> Result<Response, Failure> {
        let query = |name: &str| self.request.query_value(name).filter(|value| !value.is_empty());
        let selector = self.selector()?;
        let collection = state.collection(&self.collection)?;
        let version = query("resourceVersion").unwrap_or("0");
        let asked: u64 = version
            .parse()
            .map_err(|_| Failure::new(500, None, paging::not_a_number(version), None))?;
        let bookmarks = query("allowWatchBookmarks") == Some("true");
        let seconds = query("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let now = crate::clock::instant();
        let timeout =
            seconds.filter(|seconds| *seconds > 0).map_or(WATCH_DEFAULT, Duration::from_secs);
        let mut cursor = Cursor {
            collection: self.collection.clone(),
            namespace: self.route.namespace.map(str::to_owned),
            selector,
            presenter: self.presenter.clone(),
            deadline: now + timeout,
            next_bookmark: None,
            position: asked,
            initial: Vec::new(),
            injected: state.switches.injected.len(),
            cuts: state.switches.cuts,
            ends: state.switches.ends,
            incarnation: collection.incarnation,
            ends_at: None,
            columns_told: false,
        };
        if bookmarks {
            let interval = state.switches.bookmark_interval;
            cursor.next_bookmark = Some(cursor.bookmark_after(now, interval));
        }
        if asked == 0 {
            cursor.position = state.version;
            for (id, object) in &collection.objects {
                let here = cursor.namespace.as_ref().is_none_or(|namespace| *namespace == id.0);
                if here && cursor.selector.matches(object) {
                    let shown = cursor.presenter.event(object, !cursor.columns_told);
                    cursor.columns_told = true;
                    cursor.initial.extend(watch::line("ADDED", &shown));
                }
            }
        } else if asked < collection.oldest {
            cursor.initial = watch::expired(asked, collection.oldest);
            cursor.deadline = now;
            cursor.next_bookmark = None;
            cursor.position = u64::MAX;
        }
        let open = OpenWatch::new(shared, state);
        let mut response = answer(200, &Value::Null);
        response.framing = Framing::Chunked;
        response.body = Body::Stream(Box::new(move |writer| open.run(cursor, writer)));
        Ok(response)
    }
}

fn media_type(request: &Request) -> &str {
    let header = request.header("Content-Type").unwrap_or("application/json");
    header.split(';').next().unwrap_or_default().trim()
}

fn with_warnings(mut response: Response, dropped: &[String]) -> Response {
    for field in dropped {
        let text = format!("299 - \"unknown field \\\"{field}\\\"\"");
        response.headers.push(("Warning".to_owned(), text));
    }
    response
}

/// Reads JSON; what is none is answered in the words of Go's parser as far as the recordings show them.
fn parse(kind: &ResourceKind, body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let text = String::from_utf8_lossy(body);
        let why = match text.trim_start().strip_prefix('{').map(str::trim_start) {
            Some(rest) if !rest.starts_with(['"', '}']) && !rest.is_empty() => {
                let found = rest.chars().next().unwrap_or_default();
                format!("invalid character '{found}' looking for beginning of object key string")
            }
            _ => error.to_string(),
        };
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; \
             json parse error: {why} ({text})",
            kind.kind
        ))
    })
}
