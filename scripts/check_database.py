#!/usr/bin/env python3
"""Fine-tunes over HTTP with jobs in a PostgreSQL of its own, kills the server and then the database, and looks whether anything is lost.

    apt-get install -y postgresql
    python3 scripts/check_database.py [--tool target/debug/gemma-tune] [--model FOLDER] [--postgres /usr/lib/postgresql/15/bin] [--keep]

Needs no package of Python. The database is begun in a folder of its own, with a socket there and a free port of loopback, by a user who is
not root (`postgres`, else `nobody`), asks for a password (SCRAM), and is gone at the end. Without --model a tiny one is made of tests/goldens.
Looked at: what is refused and how it is said, that two servers never have one database, that jobs run in their order and one at a time
through `kill -9` of the server and an immediate stop of PostgreSQL, that chats are answered meanwhile, each step is told once, a server with
another folder or another database is refused, and that no password stands in any log or file. With --keep the folder stays.
"""

import argparse
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from check_studio import tiny_model

PASSWORD = "s3cret-of-the-jobs"
WRONG = "s3cret-that-is-wrong"
KEY = "key-of-one"
STEPS = 300

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tool", default="target/debug/gemma-tune")
parser.add_argument("--model", help="a model's folder")
parser.add_argument("--postgres", help="the folder with initdb and postgres; without it the newest of Debian's")
parser.add_argument("--keep", action="store_true")


def check(is_so, what):
    if not is_so:
        sys.exit(f"error: {what}")


class Postgres:
    """A database server in a folder, which runs while it is used."""

    def __init__(self, programs, folder):
        self.programs, self.data, self.log = programs, folder / "data", folder / "postgres.log"
        self.socket = folder / "socket"
        self.socket.mkdir()
        self.user = []
        if os.geteuid() == 0:
            name = next((name for name in ("postgres", "nobody") if has_user(name)), None)
            check(name, "there is no user `postgres` or `nobody`, and PostgreSQL does not run as root")
            entry = pwd.getpwnam(name)
            for path in (folder, self.socket):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            self.user = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = folder / "superuser"
        secret.write_text(PASSWORD + "\n")
        if self.user:
            os.chown(secret, entry.pw_uid, entry.pw_gid)
        self.run("initdb", "-D", self.data, "-U", "root_of_db", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync")
        secret.unlink()
        self.start()

    def run(self, program, *words):
        command = [*self.user, str(self.programs / program), *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
        check(done.returncode == 0, f"{program}: {done.stdout}")
        return done.stdout

    def start(self):
        options = f"-k {self.socket} -c listen_addresses=127.0.0.1 -p {self.port}"
        # Its output is not ours: whoever inherits a pipe keeps it open.
        command = [*self.user, str(self.programs / "pg_ctl"), "-D", str(self.data), "-o", options, "-l", str(self.log), "-w", "start"]
        check(subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/").returncode == 0, "PostgreSQL does not start")

    def stop(self):
        """As a machine that fails does."""
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([*self.user, str(self.programs / "pg_ctl"), "-D", str(self.data), "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, cwd="/")

    def sql(self, text, database="postgres"):
        command = [str(self.programs / "psql"), "-h", str(self.socket), "-p", str(self.port), "-U", "root_of_db", "-d", database, "-qAt", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, env={**os.environ, "PGPASSWORD": PASSWORD})
        check(done.returncode == 0, f"psql: {done.stderr}")
        return done.stdout.strip()

    def url(self, database="jobs", user="tuner", password=None, more=""):
        login = user + (f":{password}" if password else "")
        return f"postgres://{login}@127.0.0.1:{self.port}/{database}{more}"


def has_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


class Server:
    """`gemma-tune serve`, whose talk is in a file."""

    said = []

    def __init__(self, args, place, jobs, url, password=PASSWORD):
        self.log = place / f"server-{len(Server.said)}.log"
        Server.said.append(self.log)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment.update({"HF_HUB_OFFLINE": "1", "GEMMA_TUNE_CACHE": str(place / "cache")})
        if password:
            environment["PGPASSWORD"] = password
        command = [args.tool, "serve", "--model", str(args.model), "--name", "base", "--port", "0", "--api-key-file", str(place / "keys")]
        command += ["--job-threads", "1", "--jobs", str(jobs), *(["--database", url] if url else [])]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)

    def up(self):
        self.address = self.process.stdout.readline().strip()
        check(self.address, f"the server does not start:\n{self.log.read_text()}")
        return self

    def refused(self, code, *parts):
        """That it ends with this exit code and says these, and what to do."""
        try:
            ended = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit(f"error: the server runs, and was to be refused: {parts}")
        said = self.log.read_text()
        check(ended == code and all(part in said for part in (*parts, "hint:")), f"exit code {ended}, not {code} with {parts}:\n{said}")
        print(f"refused: {said.splitlines()[0].removeprefix('error: ')}")

    def ask(self, method, path, body=None, kind="application/json"):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {KEY}")
        request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers

    def get(self, path):
        status, answer, _ = self.ask("GET", path)
        check(status == 200, f"{path}: {status} {answer}")
        return answer

    def upload(self, text):
        form = (
            '--xYz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--xYz\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n{text}\r\n--xYz--\r\n'
        )
        status, answer, _ = self.ask("POST", "/v1/files", form.encode(), "multipart/form-data; boundary=xYz")
        check(status == 200, f"an upload: {status} {answer}")
        return answer["id"]

    def order(self, file, epochs):
        wanted = {"model": "base", "training_file": file, "seed": 7, "hyperparameters": {"n_epochs": epochs, "batch_size": 2, "learning_rate_multiplier": 250}}
        status, answer, _ = self.ask("POST", "/v1/fine_tuning/jobs", wanted)
        check(status == 200, f"a job: {status} {answer}")
        return answer["id"]

    def job(self, job):
        return self.get(f"/v1/fine_tuning/jobs/{job}")

    def step(self, job):
        events = self.get(f"/v1/fine_tuning/jobs/{job}/events?limit=1")["data"]
        return (events[0]["data"] or {}).get("step", 0) if events else 0

    def chat(self, model="base"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
        status, answer, _ = self.ask("POST", "/v1/chat/completions", body)
        check(status == 200, f"a chat: {status} {answer}")
        return answer["choices"][0]["message"]["content"]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=180)
        check(code == 0, f"the server ended with {code}:\n{self.log.read_text()}")


def until(is_so, what, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return
        time.sleep(0.05)
    sys.exit(f"error: not within {seconds} s: {what}")


def refusals(args, place, postgres):
    """What is wrong is said before a model is read, and nothing is written."""

    def refused(code, url, *parts, password=PASSWORD, jobs="refused"):
        args_ = argparse.Namespace(**{**vars(args), "model": "no-such-model"})
        Server(args_, place, place / jobs, url, password).refused(code, *parts)

    refused(2, "mysql://tuner@localhost/jobs", "`mysql://`", "--database")
    refused(2, postgres.url(password=WRONG, more="?sslmode=require"), "asks for TLS")
    refused(2, postgres.url(more="?colour=red"), "unknown option `colour`")
    refused(2, postgres.url(password=WRONG), "password authentication failed", password=None)
    refused(2, postgres.url(), "password authentication failed", password=WRONG)
    refused(2, postgres.url(), "password missing", "PGPASSWORD", password=None)
    refused(2, postgres.url("nowhere"), "does not exist")
    refused(1, "postgres://tuner@127.0.0.1:1/jobs", "cannot be reached", "postgres://127.0.0.1:1/jobs")
    postgres.sql("CREATE TABLE photos (name TEXT); INSERT INTO photos VALUES ('a'); ALTER TABLE photos OWNER TO tuner", "others")
    refused(2, postgres.url("others"), "something else, as `photos`")
    check(postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "others") == "1", "a database of another program was written")
    check(postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "jobs") == "0", "a refused server has made tables")


def main():
    args = parser.parse_args()
    check(Path(args.tool).exists(), f"there is no {args.tool}\nhint: cargo build, or --tool")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    programs = Path(args.postgres or (found[-1] if found else "/usr/bin"))
    check((programs / "initdb").exists(), f"there is no initdb in {programs}\nhint: apt-get install -y postgresql, or --postgres")
    place = Path(tempfile.mkdtemp(prefix="check-database-"))
    place.chmod(0o755)
    args.tool = str(Path(args.tool).resolve())
    if not args.model:
        args.model = place / "tiny"
        tiny_model(args.model)
    (place / "keys").write_text(KEY + "\n")
    (place / "db").mkdir()
    servers = []
    try:
        with Postgres(programs, place / "db") as postgres:
            postgres.sql(f"CREATE ROLE tuner LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE jobs OWNER tuner; CREATE DATABASE others OWNER tuner;")
            refusals(args, place, postgres)
            jobs_survive(args, place, postgres, servers)
            silence(place)
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.kill()
        if args.keep:
            print(f"kept: {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    print("jobs in PostgreSQL are in order")


def jobs_survive(args, place, postgres, servers):
    jobs = place / "jobs"

    def start(folder=jobs, url=None, password=PASSWORD):
        server = Server(args, place, folder, postgres.url() if url is None else url, password)
        servers.append(server)
        return server

    # By its socket, with the password in the address.
    url = f"postgres://tuner:{PASSWORD}@/jobs?host={postgres.socket}&port={postgres.port}"
    server = start(url=url, password=None).up()
    rows = [{"messages": [{"role": "user", "content": f"Door {n}?"}, {"role": "assistant", "content": f"Code {n * 7}."}]} for n in range(2)]
    file = server.upload("".join(json.dumps(row) + "\n" for row in rows))
    first, second = server.order(file, STEPS), server.order(file, 3)
    said = server.chat()

    # Nobody else gets the database.
    start(place / "elsewhere").refused(2, "of another folder of jobs")
    copy = place / "copy"
    copy.mkdir()
    shutil.copy(jobs / "queue.postgres", copy)
    start(copy).refused(2, "another server trains what waits in this database")

    until(lambda: server.step(first) >= 5, "five steps")
    check(server.job(second)["status"] == "queued", "two jobs run at once")
    server.kill()

    start(jobs, "").refused(2, "in a database of PostgreSQL")
    server = start().up()
    check(server.chat() == said, "another answer after a restart")
    until(lambda: server.step(first) >= 20, "steps after a restart")
    print("killed: the job goes on with the next server")

    # The database goes away while a job is trained.
    postgres.stop()
    status, answer, head = server.ask("GET", "/v1/fine_tuning/jobs")
    check(status == 503 and head["Retry-After"], f"{status} {answer}")
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + text + b"\r\n--x--\r\n"
    check(server.ask("POST", "/v1/files", form, "multipart/form-data; boundary=x")[0] == 503, "a file is taken without a database")
    began = time.monotonic()
    check(server.chat() == said, "another answer without a database")
    check(time.monotonic() - began < 60, "chats wait for the database")
    check(not [path for path in (jobs / "files").iterdir() if path.name.startswith(".tmp-")], "an upload that was refused has left something")
    time.sleep(2)
    postgres.start()
    until(lambda: server.ask("GET", "/v1/fine_tuning/jobs")[0] == 200, "the database is reached again", 60)
    print("PostgreSQL stopped at once and begun again: chats were answered, jobs are there")

    until(lambda: server.job(first)["status"] not in ("queued", "running"), "the first job's end")
    until(lambda: server.job(second)["status"] not in ("queued", "running"), "the second job's end")
    done, after = server.job(first), server.job(second)
    check(done["status"] == after["status"] == "succeeded", f"{done['error']} {after['error']}")
    check(after["finished_at"] >= done["finished_at"], "jobs did not run in their order")
    events = server.get(f"/v1/fine_tuning/jobs/{first}/events?limit=1000")["data"]
    steps = [event["data"]["step"] for event in reversed(events) if (event["data"] or {}).get("step")]
    check(steps == list(range(1, STEPS + 1)), f"steps: {steps}")
    check(sum(event["message"] == "Training has begun." for event in events) == 1, "it began twice")
    table = postgres.sql("SELECT version, folder FROM gemma_tune_queue", "jobs")
    check(table == f"3|{jobs}", table)
    server.chat(done["fine_tuned_model"])
    server.end()

    # All is there at the next start; the folder alone, or the database alone, is nothing.
    server = start().up()
    check(server.job(first)["status"] == "succeeded", "the job is forgotten")
    check(server.chat(done["fine_tuned_model"]) is not None and len(server.get("/v1/files")["data"]) == 3, "files")
    server.end()
    postgres.sql("CREATE DATABASE fresh OWNER tuner")
    start(jobs, postgres.url("fresh")).refused(2, "the folder's files and jobs are in one")
    check(len(list((jobs / "runs").iterdir())) == 2, "jobs were removed")
    print(f"{STEPS} steps told once each, jobs in their order, nothing lost")


def silence(place):
    """No password in what was said or left."""
    found = []
    for path in [*Server.said, *(path for path in (place / "jobs").rglob("*") if path.is_file())]:
        data = path.read_bytes()
        found += [str(path) for word in (PASSWORD, WRONG) if word.encode() in data]
    check(not found, f"a password stands in {found}")
    print("no password in any log or file")


if __name__ == "__main__":
    main()
