//! The OpenstackConfig objects as they are now, for commands that look once and end.

use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::RawObject;
use crate::resources::OPENSTACK_CONFIGS;

/// All objects of a namespace, or of all of them. Reading one by its name would take a right that
/// the operator doesn't have.
pub(crate) fn objects(
    client: &KubeClient,
    scope: Option<&str>,
) -> Result<Vec<RawObject>, KubeError> {
    let (mut objects, mut token) = (Vec::new(), None);
    loop {
        let page = client.list_page(&OPENSTACK_CONFIGS, scope, None, token.as_deref())?;
        objects.extend(page.objects);
        token = page.continue_token;
        if token.is_none() {
            return Ok(objects);
        }
    }
}
