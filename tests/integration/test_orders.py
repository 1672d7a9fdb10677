#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# CTest: TIMEOUT=180
"""The order service's promises over HTTP: idempotent, never oversold, clear refusals, nothing lost at its end."""
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest

BIN = os.environ["SLUICE_BIN"] + "/examples"
SCALE = int(os.environ.get("SLUICE_SCALE", "1"))


class Service:
    """A running order service on a file; ended by stop()."""

    def __init__(self, path, *options):
        self.path = path
        self.process = subprocess.Popen([BIN + "/orders", "--db", path, *options], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        match = re.match(r"ready http=http://(\S+):(\d+)", line)
        if not match:
            self.process.wait()
            raise RuntimeError(f"not ready: {line!r}, exit code {self.process.returncode}")
        self.address = (match[1], int(match[2]))
        self.url = f"http://{match[1]}:{match[2]}"

    def connection(self):
        return http.client.HTTPConnection(*self.address, timeout=60)

    def call(self, method, path, body=None, headers=None, connection=None):
        """One request; gives (status, JSON document, headers)."""
        own = connection or self.connection()
        own.request(method, path, body, headers or {})
        answer = own.getresponse()
        text = answer.read()
        if not connection:
            own.close()
        return answer.status, json.loads(text) if text else None, answer.headers

    def order(self, key, sku, quantity, connection=None):
        body = json.dumps({"sku": sku, "quantity": quantity})
        return self.call("POST", "/orders", body, {"Idempotency-Key": key}, connection)

    def remaining(self, sku):
        status, document, _ = self.call("GET", f"/stock/{sku}")
        assert status == 200, (status, document)
        return document["remaining"]

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code


def in_parallel(n, work):
    """Runs work(i) on n threads that begin together; gives the results, raises what one of them raised."""
    results, start = [None] * n, threading.Barrier(n)

    def run(i):
        start.wait()
        try:
            results[i] = work(i)
        except BaseException as error:  # pylint: disable=broad-except
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class OrdersTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.db = self.directory.name + "/orders.db"
        self.services = []

    def tearDown(self):
        codes = [service.stop() for service in self.services if service.process.poll() is None]
        for service in self.services:
            service.process.stdout.close()
        self.directory.cleanup()
        self.assertEqual(codes, [0] * len(codes), "SIGTERM ends the service with 0")

    def start(self, *options):
        self.services.append(Service(self.db, *options))
        return self.services[-1]

    def judge(self, log, code=0):
        done = subprocess.run([BIN + "/judge", "--db", self.db, "orders", log], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return dict(re.findall(r"(\w+)=(\w+)", done.stdout))

    def test_an_order_takes_its_quantity_from_the_stock_and_can_be_read_back(self):
        service = self.start("--stock", "widget=10")
        status, order, _ = service.order("a", "widget", 3)
        self.assertEqual(status, 201)
        self.assertEqual((order["sku"], order["quantity"]), ("widget", 3))
        self.assertEqual(service.call("GET", f"/orders/{order['id']}")[:2], (200, order))
        self.assertEqual(service.remaining("widget"), 7)
        self.assertEqual(service.call("GET", "/healthz")[0], 200)
        stats = service.call("GET", "/stats")[1]
        self.assertEqual(stats["http"]["placed"], 1)
        self.assertGreater(stats["store"]["writes"], 0)

    def test_the_same_key_again_gives_the_first_answer_and_another_body_is_refused(self):
        service = self.start("--stock", "widget=10")
        first = service.order("a", "widget", 3)
        again = service.order("a", "widget", 3)
        self.assertEqual((again[0], again[1]), (200, first[1]))
        self.assertEqual(again[2]["Idempotent-Replay"], "true")
        self.assertIsNone(first[2]["Idempotent-Replay"])
        self.assertEqual(service.order("a", "widget", 4)[0], 422)
        self.assertEqual(service.order("a", "gadget", 3)[0], 422)
        self.assertEqual(service.remaining("widget"), 7)

    def test_one_key_sent_by_many_at_once_is_one_order(self):
        service = self.start("--stock", "widget=1000")
        answers = in_parallel(16, lambda i: service.order("same", "widget", 5))
        self.assertEqual(sorted(a[0] for a in answers), [200] * 15 + [201])
        self.assertEqual(len({a[1]["id"] for a in answers}), 1)
        self.assertEqual(service.remaining("widget"), 995)

    def test_the_stock_is_never_oversold(self):
        service = self.start("--stock", "widget=20")
        answers = in_parallel(32, lambda i: service.order(f"k{i}", "widget", 1))
        self.assertEqual(sorted(a[0] for a in answers), [201] * 20 + [409] * 12)
        self.assertEqual(service.remaining("widget"), 0)
        status, document, _ = service.order("late", "widget", 1)
        self.assertEqual((status, document["error"]), (409, "sold_out"))
        self.assertEqual(service.stop(), 0)
        with sqlite3.connect(self.db) as db:
            self.assertEqual(db.execute("SELECT count(*), sum(quantity) FROM orders").fetchone(), (20, 20))
            with self.assertRaises(sqlite3.IntegrityError):
                db.execute("UPDATE stock SET remaining = -1")

    def test_a_refused_key_is_not_used_up(self):
        service = self.start("--stock", "widget=5")
        self.assertEqual(service.order("a", "widget", 6)[0], 409)
        self.assertEqual(service.remaining("widget"), 5)
        self.assertEqual(service.order("a", "widget", 5)[0], 201)

    def test_what_is_wrong_is_said(self):
        service = self.start("--stock", "widget=10")
        key = {"Idempotency-Key": "k"}
        good = '{"sku": "widget", "quantity": 1}'
        bad_bodies = ["", "nonsense", "[]", "{}", '{"sku": "widget"}', '{"quantity": 1}', '{"sku": 1, "quantity": 1}',
                      '{"sku": "widget", "quantity": "1"}', '{"sku": "widget", "quantity": 0}',
                      '{"sku": "widget", "quantity": -1}', '{"sku": "widget", "quantity": 1.5}',
                      '{"sku": "widget", "quantity": 99999999999999999999}', '{"sku": "", "quantity": 1}',
                      '{"sku": "%s", "quantity": 1}' % ("x" * 65), '{"sku": "a b", "quantity": 1}',
                      '{"sku": "a\\u0000b", "quantity": 1}', '{"sku": "widget", "sku": "widget", "quantity": 1}',
                      b'\xff\xfe', good[:-1]]
        for body in bad_bodies:
            status, document, _ = service.call("POST", "/orders", body, key)
            self.assertEqual((status, document["error"]), (400, "bad_order"), body)
        for bad_key in [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 129}, {"Idempotency-Key": "a b"}]:
            status, document, _ = service.call("POST", "/orders", good, bad_key)
            self.assertEqual((status, document["error"]), (400, "bad_key"), bad_key)
        self.assertEqual(service.order("k", "nothing", 1)[0], 404)
        for path in ["/", "/nowhere", "/orders/", "/orders/x", "/orders/0", "/orders/-1", "/orders/1",
                     "/orders/99999999999999999999", "/stock/", "/stock/nothing", "/stock/a%20b"]:
            self.assertEqual(service.call("GET", path)[0], 404, path)
        for method, path, allow in [("GET", "/orders", "POST"), ("DELETE", "/orders/1", "GET, HEAD"),
                                    ("POST", "/stock/widget", "GET, HEAD"), ("PUT", "/stats", "GET, HEAD")]:
            status, _, headers = service.call(method, path, "{}" if method in ("POST", "PUT") else None)
            self.assertEqual((status, headers["Allow"]), (405, allow), path)
        self.assertEqual(service.remaining("widget"), 10)
        self.assertEqual(service.order("k", "widget", 1)[0], 201, "after all that it still serves")

    def test_a_huge_body_is_refused_without_being_kept(self):
        service = self.start("--stock", "widget=10")
        with socket.create_connection(service.address, timeout=60) as raw:
            raw.sendall(b"POST /orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 900000000\r\n\r\n")
            self.assertIn(b" 413 ", raw.recv(4096))
        body = (b"x" * 1000 for _ in range(100))  # chunked: it does not say how long it is
        self.assertEqual(service.call("POST", "/orders", body, {"Idempotency-Key": "k"})[0], 413)
        with self.assertRaises((OSError, http.client.HTTPException)):  # and one without end is cut
            service.call("POST", "/orders", (b"x" * 65536 for _ in range(1000)), {"Idempotency-Key": "k"})
        with socket.create_connection(service.address, timeout=60) as raw:
            raw.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            raw.recv(4096)
        self.assertEqual(service.order("k", "widget", 1)[0], 201)

    def test_a_full_queue_says_so_and_nothing_was_done(self):
        service = self.start("--stock", "widget=100000", "--max-pending", "1")
        refused, placed = [], []

        def buy(i):
            connection = service.connection()
            for n in range(200 // SCALE):
                while True:
                    status, document, headers = service.order(f"{i}.{n}", "widget", 1, connection)
                    if status != 503:
                        break
                    self.assertGreaterEqual(int(headers["Retry-After"]), 1)
                    self.assertEqual(document["error"], "overloaded")
                    refused.append(i)
                self.assertEqual(status, 201, document)
                placed.append(document["id"])
            connection.close()

        in_parallel(16, buy)
        self.assertGreater(len(refused), 0)
        self.assertEqual(len(set(placed)), 16 * (200 // SCALE))
        self.assertEqual(service.remaining("widget"), 100000 - len(placed))

    def test_sigterm_under_load_answers_what_has_begun_and_loses_nothing(self):
        service = self.start("--stock", "widget=100000000")
        acknowledged, ended = {}, threading.Event()
        cut = []

        def buy(i):
            connection = service.connection()
            for n in range(1000000):
                key = f"{i}.{n}"
                try:
                    connection.request("POST", "/orders", '{"sku": "widget", "quantity": 2}',
                                       {"Idempotency-Key": key})
                except OSError:
                    return  # no longer accepted: fine
                try:
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    cut.append(key)  # sent into a closing connection: not acknowledged
                    return
                if answer.status == 503:
                    return
                self.assertEqual(answer.status, 201)
                acknowledged[key] = json.loads(text)["id"]
                if len(acknowledged) >= 300 // SCALE:
                    ended.set()

        threads = [threading.Thread(target=buy, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        self.assertTrue(ended.wait(60))
        self.assertEqual(service.stop(), 0)
        for thread in threads:
            thread.join()
        with sqlite3.connect(self.db) as db:
            rows = dict(db.execute("SELECT key, id FROM orders"))
            sold = db.execute("SELECT at_first - remaining FROM stock").fetchone()[0]
        self.assertEqual({k: rows.get(k) for k in acknowledged}, acknowledged)
        self.assertEqual(sold, 2 * len(rows))
        self.assertLessEqual(set(rows) - set(acknowledged), set(cut))

    def test_kill_nine_under_load_loses_no_acknowledged_order(self):
        log = self.directory.name + "/ack.log"
        for _ in range(3):
            service = self.start("--stock", "widget=100000000")
            load = subprocess.Popen([BIN + "/orders-load", "--url", service.url, "--clients", "8", "--log", log],
                                    stdout=subprocess.PIPE, text=True)
            self.addCleanup(load.kill)
            begun = sum(1 for _ in open(log, encoding="ascii")) if os.path.exists(log) else 0
            for _ in range(60):  # one line of counters each second
                load.stdout.readline()
                if sum(1 for _ in open(log, encoding="ascii")) > begun + 20:
                    break
            self.assertEqual(service.stop(signal.SIGKILL), -signal.SIGKILL)
            load.terminate()
            self.assertEqual(load.wait(timeout=60), 0, "every answer was as it must be")
            load.stdout.close()
        service = self.start()
        self.assertEqual(service.stop(), 0)
        verdict = self.judge(log)
        self.assertGreater(int(verdict["acknowledged"]), 60)
        self.assertEqual((verdict["lost"], verdict["doubled"], verdict["integrity"]), ("0", "0", "ok"))

    def test_a_second_owner_is_refused(self):
        self.start()
        done = subprocess.run([BIN + "/orders", "--db", self.db], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("locked", done.stderr)
        for wrong in [[], ["--db"], ["--db", "x", "--http", "nonsense"], ["--db", "x", "--bogus"]]:
            done = subprocess.run([BIN + "/orders", *wrong], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2, wrong)
        for bad_path in [self.directory.name, "/nonexistent/x.db"]:
            done = subprocess.run([BIN + "/orders", "--db", bad_path], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1, bad_path)
            self.assertNotEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
