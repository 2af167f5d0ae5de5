"""How many workers KEDA is told a pool should have, and how many Jobs it makes of that."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy import text

from tests.services.chart import CHART, changed, kinds, render, values_of
from tests.services.postgresql import PostgresServer
from tests.services.process import find_program
from worker.ledger import Lane, Ledger, NewJob
from worker.ledger.records import Remit

_POOL = {"encoders": ["uni"], "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}
_WORKERS = {"max": 8, "shardsEach": 4, "queueAgeSeconds": 60}


def _values(workers: Mapping[str, object] = {}, **more: object) -> dict[str, Any]:
    """Values with one pool; `more` is of the pool."""
    pool = _POOL | {"workers": _WORKERS | dict(workers)} | more
    values = changed(values_of("minimal"), "pools", {"p": pool})
    return changed(values, "scaling.postgresql", {"host": "db", "username": "scaler", "existingSecret": "scaler"})


@cache
def _rendered_job(values: str) -> dict[str, Any]:
    (job,) = kinds(render(json.loads(values)), "ScaledJob")
    return dict(job["spec"])


def _scaled_job(values: Mapping[str, Any]) -> dict[str, Any]:
    return _rendered_job(json.dumps(values))


def _query(values: Mapping[str, Any]) -> str:
    return str(_scaled_job(values)["triggers"][0]["metadata"]["query"])


def _new_jobs(spec: Mapping[str, Any], answer: float, unfinished: int) -> int:
    """Return how many Jobs KEDA makes, by its strategy `default` (pkg/scaling/scaledjob, pkg/scaling/executor)."""
    metadata = spec["triggers"][0]["metadata"]
    target = int(metadata.get("targetQueryValue") or metadata["threshold"])
    activation = float(metadata.get("activationTargetQueryValue") or metadata["activationThreshold"])
    assert spec["scalingStrategy"]["strategy"] == "default"
    if answer <= activation:
        return 0
    whole = int(answer) if answer == int(answer) else 0  # a fraction is no integer to it, and no integer is 0
    return max(0, min(-(-whole // target), spec["maxReplicaCount"]) - max(0, unfinished - spec["minReplicaCount"]))


class _Queue:
    """A ledger whose queue is put together by hand, and what KEDA's user is told about it."""

    def __init__(self, ledger: Ledger, url: str, scaler: str) -> None:
        self.ledger, self._url, self._scaler = ledger, url, scaler

    def clear(self) -> None:
        """Forget everything."""
        self.run("TRUNCATE job, endpoint CASCADE")

    def run(self, statement: str, **values: object) -> None:
        """Run a statement as the ledger's owner."""
        with self.ledger._db.write() as connection:
            connection.execute(text(statement), values)

    def add(
        self, shards: int, waits_s: float = 90, encoder: str = "uni", lane: Lane = Lane.STANDARD, endpoint: str = "pacs"
    ) -> str:
        """Queue a job whose shards have been due for so long."""
        ranges = tuple((index, index + 1) for index in range(shards))
        key = f"{encoder}-{lane}-{endpoint}-{waits_s}-{shards}"
        new = NewJob(key, key, encoder, lane, {}, b"plan", shards, ranges, endpoint)
        job_id = self.ledger.jobs.submit(new).job.id
        age = "UPDATE shard SET updated_at = updated_at - :waits_s WHERE job_id = :job_id"
        self.run(age, waits_s=waits_s, job_id=job_id)
        return job_id

    def lease(self, shards: int, encoder: str = "uni") -> None:
        """Let workers take shards."""
        for _ in range(shards):
            assert self.ledger.shards.claim("worker", remit=Remit(encoders=(encoder,))) is not None

    def answer(self, values: Mapping[str, Any]) -> int:
        """Return what KEDA's query says, asked as the user that is made for it."""
        with psycopg.connect(self._scaler) as connection:
            row = connection.execute(_query(values).encode()).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]


@pytest.fixture(scope="module")
def opened(postgresql_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Queue]:
    """Set a ledger up, and the user that the chart's page tells to make."""
    url = postgresql_server.create_database()
    (grants,) = re.findall(r"```sql\n(.*?)```", (CHART / "README.md").read_text(), flags=re.DOTALL)
    with Ledger(url, tmp_path_factory.mktemp("checkpoints")) as ledger:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("DROP ROLE IF EXISTS slidewire_scaler")
            owner.execute(grants.encode())
            owner.execute("ALTER ROLE slidewire_scaler PASSWORD 'scaler'")
        scaler = re.sub(r"//.*@", "//slidewire_scaler:scaler@", url)
        yield _Queue(ledger, url, scaler)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("DROP OWNED BY slidewire_scaler; DROP ROLE slidewire_scaler")
    postgresql_server.drop_database(url)


@pytest.fixture
def queue(opened: _Queue) -> _Queue:
    """Give the ledger, empty."""
    opened.clear()
    return opened


@pytest.mark.parametrize(
    ("due", "waits_s", "leased", "unfinished", "new"),
    [
        (0, 0, 0, 0, 0),  # nothing to do
        (40, 10, 0, 0, 0),  # too young
        (10, 90, 0, 0, 3),  # ten shards are worth three workers
        (10, 120, 0, 3, 0),  # three come already, their nodes are booting
        (1, 90, 0, 0, 1),
        (100, 90, 0, 0, 8),  # as many as the pool may have
        (92, 90, 8, 8, 0),  # it has them
        (92, 90, 7, 7, 1),
        (2, 90, 6, 1, 1),  # most are with workers that stand elsewhere
        (0, 0, 8, 8, 0),  # all is being worked on
        (0, 0, 8, 0, 0),  # by workers of somebody else
    ],
)
def test_new_jobs(queue: _Queue, due: int, waits_s: float, leased: int, unfinished: int, new: int) -> None:
    """Jobs are made for shards that have waited, as many as are missing, and never more than the pool may have."""
    if due + leased:
        queue.add(due + leased, waits_s=waits_s)
    queue.lease(leased)
    values = _values()
    assert _new_jobs(_scaled_job(values), queue.answer(values), unfinished) == new


@pytest.mark.faults
def test_one_old_shard_is_enough(queue: _Queue) -> None:
    """The age is that of the oldest; then all that are due count."""
    queue.add(9, waits_s=1)
    assert queue.answer(_values()) == 0
    queue.add(1, waits_s=61)
    assert queue.answer(_values()) == 3


@pytest.mark.faults
def test_only_the_pools_shards(queue: _Queue) -> None:
    """Other encoders and other lanes are for other pools."""
    queue.add(8, encoder="virchow")
    queue.add(8, lane=Lane.BACKFILL)
    queue.add(8, lane=Lane.INTERACTIVE)
    assert queue.answer(_values()) == 4
    assert queue.answer(_values(lanes=["interactive"])) == 2
    assert queue.answer(_values(lanes=["standard"])) == 0
    assert queue.answer(_values(encoders=[])) == 6
    assert queue.answer(_values(encoders=["uni", "virchow"])) == 6
    assert queue.answer(_values(encoders=["timm:resnet50.a1_in1k"])) == 0


@pytest.mark.faults
def test_leased_shards_of_others_do_not_count(queue: _Queue) -> None:
    """What workers of another encoder work on is worth none of this pool's workers."""
    queue.add(4, encoder="virchow")
    queue.lease(4, encoder="virchow")
    queue.add(4)
    assert queue.answer(_values()) == 1
    assert queue.answer(_values(encoders=[])) == 2


@pytest.mark.faults
def test_workers_that_stand_are_taken_off(queue: _Queue) -> None:
    """Jobs come on top of the workers that stand always, and only for what those are too few for."""
    queue.add(12)
    assert queue.answer(_values({"min": 1})) == 2
    assert queue.answer(_values({"min": 3})) == 0
    assert queue.answer(_values({"min": 5})) == 0
    assert _scaled_job(_values({"min": 3}))["maxReplicaCount"] == 5


@pytest.mark.faults
def test_a_shard_that_backs_off_is_not_due(queue: _Queue) -> None:
    """What may not be tried yet does not count; then it has waited since it may."""
    job_id = queue.add(8, waits_s=900)
    wait = "UPDATE shard SET not_before = extract(epoch FROM clock_timestamp()) + :in_s WHERE job_id = :job_id"
    queue.add(1)
    queue.run(wait, in_s=60, job_id=job_id)
    assert queue.answer(_values()) == 1
    queue.run("DELETE FROM job WHERE id <> :job_id", job_id=job_id)
    assert queue.answer(_values()) == 0
    queue.run(wait, in_s=-30, job_id=job_id)
    assert queue.answer(_values()) == 0
    queue.run(wait, in_s=-61, job_id=job_id)
    assert queue.answer(_values()) == 2


@pytest.mark.faults
@pytest.mark.parametrize(
    ("state", "open_s", "probe_s", "workers"),
    [("closed", 0, 0, 2), ("open", 60, 0, 0), ("open", -1, -1, 2), ("denied", 60, 0, 0), ("open", -1, 30, 0)],
)
def test_servers_that_nobody_may_ask(queue: _Queue, state: str, open_s: int, probe_s: int, workers: int) -> None:
    """For a server that is paused, or tried by somebody just now, nobody is sent."""
    queue.add(8)
    now = "extract(epoch FROM clock_timestamp())"
    queue.run(
        f"UPDATE endpoint SET state = :state, open_until = {now} + :open_s, probe_until = {now} + :probe_s",
        state=state, open_s=open_s, probe_s=probe_s,
    )  # fmt: skip
    assert queue.answer(_values()) == workers


@pytest.mark.faults
def test_servers_that_take_few(queue: _Queue) -> None:
    """Of a server with a limit no more shards count than may be read at a time; of others all do."""
    values = changed(_values({"max": 20}), "networkPolicy", {"enabled": False})
    values["config"] = {"endpoints": {"pacs": {"url": "http://pacs", "workers": 2}, "other": {"url": "http://other"}}}
    queue.add(40)
    assert queue.answer(values) == 2
    queue.add(16, endpoint="other")
    assert queue.answer(values) == 6
    queue.add(200, endpoint="other", waits_s=61)
    assert _new_jobs(_scaled_job(values), queue.answer(values), 0) == 20


@pytest.mark.faults
@pytest.mark.parametrize(("start", "stop", "quiet"), [(-1, 1, True), (2, 1, True), (1, 2, False), (1, -1, False)])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_quiet_hours(queue: _Queue, start: int, stop: int, quiet: bool, zone: str) -> None:  # noqa: FBT001
    """In the quiet hours of a server its backfills do not count, by its own clock, over midnight too; others do."""
    with queue.ledger._db.read() as connection:
        hours = "SELECT to_char((clock_timestamp() AT TIME ZONE :zone) + make_interval(hours => :by), 'HH24:MI')"
        begin, end = (connection.execute(text(hours), {"zone": zone, "by": by}).scalar_one() for by in (start, stop))
    values = changed(_values(), "networkPolicy", {"enabled": False})
    pacs = {"url": "http://pacs", "quiet_hours": f"{begin}-{end}", "time_zone": zone}
    values["config"] = {"endpoints": {"pacs": pacs}}
    queue.add(8, lane=Lane.BACKFILL)
    assert queue.answer(values) == (0 if quiet else 2)
    queue.add(4)
    assert queue.answer(values) == (1 if quiet else 3)


@pytest.mark.faults
def test_shards_in_no_queue_yet(queue: _Queue) -> None:
    """What an older Slidewire has queued counts too."""
    queue.add(8)
    queue.run("UPDATE shard SET queue = ''")
    assert queue.answer(_values()) == 2
    assert queue.answer(_values(encoders=["virchow"])) == 0


@pytest.mark.faults
def test_no_more_rows_than_matter(queue: _Queue) -> None:
    """However long the queue is, the answer is never more than the pool's most, for each server."""
    queue.add(500)
    assert queue.answer(_values()) == 8


def test_the_scaler_sees_no_patient(opened: _Queue) -> None:
    """KEDA's user can read neither what was asked nor what came of it, and can change nothing."""
    with psycopg.connect(opened._scaler, autocommit=True) as connection:
        for statement in (
            "SELECT request FROM job",
            "SELECT outputs FROM job",
            "DELETE FROM shard",
            "SELECT * FROM job",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_nothing_ends_a_worker() -> None:
    """KEDA leaves running Jobs alone when the chart changes, and no deadline and no autoscaler ends them."""
    spec = _scaled_job(_values())
    assert spec["rollout"] == {"strategy": "gradual"}
    job = spec["jobTargetRef"]
    assert "activeDeadlineSeconds" not in job
    assert (job["parallelism"], job["completions"], job["template"]["spec"]["restartPolicy"]) == (1, 1, "Never")
    annotations = job["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_what_is_no_failure_of_a_job() -> None:
    """A worker that wants to be started again, or whose machine was taken away, does not use up the Job's patience."""
    job = _scaled_job(_values())["jobTargetRef"]
    (worker,) = job["template"]["spec"]["containers"]
    rules = {rule["action"]: [] for rule in job["podFailurePolicy"]["rules"]}
    for rule in job["podFailurePolicy"]["rules"]:
        rules[rule["action"]].append(rule.get("onExitCodes") or rule["onPodConditions"])
    assert rules == {
        "Ignore": [
            [{"type": "DisruptionTarget", "status": "True"}],
            {"containerName": worker["name"], "operator": "In", "values": [75]},
        ]
    }


def _prometheus(workers: Mapping[str, object] = {}, **more: object) -> dict[str, Any]:
    values = changed(_values(workers, **more), "scaling.trigger", "prometheus")
    return changed(values, "scaling.prometheus.serverAddress", "http://prometheus:9090")


_SERIES = {
    # Two processes serve the same figures of one ledger; another namespace has a ledger of its own.
    'slidewire_due_shards{namespace="pathology",pod="a",lane="standard",encoder="uni"}': 10,
    'slidewire_due_shards{namespace="pathology",pod="b",lane="standard",encoder="uni"}': 10,
    'slidewire_due_shards{namespace="pathology",pod="a",lane="backfill",encoder="uni"}': 6,
    'slidewire_due_shards{namespace="pathology",pod="a",lane="interactive",encoder="timm:x.y"}': 1,
    'slidewire_due_shards{namespace="pathology",pod="a",lane="standard",encoder="timm:xzy"}': 99,
    'slidewire_due_shards{namespace="pathology",pod="a",lane="standard",encoder="idle"}': 0,
    'slidewire_due_shards{namespace="research",pod="a",lane="standard",encoder="uni"}': 400,
    'slidewire_leased_shards{namespace="pathology",pod="a",encoder="uni"}': 3,
    'slidewire_leased_shards{namespace="pathology",pod="b",encoder="uni"}': 3,
    'slidewire_leased_shards{namespace="pathology",pod="a",encoder="idle"}': 5,
    'slidewire_queue_age_seconds{namespace="pathology",pod="a",lane="standard"}': 61,
    'slidewire_queue_age_seconds{namespace="pathology",pod="a",lane="backfill"}': 59,
    'slidewire_queue_age_seconds{namespace="pathology",pod="a",lane="interactive"}': 60,
    'slidewire_queue_age_seconds{namespace="research",pod="a",lane="backfill"}': 900,
}


# What is set of the workers and of the pool, and the answer.
_ANSWERS = (
    ({}, {}, 5),  # (10 + 6 + 3) / 4
    ({"min": 2}, {}, 3),
    ({"min": 7}, {}, 0),
    ({"queueAgeSeconds": 62}, {}, None),
    ({}, {"lanes": ["standard"]}, 4),  # (10 + 3) / 4
    ({}, {"lanes": ["backfill"]}, None),  # too young
    ({}, {"lanes": ["interactive"]}, None),  # none of this encoder
    ({}, {"encoders": ["timm:x.y"]}, 1),  # and not the other, which a dot would fit too
    ({}, {"encoders": ["timm:x.y"], "lanes": ["interactive"]}, 1),
    ({}, {"encoders": ["idle"]}, None),  # worked on, nothing due
    ({}, {"encoders": ["nobody-asked"]}, None),
    ({}, {"encoders": []}, 31),  # (10 + 6 + 1 + 99 + 3 + 5) / 4
)


def test_prometheus_says_the_same(tmp_path: Path) -> None:
    """Asked of Prometheus, the answer is a whole number, or none where nothing is to be done."""
    asked = [
        {
            "expr": _query(_prometheus(workers, **pool)),
            "eval_time": "5m",
            "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
        }
        for workers, pool, expected in _ANSWERS
    ]
    series = [{"series": name, "values": f"{value}x10"} for name, value in _SERIES.items()]
    file = tmp_path / "test.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    file.write_text(yaml.safe_dump({"tests": [test]}))
    done = subprocess.run(
        [find_program("promtool", "apt-get install prometheus"), "test", "rules", str(file)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_that_knows_nothing_adds_nobody() -> None:
    """No answer is 0, and a query may be narrowed down to what one's own Prometheus calls the release."""
    spec = _scaled_job(_prometheus())
    assert spec["triggers"][0]["metadata"]["ignoreNullValues"] == "true"
    assert "authenticationRef" not in spec["triggers"][0]
    narrowed = changed(_prometheus(), "scaling.prometheus.matchers", 'cluster="west",namespace="x"')
    query = _query(narrowed)
    assert query.count('cluster="west",namespace="x"') == json.dumps(query).count("slidewire_")
