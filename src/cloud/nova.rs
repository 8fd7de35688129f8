//! Nova: the names of the VMs, by the cheapest of the ways it offers
//! (docs/behaviour.md#node-names).
//!
//! There is no way to ask for several servers by id: `uuid=` is ignored for members and takes the
//! last for admins. What is left are one request for each VM, or a list of the whole project.
//! Which is cheaper depends on how many VMs are wanted and how many servers the project has, and
//! that is measured: every list tells the size of the project.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::answer;
use super::error::{CloudError, Step};
use super::neutron::same;
use super::service::{TokenService, content};
use crate::http::client::Answer;
use crate::http::url::path_segment;
use crate::threads::{Task, lock, side_by_side};

/// Requests one pass may have open at Nova at the same time.
const SIDE_BY_SIDE: usize = 4;

/// Costs to the service in milliseconds, measured on Nova 26 (Zed): of one server's details,
const SHOW_MS: usize = 125;
/// of one server's metadata alone,
const METADATA_MS: usize = 30;
/// per server of a list with details,
const DETAIL_MS: usize = 5;
/// and per server of a list of names.
const BRIEF_MS: usize = 1;

/// Nova. Clones share all of it.
#[derive(Clone)]
pub(crate) struct Nova {
    pub(crate) api: TokenService,
    /// Metadata key that holds the node name.
    pub(super) metadata_key: Option<Arc<str>>,
    /// How many servers the project had when they were listed last.
    pub(super) project_size: Arc<Mutex<Option<usize>>>,
}

/// What Nova says of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// Its node name; none if it has neither that metadata nor a name.
    Known(Option<String>),
    /// Nova has no such server in the project.
    Unknown,
    /// Nova couldn't say. That is not "no name".
    Failed(CloudError),
    /// The catalog has no compute endpoint.
    NoEndpoint,
}

/// What Nova says of VMs, by their ids.
pub(crate) type ServerNames = HashMap<String, ServerName>;

/// One way to learn the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `GET /servers`: ids and names of the project.
    Brief,
    /// `GET /servers/detail`: with metadata.
    Detail,
    /// `GET /servers/{id}` for each.
    Show,
    /// `GET /servers/{id}/metadata` for each, and its details where the key is missing.
    Metadata,
}

/// The cheapest way for so many VMs in a project of that size, as far as it is known.
fn cheapest(vms: usize, project_size: Option<usize>, with_metadata: bool) -> Way {
    if with_metadata {
        let is_cheaper = match project_size {
            Some(size) => vms * METADATA_MS < size * DETAIL_MS,
            // Only a list tells the size, so that the next one is chosen by it.
            None => vms <= 1,
        };
        if is_cheaper { Way::Metadata } else { Way::Detail }
    } else {
        let brief = match project_size {
            Some(size) => size * BRIEF_MS,
            // Unknown: a project is taken to be some ten times the VMs asked for.
            None => vms * 10 * BRIEF_MS,
        };
        if vms <= 1 || vms * SHOW_MS < brief { Way::Show } else { Way::Brief }
    }
}

/// Of a server whose cell is down Nova tells little more than the id.
#[derive(Deserialize)]
struct Server {
    id: String,
    #[serde(default)]
    name: Option<String>,
    /// Lists without details don't say it.
    #[serde(default)]
    tenant_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

type Metadata = BTreeMap<String, serde_json::Value>;

impl Nova {
    /// The names of these VMs (lower-case ids). Never fails as a whole: what couldn't be learned
    /// is said of each VM.
    pub(crate) fn names(&self, vm_ids: &[String]) -> ServerNames {
        let size = *lock(&self.project_size);
        match cheapest(vm_ids.len(), size, self.metadata_key.is_some()) {
            Way::Brief => self.names_by_list("/servers", vm_ids),
            Way::Detail => self.names_by_list("/servers/detail", vm_ids),
            Way::Show => self.one_by_one(vm_ids, Nova::show),
            Way::Metadata => self.names_by_metadata(vm_ids),
        }
    }

    /// A list shows the project's servers; one that isn't in it may still exist, so each of those
    /// is asked for by its id.
    fn names_by_list(&self, path: &str, vm_ids: &[String]) -> ServerNames {
        let mut names = match self.list(path, &vm_ids.iter().collect()) {
            Ok(names) => names,
            Err(error) => {
                let failed = |id: &String| (id.clone(), ServerName::Failed(error.clone()));
                return vm_ids.iter().map(failed).collect();
            }
        };
        let absent: Vec<String> =
            vm_ids.iter().filter(|id| !names.contains_key(*id)).cloned().collect();
        names.extend(self.one_by_one(&absent, Nova::show));
        names
    }

    fn list(&self, path: &str, wanted: &BTreeSet<&String>) -> Result<ServerNames, CloudError> {
        let keep = |server: Server, _: &Answer| {
            let id = server.id.to_ascii_lowercase();
            // A row that says too little counts as none: its server is asked for by its id.
            let is_meant = wanted.contains(&id) && self.is_in_project(&server);
            let name = is_meant.then(|| self.node_name(&server).ok()).flatten();
            Ok(Some((id, name.map(ServerName::Known))))
        };
        let rows = self.api.list(path, Step::Nova, keep)?.into_iter();
        let rows: HashMap<String, Option<ServerName>> = rows.collect();
        *lock(&self.project_size) = Some(rows.len());
        Ok(rows.into_iter().filter_map(|(id, name)| Some((id, name?))).collect())
    }

    /// Metadata doesn't say whose server it is, and an admin is shown that of every project. So
    /// where VMs go by one name each of them is looked at: a foreign one must not cost one of the
    /// project its name.
    fn names_by_metadata(&self, vm_ids: &[String]) -> ServerNames {
        let mut names = self.one_by_one(vm_ids, Nova::metadata_or_show);
        let mut by_name: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        for (id, name) in &names {
            if let ServerName::Known(Some(name)) = name {
                by_name.entry(name).or_default().push(id);
            }
        }
        let duplicates = by_name.into_values().filter(|ids| ids.len() > 1);
        let duplicates: Vec<String> = duplicates.flatten().cloned().collect();
        names.extend(self.one_by_one(&duplicates, Nova::show));
        names
    }

    fn one_by_one(
        &self,
        vm_ids: &[String],
        ask: fn(&Nova, &str) -> Result<ServerName, CloudError>,
    ) -> ServerNames {
        let task = |id: &String| {
            let id = id.clone();
            Box::new(move || {
                let name = ask(self, &id).unwrap_or_else(ServerName::Failed);
                (id, name)
            }) as Task<'_, (String, ServerName)>
        };
        side_by_side(SIDE_BY_SIDE, vm_ids.iter().map(task).collect()).into_iter().collect()
    }

    fn show(&self, id: &str) -> Result<ServerName, CloudError> {
        let answer = self.api.get(&format!("/servers/{}", path_segment(id)), Step::Nova)?;
        if is_item_not_found(&answer) {
            return Ok(ServerName::Unknown);
        }
        let server: Server = content(&answer, Step::Nova, "server")?;
        if !same(&server.id, id) {
            let what = format!("answered with server {}", server.id);
            return Err(answer::wrong(&answer, Step::Nova, &what));
        }
        if !self.is_in_project(&server) {
            return Ok(ServerName::Unknown);
        }
        let name = self.node_name(&server).map_err(|key| {
            let what = format!("the answer has no `{key}` (is the server's cell down?)");
            answer::wrong(&answer, Step::Nova, &what)
        })?;
        Ok(ServerName::Known(name))
    }

    fn metadata_or_show(&self, id: &str) -> Result<ServerName, CloudError> {
        let path = format!("/servers/{}/metadata", path_segment(id));
        let answer = self.api.get(&path, Step::Nova)?;
        if is_item_not_found(&answer) {
            return Ok(ServerName::Unknown);
        }
        match self.name_in(&content(&answer, Step::Nova, "metadata")?) {
            Some(name) => Ok(ServerName::Known(Some(name))),
            None => self.show(id),
        }
    }

    /// A server of another project counts as unknown: an admin is shown it, a member gets a 404, and
    /// what a node is called mustn't depend on whose token asks. Where the key is absent, Nova's own
    /// limits have to do.
    fn is_in_project(&self, server: &Server) -> bool {
        server.tenant_id.as_deref().is_none_or(|owner| same(owner, &self.api.project_id))
    }

    /// Metadata before the server's name; blanks count as none. An error is the key that decides on
    /// the name and is absent, which is not "no name".
    fn node_name(&self, server: &Server) -> Result<Option<String>, &'static str> {
        if self.metadata_key.is_some() {
            let metadata = server.metadata.as_ref().ok_or("metadata")?;
            if let Some(name) = self.name_in(metadata) {
                return Ok(Some(name));
            }
        }
        server.name.as_deref().map(trimmed).ok_or("name")
    }

    fn name_in(&self, metadata: &Metadata) -> Option<String> {
        metadata.get(self.metadata_key.as_deref()?)?.as_str().and_then(trimmed)
    }

    /// Does it answer this token at all? Reads one row of the project's servers.
    pub(crate) fn answers(&self) -> Result<(), CloudError> {
        let answer = self.api.get("/servers?limit=1", Step::Nova)?;
        answer::read::<serde_json::Value>(&answer, Step::Nova).map(drop)
    }
}

fn trimmed(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A 404 of Nova's own, not of a mistyped path or of something in front of it.
fn is_item_not_found(answer: &Answer) -> bool {
    let body = || serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    answer.status == 404 && body().is_some_and(|body| body.get("itemNotFound").is_some())
}

#[cfg(test)]
mod tests {
    use super::{Way, cheapest};

    #[test]
    fn a_list_wins_until_the_project_is_large_for_the_vms_asked_for() {
        assert_eq!(cheapest(1, None, false), Way::Show);
        assert_eq!(cheapest(3, None, false), Way::Brief);
        assert_eq!(cheapest(3, Some(300), false), Way::Brief);
        assert_eq!(cheapest(3, Some(1_000), false), Way::Show);
        assert_eq!(cheapest(30, Some(1_000), false), Way::Brief);
    }

    #[test]
    fn with_a_metadata_key_the_details_must_be_worth_it() {
        assert_eq!(cheapest(1, None, true), Way::Metadata);
        assert_eq!(cheapest(3, None, true), Way::Detail);
        assert_eq!(cheapest(3, Some(10), true), Way::Detail);
        assert_eq!(cheapest(3, Some(300), true), Way::Metadata);
        assert_eq!(cheapest(60, Some(300), true), Way::Detail);
    }
}
