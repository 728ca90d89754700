//! Signatures in a registry: artifacts that refer to the manifest whose component they are of.
//!
//! A registry lists what refers to a manifest; where it does not, whoever pushes keeps the list under a tag that is made of
//! the manifest's digest, as OCI has it.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_client::manifest::{
    ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex,
    OciImageManifest, OciManifest,
};
use plugsock::Digest;
use reqwest::StatusCode;

use super::failure::Failure;
use super::manifest::{MANIFEST_MAX, descriptor};
use super::session::{Ask, Session};

/// The type of such an artifact, and of its layer: what minisign writes.
const SIGNATURE: &str = "application/vnd.plugsock.minisign.v1";

/// What stands where others have a configuration.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// The largest signature, and the most of them that are looked at.
const SIGNATURE_MAX: u64 = 64 << 10;
const SIGNATURES_MAX: usize = 16;

impl Session<'_> {
    /// What there is of signatures of a manifest's component.
    pub async fn signatures(&self, subject: Digest) -> Result<Vec<String>, Failure> {
        let mut signatures = Vec::new();
        let referrers = self.referrers(subject).await?.manifests.into_iter();
        // The newest last, where there is an order.
        let ours = referrers.rev().filter(|entry| entry.artifact_type.as_deref() == Some(SIGNATURE));
        for entry in ours.take(SIGNATURES_MAX) {
            let Ok(digest) = entry.digest.parse() else { continue };
            let OciManifest::Image(manifest) = self.manifest(&entry.digest, Some(digest)).await?.manifest
            else {
                continue;
            };
            let Some(layer) = manifest.layers.iter().find(|layer| layer.media_type == SIGNATURE) else {
                continue;
            };
            let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
            if size <= SIGNATURE_MAX {
                let bytes = self.blob(&layer.digest, size).await?;
                signatures.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(signatures)
    }

    async fn referrers(&self, subject: Digest) -> Result<OciImageIndex, Failure> {
        let mut url = self.url(&format!("referrers/{subject}"))?;
        url.query_pairs_mut().append_pair("artifactType", SIGNATURE);
        match self.send(&Ask::get(url, OCI_IMAGE_INDEX_MEDIA_TYPE, MANIFEST_MAX)).await {
            Ok(reply) => serde_json::from_slice(&reply.body)
                .map_err(|_| Failure::lasting("what it sends for a list of signatures is none")),
            Err(failure) if lacks(&failure) => self.tagged_referrers(subject).await,
            Err(failure) => Err(failure),
        }
    }

    /// The list that those keep who push.
    async fn tagged_referrers(&self, subject: Digest) -> Result<OciImageIndex, Failure> {
        match self.manifest(&fallback_tag(subject), None).await {
            Ok(found) => match found.manifest {
                OciManifest::ImageIndex(index) => Ok(index),
                OciManifest::Image(_) => Err(Failure::lasting(format!(
                    "under {} there is something else than a list",
                    fallback_tag(subject)
                ))),
            },
            Err(failure) if failure.status == Some(StatusCode::NOT_FOUND) => Ok(OciImageIndex {
                schema_version: 2,
                media_type: Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned()),
                manifests: Vec::new(),
                artifact_type: None,
                annotations: None,
            }),
            Err(failure) => Err(failure),
        }
    }

    /// Pushes a signature of a manifest's component. The manifest itself need not be there yet.
    pub async fn push_signature(&self, subject: OciDescriptor, signature: &Bytes) -> Result<(), Failure> {
        let of: Digest = subject.digest.parse().map_err(|_| Failure::lasting("its digest is not SHA-256"))?;
        self.push_blob(signature).await?;
        self.push_blob(&Bytes::from_static(EMPTY.1)).await?;
        let title = BTreeMap::from([(
            "org.opencontainers.image.title".to_owned(),
            "handler.wasm.minisig".to_owned(),
        )]);
        let layer = OciDescriptor { annotations: Some(title), ..descriptor(SIGNATURE, signature) };
        let manifest = OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            artifact_type: Some(SIGNATURE.to_owned()),
            config: descriptor(EMPTY.0, EMPTY.1),
            layers: vec![layer],
            subject: Some(subject),
            ..OciImageManifest::default()
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| Failure::lasting(error.to_string()))?;
        let pushed = descriptor(OCI_IMAGE_MEDIA_TYPE, &bytes);
        let reply = self.push_manifest(&pushed.digest, OCI_IMAGE_MEDIA_TYPE, bytes).await?;
        if reply.headers.contains_key("oci-subject") {
            return Ok(());
        }
        let mut index = self.tagged_referrers(of).await?;
        index.manifests.retain(|entry| entry.digest != pushed.digest);
        index.manifests.push(ImageIndexEntry {
            media_type: pushed.media_type,
            digest: pushed.digest,
            size: pushed.size,
            platform: None,
            annotations: None,
            artifact_type: Some(SIGNATURE.to_owned()),
        });
        let bytes = serde_json::to_vec(&index).map_err(|error| Failure::lasting(error.to_string()))?;
        self.push_manifest(&fallback_tag(of), OCI_IMAGE_INDEX_MEDIA_TYPE, bytes).await.map(drop)
    }
}

/// Whether it is a registry that keeps no such lists itself.
fn lacks(failure: &Failure) -> bool {
    let others = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
    failure.status.is_some_and(|status| status.is_client_error() && !others.contains(&status))
}

fn fallback_tag(subject: Digest) -> String {
    subject.to_string().replace(':', "-")
}
