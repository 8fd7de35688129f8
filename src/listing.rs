//! Objects as they are now, for those who look once.

use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::RawObject;
use crate::kube::resource::Resource;
use crate::resources::OPENSTACK_CONFIGS;

/// All objects of a namespace, or of all of them. Reading one by its name would take a right that
/// the operator doesn't have.
pub(crate) fn objects(
    client: &KubeClient,
    scope: Option<&str>,
) -> Result<Vec<RawObject>, KubeError> {
    objects_of(client, &OPENSTACK_CONFIGS, scope)
}

/// All objects of a resource.
pub(crate) fn objects_of(
    client: &KubeClient,
    resource: &Resource,
    scope: Option<&str>,
) -> Result<Vec<RawObject>, KubeError> {
    let (mut objects, mut token) = (Vec::new(), None);
    loop {
        let page = client.list_page(resource, scope, None, token.as_deref())?;
        objects.extend(page.objects);
        token = page.continue_token;
        if token.is_none() {
            return Ok(objects);
        }
    }
}
