"""The TLS side of a source that others connect to."""

from __future__ import annotations

import ssl

from streamguard.errors import SourceError
from streamguard.sources.connection_settings import ListenTlsSettings


def server_context(source: str, tls: ListenTlsSettings) -> ssl.SSLContext:
    """With our certificate, TLS 1.2 or later. Raises SourceError for one that cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        password = tls.key_password.read() if tls.key_password is not None else None
    except ValueError as err:
        raise SourceError(source, f"tls: {err}") from err
    try:
        # Never None: without a password OpenSSL would ask for it on the terminal.
        context.load_cert_chain(tls.cert, tls.key, password or "")
    except (OSError, ValueError) as err:  # ssl.SSLError is an OSError
        reason = f"tls: cannot use {tls.cert} and {tls.key}: {_words(err)}"
        raise SourceError(source, reason) from err
    return context


def _words(err: OSError | ValueError) -> str:
    return (err.strerror if isinstance(err, OSError) else None) or str(err)
