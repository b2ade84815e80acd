"""The hosted dataset: loaded by EvalScope's own hub loader and cache, as it would be downloaded."""

import json
import warnings

import pytest

from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.errors import BadRowsError, DataError
from k2_verifier_adapter.evalscope_plugin.loading import case_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import
    import datasets
    from evalscope.api.dataset.hub import DatasetHub
    from evalscope.api.registry import get_benchmark
    from evalscope.config import TaskConfig

COLUMNS = ("messages", "tools", "should_call_tool", "official_finish_reason", "official_tool_calls")


def hosted_rows():
    """Give rows with the columns of the hosted dataset."""
    with bundled_rows_path().open(encoding="utf-8") as file:
        return [{name: row[name] for name in COLUMNS} for row in map(json.loads, file)]


def load(tmp_path, **settings):
    """Load the benchmark's samples; give the adapter and the samples."""
    config = TaskConfig(
        model="m",
        api_url="http://127.0.0.1:9/v1",
        datasets=["k2_verifier"],
        dataset_dir=str(tmp_path),
        **settings,
    )
    adapter = get_benchmark("k2_verifier", config)
    return adapter, adapter.load_dataset()["k2_thinking"]


@pytest.fixture
def hub(monkeypatch):
    """Stand in for the download, and for nothing behind it; collects what is asked for."""
    asked = []

    def download(self, split, subset="default", **_):
        asked.append((self.data_id_or_path, subset, split))
        return datasets.Dataset.from_list(rows)

    rows = hosted_rows()
    monkeypatch.setattr(DatasetHub, "load", download)
    return asked, rows


def test_the_hosted_dataset_is_asked_for_by_its_name(hub, tmp_path):
    """Dataset, subset and split are the hosted ones, and every row becomes a sample."""
    asked, rows = hub
    _, samples = load(tmp_path)
    assert asked == [("evalscope/K2VendorVerifier", "k2_thinking", "test")]
    assert len(samples) == len(rows)


def test_the_rows_bytes_survive_the_hub_cache(hub, tmp_path):
    """Messages and tools come out of EvalScope's Arrow cache byte by byte where nothing is repaired."""
    _, rows = hub
    _, samples = load(tmp_path)
    kept = 0
    for row, sample in zip(rows, samples, strict=True):
        case = case_of(sample.metadata)
        if not case.repairs.any and row["messages"].isascii():
            assert case.messages_json.decode() == row["messages"]
            kept += 1
        assert json.loads(case.tools_json) == json.loads(row["tools"])
    assert kept > 20


def test_a_second_load_comes_from_the_cache(hub, tmp_path):
    """The hub is asked once; limit, shuffle and repeats do not change what is cached."""
    asked, _ = hub
    load(tmp_path)
    adapter, samples = load(tmp_path, limit=5, repeats=2)
    assert len(asked) == 1
    assert [case_of(sample.metadata).index for sample in samples] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert adapter.rows["k2_thinking"].info.source == "evalscope/K2VendorVerifier"


def test_a_shuffled_row_keeps_its_number(hub, tmp_path):
    """Shuffling changes the order of the samples, not which row each of them is."""
    _, rows = hub
    _, samples = load(tmp_path, dataset_args={"k2_verifier": {"shuffle": True}})
    numbers = [case_of(sample.metadata).index for sample in samples]
    assert sorted(numbers) == list(range(len(rows)))
    assert numbers != sorted(numbers)
    for sample in samples[:20]:
        case = case_of(sample.metadata)
        assert json.loads(case.tools_json) == json.loads(rows[case.index]["tools"])


def test_bad_hosted_rows_are_all_named(hub, tmp_path):
    """A hosted row that cannot be used is named by its number, with field and reason."""
    _, rows = hub
    rows[3]["messages"] = "[]"
    rows[7]["tools"] = "{}"
    with pytest.raises(
        BadRowsError, match=r"2 of 240 rows .* row 4: field 'messages'.* row 8: field 'tools'"
    ):
        load(tmp_path)


def test_a_subset_that_the_hub_does_not_have_is_refused_without_asking(hub, tmp_path):
    """`k2_0905` is not hosted: the error says so and names local_path."""
    asked, _ = hub
    with pytest.raises(DataError, match=r"'k2_0905' is not on the hub.*local_path"):
        load(tmp_path, dataset_args={"k2_verifier": {"subset_list": ["k2_0905"]}})
    assert asked == []
