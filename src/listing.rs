//! Objects as they are now, for those who look once.

use crate::kube::client::KubeClient;
use crate::kube::error::KubeError;
use crate::kube::objects::{Page, RawObject};
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
    pages(client, resource, scope, None, |all: &mut Vec<RawObject>, page| {
        all.extend(page.objects);
    })
}

/// What `add` makes of all pages of a list; a page has at most `limit` objects.
pub(crate) fn pages<T: Default>(
    client: &KubeClient,
    resource: &Resource,
    scope: Option<&str>,
    mut limit: Option<u32>,
    add: impl Fn(&mut T, Page),
) -> Result<T, KubeError> {
    let (mut token, mut all) = (None::<String>, T::default());
    loop {
        match client.list_page(resource, scope, limit, token.as_deref()) {
            Ok(mut page) => {
                token = page.continue_token.take();
                add(&mut all, page);
                if token.is_none() {
                    return Ok(all);
                }
            }
            // The token is too old: without pages nothing can become that.
            Err(error) if error.status().is_expired() && token.is_some() => {
                (limit, token, all) = (None, None, T::default());
            }
            Err(error) => return Err(error),
        }
    }
}
