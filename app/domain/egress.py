"""Where a request may go whose URL a tenant named: the rules, without DNS and without sockets.

A URL is judged twice: by `check_url` when it is given, so that its owner learns of a mistake at once, and
by `workers/egress.py` whenever it is called, by the addresses its name has at that moment. Only the second
protects the network: a name may lead elsewhere a second later.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from app.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Refused(ValueError):
    """A URL that is not called. The message is for its owner and repeats nothing of it."""


class BadUrl(Refused):
    """Not a URL of the kind that is called at all: its shape or its scheme."""


class Blocked(Refused):
    """A URL of a host that this server must not call."""


_NOT_A_WEB_ADDRESS = "must be an absolute https URL"
_NOT_PUBLIC = "must name a host on the public internet"

# IANA's special-purpose registries (RFC 6890), https://www.iana.org/assignments/iana-ipv4-special-registry
# and …/iana-ipv6-special-registry, and its registries of the whole spaces. Written out because
# `ipaddress.is_global` lacks some of them before Python 3.11.10 and 3.12.4 (CVE-2024-4032), and says yes to
# some of these in every version.
_NOT_PUBLIC_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host on this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers (CGNAT); Alibaba's metadata is 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's WireServer, on an address that is otherwise global
        "169.254.0.0/16",  # link-local; most clouds' metadata is 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; Oracle's metadata is 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112 anycast: the nearest node answers, perhaps one inside
        "192.52.193.0/24",  # AMT relays, anycast
        "192.80.8.124/32",  # Equinix Metal's metadata, on an address that is otherwise global
        "192.88.99.0/24",  # 6to4 relays, anycast
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112 anycast
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
# All of IPv6 that is for the public internet lies in here. Outside are loopback, link-local, unique local
# (the metadata of AWS, GCP and Scaleway), multicast, IPv4-compatible, local NAT64 and segment routing.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols: Teredo, benchmarks, ORCHID, anycast services
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address is inside, and the relay that unpacks it is not ours
        "2620:4f:8000::/48",  # AS112 anycast
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
# What a DNS64 server makes of IPv4 addresses where hosts have IPv6 only: judged by what is inside.
_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


@dataclass(frozen=True)
class EgressPolicy:
    """Which URLs and addresses are called. As it stands: https to the public internet, nothing else."""

    allow_http: bool = False
    allow_loopback: bool = False
    allow_networks: tuple[Network, ...] = ()
    """What an operator opens beyond the public internet, whatever is there."""

    @classmethod
    def of(cls, settings: Settings) -> "EgressPolicy":
        """What the operator allows."""
        local = settings.allow_local_webhooks
        return cls(allow_http=local, allow_loopback=local, allow_networks=settings.allow_networks)

    def address_allowed(self, ip: Address) -> bool:
        """Whether a connection may be made to this address."""
        if isinstance(ip, IPv6Address):
            if ip.scope_id is not None:
                return False
            ip = ip.ipv4_mapped or ip
        opened = self.allow_networks + (_LOOPBACK if self.allow_loopback else ())
        return any(ip in network for network in opened) or _is_public(ip)

    def check_url(self, url: str) -> None:
        """Raise `BadUrl` or `Blocked` for a URL that can't be meant to be called, whatever DNS says.

        What passes is absolute http(s), with a host that every reader of URLs understands alike: a name
        of plain labels, or an allowed IP address in the one form that inet_ntop gives it.
        """
        scheme, host, port = _read(url)
        if scheme != "https" and not (self.allow_http and scheme == "http"):
            raise BadUrl(_NOT_A_WEB_ADDRESS)
        if port is not None and not (re.fullmatch("[1-9][0-9]{0,4}", port) and int(port) <= 65_535):
            raise BadUrl("must have a port from 1 to 65535, or none")
        literal = _literal(host)
        if literal is not None:
            if not self.address_allowed(literal):
                raise Blocked(_NOT_PUBLIC)
        elif len(host) > 253 or not _NAME.fullmatch(host):
            raise BadUrl("must name its host by letters, digits, hyphens and dots between them")
        elif not self._name_allowed(host):
            raise Blocked(_NOT_PUBLIC)

    def _name_allowed(self, name: str) -> bool:
        """Names that only mean something inside, by RFC 6761, 6762, 8375 and ICANN's `internal`."""
        top = name.rpartition(".")[2]
        if top == "localhost":
            return self.allow_loopback
        if top == name or top in ("local", "internal") or f".{name}".endswith(".home.arpa"):
            return bool(self.allow_networks)
        return True


def _is_public(ip: Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_IPV4)
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFF_FFFF))
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _NOT_PUBLIC_IPV6)


# RFC 3986 without what readers of URLs disagree about. The backslash, which browsers take for a slash, and
# the other characters that a URL must not have go first.
_FORBIDDEN = re.compile(r'[^!-~]|[\\"<>^`{|}]')
_SHAPE = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?]*)(?:[/?].*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>.*))?")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# WHATWG's rule: a host whose last label is a number is meant as an IPv4 address, and inet_aton takes many.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.*")


def _read(url: str) -> tuple[str, str, str | None]:
    """Scheme, host in lower case, and port as written."""
    shape = None if _FORBIDDEN.search(url) else _SHAPE.fullmatch(url)
    if shape is None:
        raise BadUrl(_NOT_A_WEB_ADDRESS)
    if "#" in url:
        raise BadUrl("must not have a fragment")
    if "@" in shape["authority"]:
        raise BadUrl("must not hold credentials")
    authority = _AUTHORITY.fullmatch(shape["authority"])
    if authority is None:
        raise BadUrl(_NOT_A_WEB_ADDRESS)
    return shape["scheme"].lower(), authority["host"].lower(), authority["port"]


def _literal(host: str) -> Address | None:
    """The IP address that the host is, None if it is a name. Raises `Blocked` for uncanonical spellings."""
    try:
        ip: Address
        if host.startswith("["):
            ip = IPv6Address(host[1:-1])
            # An IPv4 address in disguise is one of its other spellings.
            canonical = str(ip) == host[1:-1] and ip not in _MAPPED and ip not in _NAT64
        elif _NUMERIC.fullmatch(host):
            ip = IPv4Address(host)
            canonical = str(ip) == host
        else:
            return None
    except ValueError:
        canonical = False
    if not canonical:
        raise Blocked("must write an IP address in its usual form, like 203.0.113.7 or [2001:db8::7]")
    return ip
