//! Namespaces, and what all objects have: a name, in a namespace.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{FieldError, Labels};

/// Every namespace bears its name as a label, also where no API server has written it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace's name and labels.
pub fn namespace(object: &Namespace) -> Result<(String, Labels), FieldError> {
    let name = name_of(&object.metadata)?;
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    Ok((name, labels))
}

/// As `kubectl apply` does: what names no namespace is in `default`.
pub(super) fn namespace_of(metadata: &ObjectMeta) -> String {
    metadata.namespace.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

pub(super) fn name_of(metadata: &ObjectMeta) -> Result<String, FieldError> {
    metadata
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| FieldError { field: "metadata.name".to_owned(), reason: "is missing".to_owned() })
}
