//! Is the Kubernetes API there, may we do what we must, is the CRD installed, which objects are there?

use super::report::Row;
use super::rights::{self, Question};
use super::{SIDE_BY_SIDE, advice};
use crate::config::Config;
use crate::http::url::shown;
use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::review;
use crate::listing;
use crate::resources::{OPENSTACK_CONFIGS, OpenstackConfig};
use crate::threads::{Task, side_by_side};

const API: &str = "Kubernetes API";
const CRD: &str = "CRD";
const OBJECTS: &str = "OpenstackConfigs";
const LEASES: &str = "RBAC leases";

/// The answers that come side by side.
enum Part {
    Right(Question, Result<bool, KubeError>),
    Served(Result<bool, KubeError>),
    Objects(Option<String>, Result<Vec<OpenstackConfig>, KubeError>),
}

/// The rows, and the objects that could be read; none if none could.
pub(super) fn rows(
    config: &Config,
    client: &KubeClient,
) -> (Vec<Row>, Option<Vec<OpenstackConfig>>) {
    let address = shown(&config.kubernetes.api_url);
    let mut rows = match review::server_version(client) {
        Ok(version) => vec![Row::fine(API, address, version)],
        // Some clusters tell strangers no version; that is an answer too.
        Err(error) if error.status().is_forbidden() => {
            vec![Row::fine(API, address, "answers, without telling its version")]
        }
        Err(error) => {
            let advice = advice::of_kubernetes(&error);
            let why = "the Kubernetes API doesn't answer";
            return (
                vec![
                    Row::failed(API, address, error.to_string(), advice),
                    Row::skipped("RBAC", "", why),
                    Row::skipped(CRD, OPENSTACK_CONFIGS.plural, why),
                    Row::skipped(OBJECTS, "", why),
                ],
                None,
            );
        }
    };
    let (mut answers, mut served, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for part in ask(config, client) {
        match part {
            Part::Right(question, answer) => answers.push((question, answer)),
            Part::Served(answer) => served.push(crd_row(answer)),
            Part::Objects(scope, objects) => listed.push((scope, objects)),
        }
    }
    rows.extend(rights::rows(&answers));
    if config.leader_election.is_none() {
        rows.push(Row::skipped(LEASES, "", "LEADER_ELECT is off"));
    }
    rows.append(&mut served);
    let mut found = None;
    for (scope, objects) in listed {
        let place = scope.map_or_else(|| "all namespaces".to_owned(), |n| format!("namespace {n}"));
        match objects {
            Ok(objects) => {
                rows.push(Row::fine(OBJECTS, place, format!("{} found", objects.len())));
                found.get_or_insert_with(Vec::new).extend(objects);
            }
            Err(error) => {
                let advice = match error.status().is_not_served() {
                    true => advice::CRD,
                    false => advice::of_kubernetes(&error),
                };
                rows.push(Row::failed(OBJECTS, place, error.to_string(), advice));
            }
        }
    }
    (rows, found)
}

fn ask(config: &Config, client: &KubeClient) -> Vec<Part> {
    let scopes = config.watch_scopes();
    let questions = rights::questions(&scopes, config.leader_election.as_ref());
    let mut tasks: Vec<Task<'_, Part>> = Vec::new();
    for question in questions {
        tasks.push(Box::new(move || {
            let answer = review::may(client, &question.right, question.namespace.as_deref());
            Part::Right(question, answer)
        }));
    }
    tasks.push(Box::new(|| Part::Served(review::is_served(client, &OPENSTACK_CONFIGS))));
    for scope in scopes {
        tasks.push(Box::new(move || {
            let objects = listing::objects(client, scope);
            let objects = objects.map(|raw| raw.iter().map(OpenstackConfig::from_raw).collect());
            Part::Objects(scope.map(str::to_owned), objects)
        }));
    }
    side_by_side(SIDE_BY_SIDE, tasks)
}

fn crd_row(answer: Result<bool, KubeError>) -> Row {
    let place = format!("{}.{}", OPENSTACK_CONFIGS.plural, OPENSTACK_CONFIGS.group);
    match answer {
        Ok(true) => Row::fine(CRD, place, format!("{} is served", OPENSTACK_CONFIGS.version)),
        Ok(false) => {
            let version = OPENSTACK_CONFIGS.version;
            let seen = format!("{version} isn't served with its status");
            Row::failed(CRD, place, seen, advice::CRD)
        }
        Err(error) => Row::failed(CRD, place, error.to_string(), advice::of_kubernetes(&error)),
    }
}
