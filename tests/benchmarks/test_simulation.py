"""The simulation of a build and of questions gives what one finds by hand."""

import math
from dataclasses import replace

import pytest

from benchmarks._simulation import AHEAD, Cluster, Ended, Stage, asked, played, together

ONE = Cluster()


def took(stage: Stage, cluster: Cluster = ONE) -> Ended:
    (ended,) = played([stage], cluster)
    return ended


def test_one_core_does_one_batch_after_another_while_the_driver_keeps_the_last() -> None:
    # 1 s alone, 10 batches of 2 s, and the last is kept in half a second
    ended = took(Stage("embed", 10, work_s=2, settle_s=0.5, alone_s=1))
    assert (ended.wall_s, ended.driver_s, ended.core_s, ended.again) == (21.5, 6, 20, 0)


def test_cores_of_all_nodes_share_the_batches() -> None:
    assert took(Stage("embed", 12, work_s=2), Cluster(nodes=2, cores=3)).wall_s == 4


def test_the_driver_is_the_bottleneck_where_cores_are_faster_than_it_keeps_what_they_did() -> None:
    # 100 cores would need 1 s for each hundred batches, the driver 10 s
    ended = took(Stage("embed", 1_000, work_s=1, settle_s=0.1), Cluster(nodes=25, cores=4))
    assert ended.wall_s == pytest.approx(1 + 1_000 * 0.1)
    assert ended.under_way == AHEAD * 100  # and no more than that waits, so its memory is flat


def test_calls_take_no_core_and_keep_to_the_slots_and_the_rate_of_the_provider() -> None:
    calls = Stage("summarise", 40, work_s=3, slots=8)
    assert took(calls, Cluster(nodes=100, cores=16)).wall_s == 15  # five rounds
    assert took(calls).core_s == 0
    slow = took(replace(calls, calls_per_s=2))  # every half second one, the last at 19.5
    assert slow.wall_s == pytest.approx(19.5 + 3)


def test_what_a_lost_node_was_doing_is_done_again_and_nothing_twice() -> None:
    stage, nodes = Stage("embed", 2_000, work_s=10), Cluster(nodes=4, cores=2)
    whole, holed = took(stage, nodes), took(stage, replace(nodes, lost_per_hour=6, back_s=60))
    assert whole.again == 0 and holed.again > 0
    assert holed.wall_s > whole.wall_s
    assert whole.core_s < holed.core_s < whole.core_s + 10 * holed.again
    assert holed == took(stage, replace(nodes, lost_per_hour=6, back_s=60))


def test_a_node_that_comes_back_at_once_costs_only_what_it_was_doing() -> None:
    stage = Stage("embed", 500, work_s=10)
    ended = took(stage, Cluster(lost_per_hour=10, back_s=0))
    assert ended.wall_s == pytest.approx(ended.core_s) and ended.again > 0


def test_many_batches_are_played_as_fewer_that_take_as_long() -> None:
    stage = Stage("embed", 1_000_000, work_s=1, settle_s=0.01)
    ended = took(stage, Cluster(nodes=10, cores=10))
    assert ended.wall_s == pytest.approx(10_000, rel=0.05)
    assert ended.core_s == pytest.approx(1e6) and ended.driver_s == pytest.approx(1e4)
    calls = replace(stage, slots=1_000, calls_per_s=50.0)
    assert took(calls).wall_s == pytest.approx(20_000, rel=0.05)


def test_stages_follow_each_other() -> None:
    stages = [Stage("a", 2, work_s=1), Stage("b", 4, work_s=1, settle_s=1)]
    assert together(list(played(stages, ONE))).wall_s == 2 + 5
    assert together([]).wall_s == 0 and math.isinf(stages[0].calls_per_s)


def test_a_cache_that_holds_all_shards_pulls_nothing() -> None:
    told = asked(10, 10, 100.0, everywhere=1.0)
    assert (told.opened, told.hits, told.pulled) == (10, 1, 0)


def test_a_cache_that_holds_all_shards_but_one_pulls_all_of_them_where_each_question_reads_them_in_turn() -> (
    None
):
    told = asked(10, 9, 100.0, everywhere=1.0)
    assert (told.opened, told.hits, told.pulled) == (10, 0, 1_000)


def test_questions_about_a_branch_open_one_shard_and_popular_ones_are_mostly_there() -> None:
    told = asked(100, 20, 100.0, everywhere=0.0)
    assert told.opened == 1 and told.pulled == pytest.approx(100 * (1 - told.hits))
    assert 0.4 < told.hits < 0.9
    assert asked(100, 50, 100.0, everywhere=0.0).hits > told.hits
