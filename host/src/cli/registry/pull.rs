//! Getting a handler from a registry: the manifest, and the layer that it names.

use oci_client::manifest::{OciImageManifest, OciManifest};
use plugsock::{Digest, Fetched, HandlerError, Trust};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::manifest::{self, MANIFEST_MAX};
use super::reference::OciReference;
use super::session::{Ask, Session};
use super::token::Access;
use super::{Registry, RegistryError};

/// Where a registry says which digest it sends.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest that is what its digest says.
pub struct Found<T> {
    pub manifest: T,
    digest: Digest,
}

/// What a reference stood for.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    name: String,
    /// With the manifest's digest.
    reference: String,
    digest: Digest,
}

impl Registry {
    /// Gets a handler, no larger than is trusted.
    pub fn pull(&self, reference: &OciReference, trust: &Trust) -> Result<Fetched, RegistryError> {
        self.run(reference, Access::Pull, async |session| session.pull(trust).await)
    }

    /// The digest that a reference stands for now.
    pub fn resolve(&self, reference: &OciReference) -> Result<Digest, RegistryError> {
        self.run(reference, Access::Pull, async |session| session.resolve().await)
    }

    /// Gets a handler, and says what its reference stands for.
    pub fn fetch(&self, reference: &OciReference, trust: &Trust) -> Result<Fetched, HandlerError> {
        self.pull_and_keep(reference, trust).map_err(|error| error.of_handler(reference))
    }

    /// The same; or what it was when it was fetched last, while the registry does not answer.
    pub fn fetch_or_kept(&self, reference: &OciReference, trust: &Trust) -> Result<Fetched, HandlerError> {
        self.pull_and_keep(reference, trust).or_else(|error| match self.kept(reference, trust) {
            Some(kept) if error.is_passing() => {
                tracing::warn!("{reference} is taken as it was last, {}: {error}", kept.reference);
                Ok(kept)
            }
            _ => Err(error.of_handler(reference)),
        })
    }

    fn pull_and_keep(&self, reference: &OciReference, trust: &Trust) -> Result<Fetched, RegistryError> {
        let pulled = self.pull(reference, trust)?;
        if reference.digest().is_none() {
            tracing::info!("{reference} is {}", pulled.reference);
        }
        if let Some(kept) = &self.kept {
            let digest = Digest::of(&pulled.bytes);
            let Fetched { name, reference: exact, .. } = &pulled;
            kept.keep_component(digest, &pulled);
            kept.keep_note(
                &reference.to_string(),
                &Last { name: name.clone(), reference: exact.clone(), digest },
            );
        }
        Ok(pulled)
    }

    fn kept(&self, reference: &OciReference, trust: &Trust) -> Option<Fetched> {
        let kept = self.kept.as_ref()?;
        let Last { name, reference, digest } = kept.note(&reference.to_string())?;
        let (bytes, signatures) = kept.component(digest, trust.max_size)?;
        Some(Fetched { name, reference, bytes, signatures })
    }
}

impl Session<'_> {
    async fn resolve(&self) -> Result<Digest, Failure> {
        self.begin("get its digest");
        let (name, accepted) = (self.reference.asked(), manifest::accepted());
        let url = self.url(&format!("manifests/{name}"))?;
        let ask = Ask { method: Method::HEAD, ..Ask::get(url, &accepted, MANIFEST_MAX) };
        match self.send(&ask).await?.header(CONTENT_DIGEST).and_then(|digest| digest.parse().ok()) {
            Some(digest) => Ok(digest),
            // It need not say.
            None => Ok(self.manifest(name, self.reference.digest()).await?.digest),
        }
    }

    async fn pull(&self, trust: &Trust) -> Result<Fetched, Failure> {
        self.begin("get its manifest");
        let asked = self.manifest(self.reference.asked(), self.reference.digest()).await?;
        let found = match asked.manifest {
            OciManifest::Image(manifest) => Found { manifest, digest: asked.digest },
            OciManifest::ImageIndex(index) => {
                let digest = manifest::for_wasm(&index).map_err(Failure::lasting)?;
                match self.manifest(&digest.to_string(), Some(digest)).await?.manifest {
                    OciManifest::Image(manifest) => Found { manifest, digest },
                    OciManifest::ImageIndex(_) => return Err(Failure::lasting("it is an index of indexes")),
                }
            }
        };
        self.begin("get its component");
        let bytes = self.component(&found.manifest, trust.max_size).await?;
        let signatures = match trust.public_keys.is_empty() {
            true => Vec::new(),
            false => {
                self.begin("get its signatures");
                self.signatures(found.digest).await?
            }
        };
        Ok(Fetched {
            name: self.reference.name().to_owned(),
            reference: self.reference.at(asked.digest).to_string(),
            bytes,
            signatures,
        })
    }

    /// The manifest under a tag or a digest; where there is a digest it is that one or none.
    pub async fn manifest(&self, name: &str, digest: Option<Digest>) -> Result<Found<OciManifest>, Failure> {
        let (url, accepted) = (self.url(&format!("manifests/{name}"))?, manifest::accepted());
        let reply = self.send(&Ask::get(url, &accepted, MANIFEST_MAX)).await?;
        let sent = Digest::of(&reply.body);
        let said = reply.header(CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
        match digest.or(said) {
            Some(wanted) if wanted != sent => Err(not_that(wanted, sent)),
            _ => match serde_json::from_slice(&reply.body) {
                Ok(manifest) => Ok(Found { manifest, digest: sent }),
                Err(_) => Err(Failure::lasting("what it sends is neither a manifest nor an index of OCI")),
            },
        }
    }

    async fn component(&self, manifest: &OciImageManifest, most: u64) -> Result<Vec<u8>, Failure> {
        let layer = manifest::component(manifest).map_err(Failure::lasting)?;
        let size = u64::try_from(layer.size).unwrap_or_default();
        if size > most {
            return Err(Failure::lasting(format!(
                "it has {size} bytes, and {most} is the most that is loaded: --max-component-size may allow more"
            )));
        }
        self.blob(&layer.digest, size).await
    }

    /// A blob of so many bytes, which is what its digest says.
    pub async fn blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let wanted: Digest = digest
            .parse()
            .map_err(|_| Failure::lasting(format!("its digest '{digest:.100}' is not SHA-256")))?;
        let url = self.url(&format!("blobs/{wanted}"))?;
        let reply = self.send(&Ask { most: size, ..Ask::new(Method::GET, url) }).await?;
        match Digest::of(&reply.body) {
            sent if sent == wanted => Ok(reply.body),
            sent => Err(not_that(wanted, sent)),
        }
    }
}

fn not_that(wanted: Digest, sent: Digest) -> Failure {
    Failure::lasting(format!(
        "what it sends has the digest {sent} and not {wanted}: it is not what was asked for"
    ))
}
