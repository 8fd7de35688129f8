//! Contrabass for each provider, or the Secret that has the cloud, Keystone and Nova for each project, Neutron for each subnet that
//! objects name. Trouble with one doesn't hide the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::Row;
use super::{SIDE_BY_SIDE, advice, notifications};
use crate::cloud::contrabass::RabbitMq;
use crate::cloud::object_secrets::ObjectSecrets;
use crate::cloud::session::{FoundProvider, Login};
use crate::cloud::{Cloud, CloudError, Clouds};
use crate::config::{Config, Settings};
use crate::http::url::shown;
use crate::resources::{ObjectKey, OpenstackConfig, Spec, SubnetSelector};
use crate::targets::viola::Viola;
use crate::threads::{Task, side_by_side};

const CONTRABASS: &str = "Contrabass";
const SECRET: &str = "Secret";
const KEYSTONE: &str = "Keystone";
const NEUTRON: &str = "Neutron endpoint";
const NOVA: &str = "Nova";
/// Objects named in one row before the rest is only counted.
const OBJECTS_SHOWN: usize = 3;

/// The subnets that objects name in one project, and those objects.
type Subnets<'a> = BTreeMap<&'a SubnetSelector, Vec<&'a ObjectKey>>;

/// Objects of one project that have the same settings.
struct Project<'a> {
    provider_id: &'a str,
    project_id: &'a str,
    settings: Arc<Settings>,
    /// Whose settings they are; none for the environment's.
    settings_of: Option<&'a ObjectKey>,
    subnets: Subnets<'a>,
}

fn subnets_of<'a, 'b>(
    projects: &'b mut Vec<Project<'a>>,
    object: &'a OpenstackConfig,
    spec: &'a Spec,
    settings: Arc<Settings>,
    environment: &Arc<Settings>,
) -> &'b mut Subnets<'a> {
    let is_of = |project: &Project<'_>| {
        (project.provider_id, project.project_id) == (&*spec.provider_id, &*spec.project_id)
            && project.settings == settings
    };
    let at = projects.iter().position(is_of).unwrap_or_else(|| {
        let has_own = settings != *environment;
        projects.push(Project {
            provider_id: &spec.provider_id,
            project_id: &spec.project_id,
            settings,
            settings_of: has_own.then_some(&object.key),
            subnets: Subnets::new(),
        });
        projects.len() - 1
    });
    &mut projects[at].subnets
}

/// The rows of all clouds that objects name; `objects` is none if they couldn't be read.
pub(super) fn rows(
    config: &Config,
    clouds: &Clouds,
    secrets: &ObjectSecrets,
    viola: &Viola,
    objects: &Option<Vec<OpenstackConfig>>,
) -> Vec<Row> {
    let (mut rows, mut projects) = (Vec::new(), Vec::<Project<'_>>::new());
    for object in objects.iter().flatten().filter(|object| !object.being_deleted) {
        let spec = object.spec.as_ref().map_err(Clone::clone);
        let namespace = &object.key.namespace;
        let spec = spec.and_then(|spec| {
            let (settings, _) = secrets.settings_of(config, namespace, spec)?;
            Ok((spec, settings))
        });
        let problem = match spec {
            Err(problem) => problem,
            Ok((spec, settings)) => {
                let environment = &config.settings;
                let subnets = subnets_of(&mut projects, object, spec, settings, environment);
                for subnet in &spec.subnets {
                    subnets.entry(subnet).or_default().push(&object.key);
                }
                if !spec.subnets.is_empty() {
                    continue;
                }
                "names no subnet".to_owned()
            }
        };
        let place = object.key.to_string();
        rows.push(Row::failed("OpenstackConfig", place, problem, advice::OBJECT));
    }
    if projects.is_empty() {
        let cloud = clouds.with(&config.settings);
        rows.extend(without_objects(config, &cloud, objects.is_some()));
    }
    let mut tasks: Vec<Task<'_, Vec<Row>>> = Vec::new();
    for project in &projects {
        tasks.push(Box::new(|| project_rows(&clouds.with(&project.settings), project)));
    }
    let mut settings: Vec<&Settings> = Vec::new();
    for project in &projects {
        let is_of = |known: &&Settings| known.viola == project.settings.viola;
        if project.settings.viola != config.settings.viola && !settings.iter().any(is_of) {
            settings.push(&project.settings);
        }
    }
    for settings in settings {
        tasks.push(Box::new(|| vec![super::viola_row(settings, viola)]));
    }
    for row in side_by_side(SIDE_BY_SIDE, tasks).concat() {
        // Projects of one provider have its row in common.
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    if config.notifications.enabled && !projects.is_empty() {
        rows.extend(notifications::rows(config, &brokers(clouds, &projects)));
    }
    rows
}

/// Each broker once. The providers are known by now.
fn brokers(clouds: &Clouds, projects: &[Project<'_>]) -> Vec<RabbitMq> {
    let mut brokers = Vec::new();
    for Project { provider_id, project_id, settings, .. } in projects {
        let found = clouds.with(settings).provider(provider_id, project_id, None);
        let rabbitmq = found.ok().and_then(|found| found.provider.rabbitmq.clone().ok()?);
        brokers.extend(rabbitmq.filter(|rabbitmq| !brokers.contains(rabbitmq)));
    }
    brokers
}

/// No object names a provider, so all that can be seen of Contrabass is that it is there.
fn without_objects(config: &Config, cloud: &Cloud, were_read: bool) -> Vec<Row> {
    let why = match were_read {
        true => "no OpenstackConfig names a cloud",
        false => "the OpenstackConfigs that name clouds can't be read",
    };
    let contrabass = match &config.settings.contrabass.endpoint {
        Err(variable) => Row::skipped(CONTRABASS, "", format!("{variable} is not set")),
        Ok(endpoint) => {
            let seen = |status| format!("HTTP {status} (any answer counts: {why})");
            Row::of(CONTRABASS, endpoint, cloud.reach_contrabass().map(seen))
        }
    };
    let skipped = [KEYSTONE, NEUTRON, NOVA].map(|what| Row::skipped(what, "", why));
    std::iter::once(contrabass).chain(skipped).collect()
}

fn project_rows(cloud: &Cloud, project: &Project<'_>) -> Vec<Row> {
    let Project { provider_id, project_id, settings, settings_of, subnets } = project;
    let by = settings_of.map(|key| format!(", by the settings of {key}")).unwrap_or_default();
    let place = match (&settings.identity, *project_id) {
        (Some(identity), "") => identity.place.clone(),
        (Some(identity), id) => format!("project {id}, {}", identity.place),
        (None, id) => format!("project {id}{by}"),
    };
    let skipped = |what| Row::skipped(what, &place, "needs an answer of the service above");
    let found = cloud.provider(provider_id, project_id, None);
    let mut rows = vec![match &settings.identity {
        Some(identity) => Row::fine(SECRET, &identity.place, "its clouds.yaml can be used"),
        None => {
            let seen = found.as_ref().map(seen_of).map_err(Clone::clone);
            Row::of(CONTRABASS, format!("provider {provider_id}{by}"), seen)
        }
    }];
    let Ok(found) = found else {
        rows.extend([KEYSTONE, NEUTRON, NOVA].map(skipped));
        return rows;
    };
    let login = cloud.log_in(&found.provider, project_id, None, false);
    let keystone = format!("logged in at {}", shown(&found.provider.keystone_url));
    rows.push(Row::of(KEYSTONE, &place, login.as_ref().map(|_| keystone).map_err(Clone::clone)));
    let Ok(login) = login else {
        rows.extend([NEUTRON, NOVA].map(skipped));
        return rows;
    };
    let neutron = login.neutron().map(|neutron| shown(neutron.endpoint()));
    let mut tasks: Vec<Task<'_, Row>> = Vec::new();
    for (subnet, objects) in subnets.iter().filter(|_| neutron.is_ok()) {
        tasks.push(Box::new(|| subnet_row(&login, subnet, objects)));
    }
    tasks.push(Box::new(|| match login.nova() {
        Some(nova) => {
            let seen = format!("answers at {}", shown(&nova.api.endpoint));
            Row::of(NOVA, &place, nova.answers().map(|()| seen))
        }
        None => {
            let why = "the catalog has no compute endpoint: VMs go by their ids";
            Row::skipped(NOVA, &place, why)
        }
    }));
    rows.push(Row::of(NEUTRON, &place, neutron));
    rows.extend(side_by_side(SIDE_BY_SIDE, tasks));
    rows
}

/// What can be seen of a provider.
fn seen_of(found: &FoundProvider) -> String {
    let rabbitmq = match &found.provider.rabbitmq {
        Ok(Some(_)) => "RabbitMQ's password too",
        Ok(None) => "it has no RabbitMQ",
        Err(problem) => &format!("but no Secret is written: {problem}"),
    };
    format!("found, its password decrypted; {rabbitmq}")
}

fn subnet_row(login: &Login, selector: &SubnetSelector, objects: &[&ObjectKey]) -> Row {
    let place = match selector {
        SubnetSelector::Id(id) => format!("subnet {id}"),
        SubnetSelector::Name(name) => format!("subnet named {name:?}"),
    };
    let mut of: Vec<String> = objects.iter().take(OBJECTS_SHOWN).map(ToString::to_string).collect();
    let more = objects.len().saturating_sub(OBJECTS_SHOWN);
    of.extend((more > 0).then(|| format!("{more} more")));
    let of = of.join(", ");
    let found = login.neutron().and_then(|neutron| {
        let subnet = neutron.subnet(selector)?;
        let mtu = neutron.network(&subnet.network_id)?.mtu?;
        Ok((subnet, mtu))
    });
    let found = found.map(|(subnet, mtu)| format!("{}, MTU {mtu}; of {of}", subnet.cidr));
    let found = found
        .map_err(|error| CloudError { message: format!("{}; of {of}", error.message), ..error });
    Row::of("Neutron subnet", place, found)
}
