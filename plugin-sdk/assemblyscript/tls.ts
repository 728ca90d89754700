// What is known of a protected connection, and why one is not protected.

/** How a connection is protected. */
export class TlsInfo {
  /** `TLSv1.2` or `TLSv1.3`. */
  protocol: string = "";
  /** The cipher suite, by its name at IANA. */
  cipherSuite: string = "";
  /** The name that the client asked for (SNI). */
  serverName: string | null = null;
  /** The application protocol that both agreed on (ALPN). */
  alpn: string | null = null;
  /** Whether an earlier session was resumed. */
  resumed: bool = false;
  /** The client's certificate, which was verified, and what it sent to verify it by, in DER. */
  clientCertificates: Uint8Array[] = [];
  /** Whom the client's certificate is for. */
  clientNames: string[] = [];
}

/** The contract's, in its order. */
export const enum TlsErrorKind {
  HANDSHAKE_FAILED,
  CERTIFICATE_REFUSED,
  /** The end came without notice, so that what the client sent may be cut short. */
  CLOSED_WITHOUT_NOTICE,
  /** The client had sent bytes in the clear that nobody has read. */
  UNPROTECTED_BYTES,
  /** The connection is as it was. */
  NO_IDENTITY,
  /** The connection stays so. */
  ALREADY_PROTECTED,
  CONNECTION,
}

/** Why a connection could not be protected, or is protected no more. */
export class TlsError {
  /** The alert that ended the handshake, by its name in RFC 8446. */
  alert: string | null = null;
  /** What was wrong, in words. */
  message: string;

  constructor(public kind: TlsErrorKind) {
    this.message = beginning(kind);
  }
}

function beginning(kind: TlsErrorKind): string {
  switch (kind) {
    case TlsErrorKind.HANDSHAKE_FAILED:
      return "the TLS handshake failed: ";
    case TlsErrorKind.CERTIFICATE_REFUSED:
      return "the client's certificate is refused: ";
    case TlsErrorKind.CLOSED_WITHOUT_NOTICE:
      return "the client closed the connection without notice, so that its data may be cut short";
    case TlsErrorKind.UNPROTECTED_BYTES:
      return "the client sent data in the clear where TLS was to begin";
    case TlsErrorKind.NO_IDENTITY:
      return "the server has no certificate for this: ";
    case TlsErrorKind.ALREADY_PROTECTED:
      return "the connection is protected already";
    default:
      return "";
  }
}
