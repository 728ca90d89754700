//! What a manifest says: which layer is the component, and how one for a component is written.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::Context;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex, OciImageManifest,
};
use plugsock::Digest;
use serde::Serialize;
use wit_component::DecodedWasm;

/// The largest manifest that is read, which is the largest that registries have to take.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// What may come for a tag.
pub fn accepted() -> String {
    [
        OCI_IMAGE_MEDIA_TYPE,
        OCI_IMAGE_INDEX_MEDIA_TYPE,
        IMAGE_MANIFEST_MEDIA_TYPE,
        IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    ]
    .join(", ")
}

/// What is written, and read by all.
const LAYER: &str = "application/wasm";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// What else a layer was called before there was agreement.
const OLDER_LAYERS: [&str; 2] =
    ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];

/// The one layer that is a handler.
pub fn component(manifest: &OciImageManifest) -> Result<&OciDescriptor, String> {
    let is_wasm = |layer: &&OciDescriptor| {
        layer.media_type == LAYER || OLDER_LAYERS.contains(&layer.media_type.as_str())
    };
    let mut found = manifest.layers.iter().filter(is_wasm);
    match (found.next(), found.count()) {
        (Some(only), 0) => Ok(only),
        (Some(_), others) => Err(format!("it has {} components, and a handler is one", others + 1)),
        (None, _) => {
            let types = manifest.layers.iter().take(4).map(|layer| layer.media_type.as_str());
            let types = types.collect::<Vec<_>>().join(", ");
            Err(format!("it is not WebAssembly: it has no layer of the type {LAYER}, but {types:.200}"))
        }
    }
}

/// Of what is there for several platforms the one for WebAssembly, or the only one.
pub fn for_wasm(index: &OciImageIndex) -> Result<Digest, String> {
    let architecture = |entry: &oci_client::manifest::ImageIndexEntry| {
        entry.platform.as_ref().map(|platform| platform.architecture.to_string())
    };
    let is_wasm = |architecture: Option<String>| architecture.is_some_and(|name| name.starts_with("wasm"));
    let wasm = index.manifests.iter().find(|entry| is_wasm(architecture(entry)));
    let found = wasm.or(match &index.manifests[..] {
        [only] => Some(only),
        _ => None,
    });
    let found = found.ok_or_else(|| {
        format!("it is an index of {} manifests, none of them for WebAssembly", index.manifests.len())
    })?;
    found.digest.parse().map_err(|_| format!("its index has '{:.100}' for a digest", found.digest))
}

/// A descriptor of these bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes).to_string(),
        size: bytes.len().try_into().unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

/// As `oci-wasm` writes it, which is what others read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    created: String,
    author: Option<String>,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    component: Option<Interfaces>,
}

#[derive(Serialize)]
struct Interfaces {
    exports: Vec<String>,
    imports: Vec<String>,
    target: Option<String>,
}

/// The configuration and the manifest of an artifact that has this component. Made anew of the same file, changed at the
/// same time, they are the same.
pub fn write(
    component: &[u8],
    changed: SystemTime,
    annotations: BTreeMap<String, String>,
) -> anyhow::Result<(Vec<u8>, OciImageManifest)> {
    let is_component = wasmparser::Parser::is_component(component);
    let config = Config {
        created: humantime::format_rfc3339_seconds(changed).to_string(),
        author: None,
        architecture: "wasm",
        os: if is_component { "wasip2" } else { "wasip1" },
        layer_digests: vec![Digest::of(component).to_string()],
        component: is_component.then(|| interfaces(component)).transpose()?,
    };
    let config = serde_json::to_vec(&config)?;
    let manifest = OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(CONFIG, &config),
        layers: vec![descriptor(LAYER, component)],
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..OciImageManifest::default()
    };
    Ok((config, manifest))
}

fn interfaces(component: &[u8]) -> anyhow::Result<Interfaces> {
    let decoded = wit_component::decode(component);
    let DecodedWasm::Component(resolve, world) = decoded.context("its interfaces cannot be read")? else {
        anyhow::bail!("it is a package of WIT, and no component");
    };
    let world = &resolve.worlds[world];
    let exports = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    let imports = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    Ok(Interfaces { exports, imports, target: None })
}
