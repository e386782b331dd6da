"""The rules of egress: which addresses and which URLs, and that no spelling gets around them."""

import re
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from app.domain.egress import Address, BadUrl, Blocked, EgressPolicy, Network, Refused
from app.settings import parse_networks
from tests.support import hostile

PUBLIC = EgressPolicy()
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
OPENED = EgressPolicy(allow_networks=parse_networks("10.0.0.0/8, fd00::/8"))

ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)
private = st.sampled_from(
    parse_networks(
        "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 127.0.0.0/8, 169.254.0.0/16, 100.64.0.0/10, 0.0.0.0/8"
    )
).flatmap(lambda network: st.ip_addresses(network=network))


def embeddings(ip: IPv4Address) -> list[IPv6Address]:
    """Every IPv6 address that stands for this IPv4 address somewhere."""
    inner = int(ip)
    return [
        IPv6Address(inner),
        IPv6Address(0xFFFF << 32 | inner),
        IPv6Address(0xFFFF << 48 | inner),
        IPv6Address((0x64 << 112) | (0xFF9B << 96) | inner),
        IPv6Address((0x64 << 112) | (0xFF9B << 96) | (1 << 80) | inner),
        IPv6Address((0x2002 << 112) | (inner << 80)),
        IPv6Address((0x2001 << 112) | (inner << 64)),
        IPv6Address((0x2001 << 112) | (inner ^ 0xFFFF_FFFF)),
    ]


@given(private)
def test_a_private_address_stays_refused_inside_whatever_it_is_put(ip: IPv4Address) -> None:
    assert not PUBLIC.address_allowed(ip)
    for embedded in embeddings(ip):
        assert not PUBLIC.address_allowed(embedded), embedded


@given(ipv4)
def test_mapped_and_nat64_are_judged_as_what_is_inside_and_other_tunnels_never_pass(ip: IPv4Address) -> None:
    compatible, mapped, translated, nat64, local_nat64, *tunnels = embeddings(ip)
    assert PUBLIC.address_allowed(mapped) == PUBLIC.address_allowed(ip)
    assert PUBLIC.address_allowed(nat64) == PUBLIC.address_allowed(ip)
    assert not any(map(PUBLIC.address_allowed, (compatible, translated, local_nat64, *tunnels)))


# Where this project is stricter than the registries' column "globally reachable", and why is beside each
# network in app/domain/egress.py.
STRICTER = parse_networks(
    "168.63.129.16, 192.80.8.124, 192.0.0.0/24, 192.31.196.0/24, 192.52.193.0/24, 192.175.48.0/24,"
    "192.88.99.0/24, 2001::/23, 2002::/16, 2620:4f:8000::/48, 3ffe::/16"
)


@pytest.mark.skipif(
    sys.version_info < (3, 12, 4) and not (3, 11, 10) <= sys.version_info < (3, 12),
    reason="this Python's is_global is older than the registries (CVE-2024-4032)",
)
@given(ipv4 | ipv6)
def test_it_is_as_python_says_but_where_this_is_stricter(ip: Address) -> None:
    assume(not any(ip in network for network in STRICTER))
    if isinstance(ip, IPv6Address):
        assume(not ip.ipv4_mapped)
        assume(ip in IPv6Network("2000::/3"))
    assert PUBLIC.address_allowed(ip) == (ip.is_global and not ip.is_multicast)


@given(ipv4 | ipv6)
def test_what_python_knows_not_to_be_global_is_never_allowed(ip: Address) -> None:
    if PUBLIC.address_allowed(ip):
        judged = ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
        if judged in IPv6Network("64:ff9b::/96"):
            judged = IPv4Address(int(judged) & 0xFFFF_FFFF)
        assert judged.is_global
        assert not judged.is_private
        assert not judged.is_multicast
        assert not judged.is_reserved


SPECIAL = parse_networks(
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24,"
    "192.0.2.0/24, 192.31.196.0/24, 192.52.193.0/24, 192.88.99.0/24, 192.168.0.0/16, 192.175.48.0/24,"
    "198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/4, 240.0.0.0/4, 255.255.255.255,"
    "168.63.129.16, 192.80.8.124,"
    "::1, ::, 64:ff9b:1::/48, 100::/64, 100:0:0:1::/64, 2001::/23, 2001::/32, 2001:1::1, 2001:2::/48,"
    "2001:3::/32, 2001:4:112::/48, 2001:10::/28, 2001:20::/28, 2001:30::/28, 2001:db8::/32, 2002::/16,"
    "2620:4f:8000::/48, 3ffe::/16, 3fff::/20, 5f00::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8"
)
NEIGHBOURS = parse_networks(
    "1.1.1.1, 8.8.8.8, 9.255.255.255, 11.0.0.0, 100.63.255.255, 100.128.0.0, 126.255.255.255, 128.0.0.0,"
    "168.63.129.15, 168.63.129.17, 169.253.255.255, 172.15.255.255, 172.32.0.0, 192.0.1.0, 198.17.255.255,"
    "198.20.0.0, 223.255.255.255, 2000::, 2001:200::, 2001:4860:4860::8888, 2003::, 2606:4700::1111, 2a00::1,"
    "64:ff9b::808:808"
)


@pytest.mark.parametrize("network", SPECIAL, ids=str)
def test_every_special_network_is_closed_to_its_ends(network: Network) -> None:
    assert not PUBLIC.address_allowed(network[0])
    assert not PUBLIC.address_allowed(network[-1])


@pytest.mark.parametrize("network", NEIGHBOURS, ids=str)
def test_their_neighbours_and_the_rest_of_the_internet_are_open(network: Network) -> None:
    assert PUBLIC.address_allowed(network[0])


def test_a_zone_is_never_allowed() -> None:
    everything = EgressPolicy(allow_networks=parse_networks("::/0"))
    assert everything.address_allowed(IPv6Address("fe80::1"))
    assert not everything.address_allowed(IPv6Address("fe80::1%eth0"))


LOOPBACK = ("127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1")
LISTED = ("10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "fd00:ec2::254")
NEVER = (
    "169.254.169.254",
    "192.168.0.1",
    "0.0.0.0",
    "::",
    "::2",
    "fc00::1",
    "64:ff9b::7f00:1",
    "2002:a00:1::",
)


@pytest.mark.parametrize(("policy", "opens"), [(PUBLIC, ()), (DEVELOPMENT, LOOPBACK), (OPENED, LISTED)])
def test_a_policy_opens_what_it_says_and_nothing_else(policy: EgressPolicy, opens: tuple[str, ...]) -> None:
    for address in LOOPBACK + LISTED + NEVER:
        assert policy.address_allowed(ip_address(address)) == (address in opens), address


def test_networks_are_read_from_a_list() -> None:
    assert parse_networks("") == ()
    assert parse_networks(" 10.0.0.0/8 ,fd00::/8, 192.0.2.7,") == (
        IPv4Network("10.0.0.0/8"),
        IPv6Network("fd00::/8"),
        IPv4Network("192.0.2.7/32"),
    )


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("fd00::1/8", "write fd00::/8"),
        ("10.0.0.0/33", "write it like 10.0.0.0/8"),
        ("intranet", "write it like 10.0.0.0/8"),
        ("10.0.0.0/8 fd00::/8", "write it like 10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "write the IPv4 network"),
    ],
)
def test_a_wrong_network_is_named_with_what_would_be_right(text: str, right: str) -> None:
    with pytest.raises(ValueError, match=right) as refused:
        parse_networks(f"192.168.0.0/16, {text}")
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("policy", [PUBLIC, EgressPolicy(allow_http=True)], ids=["https", "http"])
@pytest.mark.parametrize(("url", "why"), hostile.URLS, ids=ascii)
def test_hostile_urls_are_refused_without_being_repeated(url: str, why: str, policy: EgressPolicy) -> None:
    for spelling in (url, url.replace("https", "http", 1), url.replace("https", "HTTPS", 1)):
        url = spelling.replace("PORT", "8443")
        with pytest.raises(Refused) as refused:
            policy.check_url(url)
        assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://EXAMPLE.com:8443/a/b?c=d&e=%20",
        "HTTPS://example.com?x=[1]",
        "https://[2606:4700::1111]/",
        "https://xn--mnchen-3ya.example/",
        "https://8.8.8.8:1/hook",
        "https://8.8.8.8:65535//a@b:c",
        "https://my_hook.example/",
        "https://1password.example/",
        "https://127.0.0.1.nip.io/",
        "https://a-b--c.0x7f.example/",
        f"https://{'a' * 63}.example/",
    ],
)
def test_urls_of_public_hosts_pass(url: str) -> None:
    PUBLIC.check_url(url)


@pytest.mark.parametrize(
    ("url", "policies"),
    [
        ("http://example.com/", [DEVELOPMENT]),
        ("https://localhost:8443/", [DEVELOPMENT]),
        ("https://a.localhost/", [DEVELOPMENT]),
        ("https://127.0.0.1/", [DEVELOPMENT]),
        ("https://[::1]/", [DEVELOPMENT]),
        ("https://10.0.0.1/", [OPENED]),
        ("https://[fd00::1]/", [OPENED]),
        ("https://192.168.0.1/", []),
        ("https://receiver/", [OPENED]),
        ("https://receiver.namespace.svc.cluster.local/", [OPENED]),
        ("https://receiver.internal/", [OPENED]),
        ("https://receiver.home.arpa/", [OPENED]),
        ("https://[::ffff:127.0.0.1]/", []),
        ("https://[::ffff:808:808]/", []),
        ("https://[64:ff9b::808:808]/", []),
        ("https://2130706433/", []),
    ],
)
def test_what_a_policy_opens_may_be_named(url: str, policies: list[EgressPolicy]) -> None:
    for policy in (PUBLIC, DEVELOPMENT, OPENED):
        if policy in policies:
            policy.check_url(url)
        else:
            with pytest.raises(Refused):
                policy.check_url(url)


@pytest.mark.parametrize(
    ("url", "error", "right"),
    [
        ("ftp://example.com/", BadUrl, "must be an absolute https URL"),
        ("http://example.com/", BadUrl, "must be an absolute https URL"),
        ("https://user:secret@example.com/", BadUrl, "must not hold credentials"),
        ("https://example.com/#top", BadUrl, "must not have a fragment"),
        ("https://example.com:70000/", BadUrl, "must have a port from 1 to 65535, or none"),
        ("https://exa%6dple.com/", BadUrl, "letters, digits, hyphens and dots"),
        ("https://2130706433/", Blocked, "usual form, like 203.0.113.7"),
        ("https://10.0.0.1/", Blocked, "must name a host on the public internet"),
        ("https://localhost/", Blocked, "must name a host on the public internet"),
    ],
)
def test_a_refusal_says_what_would_be_right(url: str, error: type[Refused], right: str) -> None:
    with pytest.raises(error, match=right):
        PUBLIC.check_url(url)


hosts = st.one_of(
    st.sampled_from(
        ["example.com", "EXAMPLE.com", "8.8.8.8", "[2606:4700::1111]", "x_y.example", "0x7f.1.com"]
    ),
    st.text("aZ0189xf.-_:[]%@\\", max_size=12),
    st.builds(str, ipv4),
    st.builds("[{}]".format, ipv6),
)
ports = st.sampled_from(["", ":1", ":443", ":65536"])
rests = st.text("aZ09/?:@%+&=;,.[]#~!$'()*-_ \\\t", max_size=12)


@given(st.sampled_from(["https", "HTTPS", "http"]), hosts, ports, rests)
def test_the_client_reads_what_was_checked(scheme: str, host: str, port: str, rest: str) -> None:
    url = f"{scheme}://{host}{port}{rest}"
    try:
        EgressPolicy(allow_http=True, allow_networks=parse_networks("0.0.0.0/0, ::/0")).check_url(url)
    except Refused:
        return
    authority, path = re.split("(?=[/?])|$", url.partition("://")[2], maxsplit=1)
    read = URL(url, encoded=True)
    assert read.scheme == scheme.lower()
    assert authority == f"{read.host_subcomponent}:{read.explicit_port}".removesuffix(":None")
    assert (read.user, read.password, read.fragment) == (None, None, "")
    assert read.raw_path_qs.strip("/?") == path.strip("/?")
