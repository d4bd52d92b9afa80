"""The arithmetic of `bench queue`."""

import pytest

from bench.queue import figures
from bench.queue.figures import Round


def test_a_percentile_is_a_measured_value_that_the_share_does_not_exceed() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [figures.percentile(values, share) for share in (0.01, 0.2, 0.5, 0.8, 0.81, 1.0)] == [1, 1, 3, 4, 5, 5]
    assert figures.percentile([7.0], 0.99) == 7.0


def test_the_99th_of_a_hundred_is_not_the_worst_one() -> None:
    delays = [float(one) for one in range(1, 101)]
    assert figures.pickup(delays) == {"p50": 50.0, "p99": 99.0}


def test_what_ends_in_the_moment_another_starts_did_not_run_with_it() -> None:
    assert figures.most_at_once([(10, 1), (20, -1), (20, 1), (30, -1)]) == 1
    assert figures.most_at_once([(30, -1), (15, 1), (10, 1), (20, -1)]) == 2
    assert figures.most_at_once([]) == 0


def test_a_round_without_an_answer_counts_as_longer_than_any() -> None:
    assert figures.or_longer([4.0, None, 2.0], 90) == 4.0
    assert figures.or_longer([4.0, None, None], 90) == ">90"
    assert figures.or_never([None, 0.25, 0.126]) == 0.25
    assert figures.or_never([None]) is None


def test_one_failed_restart_is_not_survival() -> None:
    own = [Round(resume_s=0.1, pickup_ms=[1.0]), Round(pickup_ms=[1.0]), Round(resume_s=0.1, pickup_ms=[1.0])]
    found = figures.summary({"arq": own}, rerun_limit_s=90)
    assert found["survives_restart"] == {"arq": False}
    assert found["resume_s"] == {"arq": 0.1}


def test_figures_are_medians_and_pickups_are_pooled() -> None:
    own = [
        Round(jobs_per_s=rate, worker_cpu_us=rate / 10, server_cpu_us=7.0, pickup_ms=[delay], most_running=300)
        for rate, delay in ((100.4, 3.0), (900.0, 1.0), (200.0, 2.0))
    ]
    found = figures.summary({"saq": own}, rerun_limit_s=90)
    assert found["jobs_per_s"] == {"saq": 200}
    assert found["cpu_us_per_job"] == {"saq": {"worker": 20, "server": 7}}
    assert found["pickup_ms"] == {"saq": {"p50": 2.0, "p99": 3.0}}
    assert found["slots_running_of_300"] == {"saq": 300}
    assert found["kill_to_rerun_s"] == {"saq": ">90"}
    assert found["ratios"] == {}


def _rates(*rates: float) -> list[Round]:
    return [
        Round(jobs_per_s=rate, jobs_per_s_of_100=rate, enqueue_per_s=rate, bulk_enqueue_per_s=rate) for rate in rates
    ]


def test_a_ratio_is_taken_within_its_round_against_the_best_peer_of_that_round() -> None:
    rounds = {"pulse": _rates(60, 100, 40), "arq": _rates(2, 5, 1), "saq": _rates(10, 4, 8)}
    found = figures.ratios(rounds)
    assert found["jobs_per_s_to_best"] == pytest.approx(6.0)  # 6, 20 and 5
    assert found["jobs_per_s_to_arq"] == pytest.approx(30.0)  # 30, 20 and 40
