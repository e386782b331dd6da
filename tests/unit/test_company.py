"""A child knows whether several tenants' jobs came to it lately."""

from types import SimpleNamespace
from typing import Any

from workers.company import LATELY_S, Company


def of(*tenants: int) -> Any:
    return [SimpleNamespace(tenant_id=tenant) for tenant in tenants]


def test_several_tenants_are_company_for_a_while() -> None:
    now = [0.0]
    company = Company(lambda: now[0])
    company.note(of(1, 1))
    assert not company.several
    company.note(of(2))
    assert company.several
    now[0] = LATELY_S
    company.note(of(2))
    assert not company.several


def test_thousands_of_tenants_are_not_kept_and_company_ends_when_it_would() -> None:
    now = [0.0]
    company = Company(lambda: now[0])
    for tenant in range(5000):
        company.note(of(tenant))
    assert company.several
    assert len(company._seen) == 2
    now[0] = LATELY_S / 2
    company.note(of(7))
    assert company.several
    now[0] = LATELY_S
    company.note(of(7))
    assert not company.several
