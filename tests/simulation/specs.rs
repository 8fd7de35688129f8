//! What people ask for: the specs of objects, at random.

use serde_json::{Value, json};

use crate::cloud::{PROJECTS, PROVIDERS, subnet_id, vm_id, vm_ids};

/// A spec of an object that may share each of its VMs with others, now and then a broken one, as an older
/// cluster lets it through.
pub(crate) fn spec(random: &mut fastrand::Rng) -> Value {
    spec_of(random, usize::MAX, 4)
}

/// The same, with so many VMs at most, and one in so many of another project.
pub(crate) fn spec_of(random: &mut fastrand::Rng, most_vms: usize, one_in: u8) -> Value {
    let project = usize::from(random.u8(0..one_in) == 0);
    let provider = if random.u8(0..=one_in) == 0 { PROVIDERS[1] } else { PROVIDERS[0] };
    let mut vms = vm_ids(project);
    random.shuffle(&mut vms);
    vms.truncate(random.usize(1..=vms.len().min(most_vms)));
    if random.u8(0..5) == 0 {
        vms.push(vm_id(1 - project, random.usize(0..2)));
    }
    if random.u8(0..4) == 0 {
        vms[0] = vms[0].to_ascii_uppercase();
        vms.push(vms[0].to_ascii_lowercase());
    }
    let mut spec = json!({
        "vmNames": vms,
        "credentials": {"openstackProviderID": provider, "projectID": PROJECTS[project]},
    });
    if random.bool() {
        spec["subnetID"] = json!(subnet_id(project, 0));
    } else {
        spec["subnetName"] = json!("lan");
    }
    // Drawn from a copy, so that all other choices of a seed stay as they were.
    if random.clone().u8(0..6) == 0 {
        let numbers = random.clone().choice([[0, 1], [1, 0], [0, 0]]).unwrap();
        spec["subnetIDs"] = json!(numbers.map(|number| subnet_id(project, number)));
    }
    if random.u8(0..3) == 0 {
        // A Biz cluster belongs to one provider.
        let cluster = format!("biz-{}-of-{provider}", random.u8(0..2));
        spec["credentials"]["k8sProviderID"] = json!(cluster);
    }
    match random.u8(0..24) {
        0 => spec["vmNames"] = json!("worker-0"),
        1 => {
            spec["subnetIDs"] = Value::Null;
            spec["subnetID"] = json!(" ");
            spec["subnetName"] = Value::Null;
        }
        2 => spec["credentials"]["openstackProviderID"] = json!("provider-9"),
        3 => spec["credentials"]["projectID"] = json!("99999999999999999999999999999999"),
        4 => spec["subnetID"] = json!(subnet_id(project, 7)),
        5 => {
            spec["subnetID"] = Value::Null;
            spec["subnetName"] = json!("dmz");
        }
        _ => {}
    }
    spec
}
