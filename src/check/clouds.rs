//! Contrabass once for each provider, Keystone and Nova once for each project, Neutron once for
//! each subnet that objects name. Trouble with one doesn't hide the others.

use std::collections::BTreeMap;

use super::report::Row;
use super::{SIDE_BY_SIDE, advice};
use crate::cloud::contrabass::Provider;
use crate::cloud::session::Login;
use crate::cloud::{Cloud, CloudError};
use crate::config::Config;
use crate::http::url::shown;
use crate::resources::{ObjectKey, OpenstackConfig, SubnetSelector};
use crate::threads::{Task, side_by_side};

const CONTRABASS: &str = "Contrabass";
const KEYSTONE: &str = "Keystone";
const NEUTRON: &str = "Neutron endpoint";
const SUBNET: &str = "Neutron subnet";
const NOVA: &str = "Nova";
/// Objects named in one row before the rest is only counted.
const OBJECTS_SHOWN: usize = 3;

/// What objects want of one project: its subnets, and who names each.
type Project<'a> = BTreeMap<&'a SubnetSelector, Vec<&'a ObjectKey>>;
/// By provider and project.
type Clouds<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Project<'a>>>;

/// The rows of all clouds that objects name; `objects` is none if they couldn't be read.
pub(super) fn rows(
    config: &Config,
    cloud: &Cloud,
    objects: &Option<Vec<OpenstackConfig>>,
) -> Vec<Row> {
    let (mut rows, mut clouds) = (Vec::new(), Clouds::new());
    for object in objects.iter().flatten().filter(|object| !object.being_deleted) {
        match &object.spec {
            Ok(spec) => {
                let projects = clouds.entry(spec.provider_id.as_str()).or_default();
                let project = projects.entry(spec.project_id.as_str()).or_default();
                match &spec.subnet {
                    Some(subnet) => project.entry(subnet).or_default().push(&object.key),
                    None => rows.push(object_row(object, "names no subnet")),
                }
            }
            Err(problem) => rows.push(object_row(object, problem)),
        }
    }
    if clouds.is_empty() {
        rows.extend(without_objects(config, cloud, objects.is_some()));
        return rows;
    }
    let tasks = clouds
        .iter()
        .map(|(id, projects)| {
            Box::new(move || provider_rows(cloud, id, projects)) as Task<'_, Vec<Row>>
        })
        .collect();
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks).into_iter().flatten());
    rows
}

fn object_row(object: &OpenstackConfig, problem: &str) -> Row {
    Row::failed("OpenstackConfig", object.key.to_string(), problem, advice::OBJECT)
}

/// Nobody names a provider, so all that can be seen of Contrabass is that it is there.
fn without_objects(config: &Config, cloud: &Cloud, were_read: bool) -> Vec<Row> {
    let why = match were_read {
        true => "no OpenstackConfig names a cloud",
        false => "the OpenstackConfigs that name clouds can't be read",
    };
    let contrabass = match config.contrabass.endpoint.get() {
        Err(variable) => Row::skipped(CONTRABASS, "not known", format!("{variable} is not set")),
        Ok(endpoint) => match cloud.reach_contrabass() {
            Ok(status) => {
                let seen = format!("HTTP {status} (any answer counts: {why})");
                Row::fine(CONTRABASS, endpoint, seen)
            }
            Err(error) => failed(CONTRABASS, endpoint, &error),
        },
    };
    let skipped = [KEYSTONE, NEUTRON, NOVA].map(|what| Row::skipped(what, "", why));
    std::iter::once(contrabass).chain(skipped).collect()
}

fn failed(what: &str, place: &str, error: &CloudError) -> Row {
    Row::failed(what, place, error.to_string(), advice::of_step(error.step))
}

fn provider_rows(cloud: &Cloud, id: &str, projects: &BTreeMap<&str, Project<'_>>) -> Vec<Row> {
    let place = format!("provider {id}");
    let first_project = projects.keys().next().copied().unwrap_or_default();
    let provider = match cloud.provider(id, first_project, None) {
        Ok(found) => found.provider,
        Err(error) => {
            let mut rows = vec![failed(CONTRABASS, &place, &error)];
            for project_id in projects.keys() {
                let place = format!("project {project_id}");
                let why = "Contrabass must say first where its cloud is";
                rows.extend([KEYSTONE, NEUTRON, NOVA].map(|what| Row::skipped(what, &place, why)));
            }
            return rows;
        }
    };
    let rabbitmq = match (&provider.rabbitmq, &provider.rabbitmq_problem) {
        (Some(_), _) => "RabbitMQ's password too".to_owned(),
        (None, Some(problem)) => format!("but no Secret is written: {problem}"),
        (None, None) => "it has no RabbitMQ".to_owned(),
    };
    let seen = format!("found, its password decrypted; {rabbitmq}");
    let mut rows = vec![Row::fine(CONTRABASS, place, seen)];
    let provider = &*provider;
    let tasks = projects
        .iter()
        .map(|(project_id, project)| {
            Box::new(move || project_rows(cloud, provider, project_id, project))
                as Task<'_, Vec<Row>>
        })
        .collect();
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks).into_iter().flatten());
    rows
}

fn project_rows(
    cloud: &Cloud,
    provider: &Provider,
    project_id: &str,
    project: &Project<'_>,
) -> Vec<Row> {
    let place = format!("project {project_id}");
    let login = match cloud.log_in(provider, project_id, None) {
        Ok(login) => login,
        Err(error) => {
            let why = "Keystone must give a token and its catalog first";
            let skipped = [NEUTRON, NOVA].map(|what| Row::skipped(what, &place, why));
            return std::iter::once(failed(KEYSTONE, &place, &error)).chain(skipped).collect();
        }
    };
    let keystone = shown(&provider.keystone_url);
    let mut rows = vec![Row::fine(KEYSTONE, &place, format!("logged in at {keystone}"))];
    let login = &login;
    let mut tasks: Vec<Task<'_, Row>> = Vec::new();
    match cloud.neutron(login) {
        Ok(neutron) => {
            rows.push(Row::fine(NEUTRON, &place, shown(&neutron.endpoint)));
            for (selector, objects) in project {
                tasks.push(Box::new(move || {
                    subnet_row(cloud, login, project_id, selector, objects)
                }));
            }
        }
        Err(error) => rows.push(failed(NEUTRON, &place, &error)),
    }
    tasks.push(Box::new(|| nova_row(cloud, login, project_id)));
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks));
    rows
}

fn subnet_row(
    cloud: &Cloud,
    login: &Login,
    project_id: &str,
    selector: &SubnetSelector,
    objects: &[&ObjectKey],
) -> Row {
    let place = match selector {
        SubnetSelector::Id(id) => format!("subnet {id}"),
        SubnetSelector::Name(name) => format!("subnet named {name:?}"),
    };
    let of = named(objects);
    match cloud.probe_subnet(login, project_id, selector) {
        Ok((subnet, mtu)) => {
            Row::fine(SUBNET, place, format!("{}, MTU {mtu}; of {of}", subnet.cidr))
        }
        Err(error) => {
            let seen = format!("{error}; of {of}");
            Row::failed(SUBNET, place, seen, advice::of_step(error.step))
        }
    }
}

fn nova_row(cloud: &Cloud, login: &Login, project_id: &str) -> Row {
    let place = format!("project {project_id}");
    let Some(nova) = cloud.nova(login) else {
        return Row::skipped(
            NOVA,
            place,
            "the catalog has no compute endpoint: VMs go by their ids",
        );
    };
    match nova.answers() {
        Ok(()) => Row::fine(NOVA, place, format!("answers at {}", shown(&nova.endpoint))),
        Err(error) => failed(NOVA, &place, &error),
    }
}

fn named(objects: &[&ObjectKey]) -> String {
    let mut names: Vec<String> =
        objects.iter().take(OBJECTS_SHOWN).map(|key| key.to_string()).collect();
    let more = objects.len().saturating_sub(OBJECTS_SHOWN);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}
