"""A live Prometheus scrapes each kind of process, and every panel and alert asks it something that it knows."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from app.embedded import leftovers, programs
from app.embedded.ports import Ports
from app.embedded.program import Program
from tests.support.killer import pids
from tests.support.prometheus import BINARY, Prometheus, prometheus
from tests.support.receiver import receiver
from tests.support.stacks import RunningStack, stack
from tests.support.waiting import wait_until
from tests.unit.test_alerts import queries
