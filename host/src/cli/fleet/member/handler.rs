//! How a slot's handler becomes another: as by any other swap, loaded by the host's own rules.

use plugsock::{Digest, Fetched, HandlerError, Loader, Sandbox, Source, SwapError, SwapOptions, Swapped};

use super::super::records::Version;
use super::job::{NotTaken, Work};
use super::subject::{Brought, Places};
use crate::cli::registry::{OciReference, Registry};
use crate::cli::running::Plug;

/// `is_fleets` says whether it is the fleet's word, and not what this host was started with.
pub(super) fn swap(plug: Plug, source: Source, is_fleets: bool, how: SwapOptions) -> Work {
    Box::new(move || {
        let swapped = plug.slot.swap_with(source, how);
        swapped.map(|_: Swapped| plug.held.set(is_fleets)).map_err(|error| match error {
            SwapError::Handler(HandlerError::Fetch { .. } | HandlerError::Read { .. })
            | SwapError::Superseded
            | SwapError::Prepare(_) => NotTaken::NotYet(error.to_string()),
            other => NotTaken::Refused(other.to_string()),
        })
    })
}

/// What a swap loads: what was brought, or else what the registry has, by the same rules as anything else.
pub(super) fn source(places: Places, version: Version, brought: Option<Brought>) -> Source {
    Loader::new(move |sandbox, _| {
        let untrusted = |reason| HandlerError::Untrusted { name: version.name.clone(), reason };
        let fetched = fetched(&places.registry, &version, brought, sandbox)?;
        let found = Digest::of(&fetched.bytes);
        if found != version.digest {
            return Err(untrusted(format!("its digest is {found}, and the fleet says {}", version.digest)));
        }
        if !sandbox.trust().public_keys.is_empty() && fetched.signatures.is_empty() {
            return Err(untrusted("a signature is required (--public-key), and it has none: `plugsock fleet push --sign` adds one".to_owned()));
        }
        // Also where there is a --digest: the fleet's word for another does not count.
        let handler = sandbox.load_fetched(&fetched, None)?;
        places.kept.keep_component(version.digest, &fetched);
        Ok(handler)
    })
    .into()
}

fn fetched(
    registry: &Registry,
    version: &Version,
    brought: Option<Brought>,
    sandbox: &Sandbox,
) -> Result<Fetched, HandlerError> {
    let unfit = |reason| HandlerError::Unfit { name: version.name.clone(), reason };
    let mut fetched = match (brought, &version.source) {
        (Some((bytes, signatures)), source) => Fetched {
            name: version.name.clone(),
            reference: source.clone().unwrap_or_else(|| format!("fleet:{}", version.digest)),
            bytes,
            signatures,
        },
        (None, Some(reference)) => {
            let reference: OciReference = reference.parse().map_err(unfit)?;
            registry.fetch(&reference, sandbox.trust())?
        }
        (None, None) => return Err(unfit("it is nowhere".to_owned())),
    };
    let of_record = version.signature.iter().filter(|signature| !fetched.signatures.contains(signature));
    let of_record: Vec<String> = of_record.cloned().collect();
    fetched.signatures.extend(of_record);
    Ok(fetched)
}
