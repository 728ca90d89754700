//! Bringing a handler to a registry: the component, what describes it, and at last the manifest that names both.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use plugsock::Digest;
use reqwest::{Method, StatusCode};

use super::failure::Failure;
use super::manifest::{self, descriptor};
use super::reference::OciReference;
use super::session::{Ask, Reply, Session};
use super::token::Access;
use super::{Registry, RegistryError};

/// What is to be pushed.
pub struct Pushing {
    component: Bytes,
    config: Bytes,
    manifest: Bytes,
    signature: Option<Bytes>,
}

impl Pushing {
    /// A component, or a module, that was changed at this time, and its signature if it has one.
    pub fn new(
        component: Vec<u8>,
        changed: SystemTime,
        annotations: BTreeMap<String, String>,
        signature: Option<String>,
    ) -> anyhow::Result<Self> {
        let (config, manifest) = manifest::write(&component, changed, annotations)?;
        let manifest = serde_json::to_vec(&manifest)?.into();
        let signature = signature.map(Bytes::from);
        Ok(Self { component: component.into(), config: config.into(), manifest, signature })
    }
}

impl Registry {
    /// Pushes; the manifest's digest.
    pub fn push(&self, reference: &OciReference, pushing: &Pushing) -> Result<Digest, RegistryError> {
        self.run(reference, Access::Push, async |session| session.push(pushing).await)
    }
}

impl Session<'_> {
    async fn push(&self, pushing: &Pushing) -> Result<Digest, Failure> {
        self.begin("push the component");
        self.push_blob(&pushing.component).await?;
        self.push_blob(&pushing.config).await?;
        let manifest = descriptor(OCI_IMAGE_MEDIA_TYPE, &pushing.manifest);
        let digest = Digest::of(&pushing.manifest);
        if let Some(signature) = &pushing.signature {
            self.begin("push the signature");
            // First, so that whoever finds the component finds it signed.
            self.push_signature(manifest, signature).await?;
        }
        self.begin("push the manifest");
        self.push_manifest(self.reference.asked(), OCI_IMAGE_MEDIA_TYPE, pushing.manifest.clone()).await?;
        Ok(digest)
    }

    /// Pushes what the registry does not have yet.
    pub async fn push_blob(&self, bytes: &Bytes) -> Result<(), Failure> {
        let digest = Digest::of(bytes);
        let there = self.send(&Ask::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?)).await;
        match there {
            Ok(_) => return Ok(()),
            Err(failure) if failure.status == Some(StatusCode::NOT_FOUND) => {}
            Err(failure) => return Err(failure),
        }
        let begun = self.send(&Ask::new(Method::POST, self.url("blobs/uploads/")?)).await?;
        let location = begun.header("location").and_then(|location| begun.url.join(location).ok());
        let mut location =
            location.ok_or_else(|| Failure::lasting("it does not say where to upload to (no Location)"))?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let upload = Ask::new(Method::PUT, location).with("application/octet-stream", bytes.clone());
        self.send(&upload).await.map(drop)
    }

    /// Pushes a manifest or an index under a tag or its digest.
    pub async fn push_manifest(
        &self,
        name: &str,
        media_type: &str,
        manifest: impl Into<Bytes>,
    ) -> Result<Reply, Failure> {
        let ask = Ask::new(Method::PUT, self.url(&format!("manifests/{name}"))?);
        self.send(&ask.with(media_type, manifest.into())).await
    }
}
