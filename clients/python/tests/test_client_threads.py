"""One client shared by many threads and over a fork, with connections that stay open."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from client_testkit import LoopbackServer
from headrace import Client

THREADS = 16


def test_one_thread_needs_one_connection(headrace, key):
    with LoopbackServer(headrace) as server, Client(server.url, key) as client:
        for number in range(20):
            assert client.run("echo", {"n": number}) == {"n": number}
        assert server.connections == 1


def test_sixteen_threads_share_a_client(headrace, key):
    start = Barrier(THREADS)

    def work(thread):
        start.wait(10)
        return [client.run("echo", {"n": [thread, n]})["n"] for n in range(20)]

    with LoopbackServer(headrace) as server, Client(server.url, key) as client:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(work, range(THREADS)))
        assert found == [[[thread, n] for n in range(20)] for thread in range(THREADS)]
        assert server.connections == THREADS


def test_a_closed_client_opens_again(headrace, key):
    with LoopbackServer(headrace) as server:
        client = Client(server.url, key)
        client.models.list()
        client.close()
        client.models.list()
        assert server.connections == 2
        client.close()


def _run_in_child(client, results):
    results.put([client.run("echo", {"n": n})["n"] for n in range(5)])


def test_a_forked_child_has_connections_of_its_own(headrace, key):
    fork = multiprocessing.get_context("fork")
    with LoopbackServer(headrace) as server, Client(server.url, key) as client:
        client.models.list()
        results = fork.Queue()
        child = fork.Process(target=_run_in_child, args=(client, results))
        child.start()
        assert results.get(timeout=30) == [0, 1, 2, 3, 4]
        child.join(30)
        assert client.run("echo", {"n": 1}) == {"n": 1}
        assert server.connections == 2
