"""Where a server listens, and whose address that is."""

import ipaddress
import socket

from rlm.errors import RlmError


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only be this machine's."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A socket that listens; port 0 is any that is free. Raises RlmError where it cannot."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as e:
        why = getattr(e, "strerror", None) or e
        raise RlmError(f"cannot listen at {host}, port {port}: {why}; give another --port or --host") from e


def address(host: str, listens: socket.socket) -> str:
    """The address of what listens, as a client writes it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listens.getsockname()[1]}/"
