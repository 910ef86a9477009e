"""TLS as a client: who is trusted."""

from __future__ import annotations

import ssl

import certifi


def verifying_context() -> ssl.SSLContext:
    """Trusts what this machine trusts (OpenSSL's own places, `SSL_CERT_FILE` included) and Mozilla's list, which
    minimal machines lack. Names are checked. Reads files: not for the event loop."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
