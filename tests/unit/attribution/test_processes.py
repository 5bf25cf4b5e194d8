import math
import os
from concurrent.futures.process import BrokenProcessPool
from operator import methodcaller

import pytest
from threadpoolctl import ThreadpoolController

from attribution.processes import FEW, THREADS, in_processes, one_blas_thread


def test_results_come_in_order_and_the_environment_stays_as_it_was() -> None:
    before = {name: os.environ.get(name) for name in THREADS}
    given = list(range(2 * FEW))
    assert list(in_processes(2, math.sqrt, given)) == [math.sqrt(each) for each in given]
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_a_child_has_one_thread() -> None:
    assert set(in_processes(2, os.getenv, [THREADS[0]] * FEW)) == {"1"}


def test_what_goes_wrong_in_a_child_goes_wrong_here() -> None:
    with pytest.raises(ValueError, match="math domain"):
        list(in_processes(2, math.sqrt, [-1.0] * FEW))


def test_little_work_is_done_here() -> None:
    assert list(in_processes(8, methodcaller("upper"), ["a", "b"])) == ["A", "B"]


def test_a_child_that_is_killed_ends_the_work_with_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(in_processes(2, os._exit, [1] * FEW))


def test_one_blas_thread_lasts_until_the_last_caller_leaves() -> None:
    blas = ThreadpoolController().select(internal_api="openblas")

    def threads() -> set[int]:
        return {each["num_threads"] for each in blas.info()}

    with blas.limit(limits=2):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__()
        assert threads() == {1}
        second.__exit__()
        assert threads() == {2}
