"""The benchmark of batching compares like with like: all ways write the same texts, and each latency is counted."""

import pytest

from ai4india_lib import benchmarking


@pytest.fixture(scope="module")
def pair():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(benchmarking.SHAPES, "tiny", (32, 1, 2))
        yield benchmarking.make_pair("tiny", context=400)


def test_the_mixed_requests_are_as_the_issue_says():
    requests = benchmarking.mixed_requests()
    prompts, counts = [len(ids) for ids, _ in requests], [new for _, new in requests]
    assert len(requests) == 64 and requests == benchmarking.mixed_requests()
    assert 8 <= min(prompts) < 20 and 110 < max(prompts) <= 128
    assert 16 <= min(counts) < 30 and 185 < max(counts) <= 200


def test_all_ways_write_the_same_texts(pair):
    model, theirs = pair
    requests = [(ids, new // 8) for ids, new in benchmarking.mixed_requests(7)]
    served = [
        benchmarking.serve_continuously(model, requests, 3),
        benchmarking.serve_in_groups(model, requests, 3),
        benchmarking.serve_in_groups_of_transformers(theirs, requests, 3),
    ]
    for one in served:
        assert one.texts == served[0].texts
        assert [len(text) for text in one.texts] == [new for _, new in requests]
        assert len(one.latencies) == 7 and 0 < min(one.latencies) <= one.percentile(0.95) <= max(one.latencies)
