//! What a login must say before anything is asked with it.

use serde_json::{Value, json};

use super::{Reply, reply, stage};
use crate::cloud::error::Step;
use crate::http::client::Service;

fn token(catalog: Option<Value>) -> Reply {
    let mut token = json!({"expires_at": "2026-01-02T09:04:05.000000Z"});
    if let Some(catalog) = catalog {
        token["catalog"] = catalog;
    }
    reply(201, json!({"token": token})).with("x-subject-token", "made-up-token")
}

#[test]
fn a_catalog_that_is_absent_is_not_an_empty_one() {
    let said =
        "Keystone POST /v3/auth/tokens: the token has no catalog (is it scoped to the project?)";
    let empty = "the catalog has no public endpoint of type network; it is empty";
    let cases = [
        (None, Step::Keystone, said),
        (Some(Value::Null), Step::Keystone, said),
        (Some(json!([])), Step::NeutronEndpoint, empty),
    ];
    for (catalog, step, said) in cases {
        let stage = stage(&[]);
        stage.services.say(Service::Keystone, "", [token(catalog)]);
        let error = stage.ask(&["vm-1"]).unwrap_err();
        assert_eq!((error.step, error.message.as_str()), (step, said));
    }
}

#[test]
fn without_a_catalog_nothing_says_that_there_is_no_nova() {
    let stage = stage(&[("OPENSTACK_NEUTRON_ENDPOINT", "http://neutron.test")]);
    stage.services.say(Service::Keystone, "", [token(None)]);
    assert_eq!(stage.ask(&["vm-1"]).unwrap_err().step, Step::Keystone);
}
