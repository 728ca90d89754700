//! How a connection is protected, in the contract's words.

use super::contract::types;
use crate::tls::{TlsError, TlsFailure, TlsInfo};

pub(super) fn contract_info(info: &TlsInfo) -> types::TlsInfo {
    types::TlsInfo {
        protocol: info.protocol.clone(),
        cipher_suite: info.cipher_suite.clone(),
        server_name: info.server_name.clone(),
        alpn: info.alpn.clone(),
        resumed: info.resumed,
        client_certificates: info.client_certificates.clone(),
        client_names: info.client_names(),
    }
}

pub(super) fn contract_error(error: &TlsError) -> types::TlsError {
    match error {
        TlsError::HandshakeFailed(TlsFailure { alert, message }) => {
            let (alert, message) = (alert.clone(), message.clone());
            types::TlsError::HandshakeFailed(types::TlsFailure { alert, message })
        }
        TlsError::CertificateRefused(reason) => types::TlsError::CertificateRefused(reason.clone()),
        TlsError::ClosedWithoutNotice => types::TlsError::ClosedWithoutNotice,
        TlsError::UnprotectedBytes => types::TlsError::UnprotectedBytes,
        TlsError::NoIdentity(reason) => types::TlsError::NoIdentity(reason.clone()),
        TlsError::AlreadyProtected => types::TlsError::AlreadyProtected,
        TlsError::Unsupported => types::TlsError::Connection(types::Error::Unsupported),
        TlsError::TimedOut => types::TlsError::Connection(types::Error::TimedOut),
        TlsError::Host(reason) | TlsError::Connection(reason) => {
            types::TlsError::Connection(types::Error::Other(reason.clone()))
        }
    }
}
