"""A TOML file becomes an experiment, and an experiment cells."""

from dataclasses import replace

import pytest

from oblivio.bench.spec import Experiment, as_toml, experiments, members, read
from oblivio.catalogue import find, names
from oblivio.train import Recipe

TINY = Experiment(data={"name": "digits"}, model={"name": "mlp", "hidden": [8]}, seeds=2)


def written(tmp_path, text):
    path = tmp_path / "case.toml"
    path.write_text(text)
    return path


BASE = 'data = { name = "digits" }\nmodel = { name = "mlp" }\n'


def test_retrain_and_original_are_always_there():
    methods = [method["name"] for method in TINY.resolved().methods]
    assert methods == ["original", "retrain"]


def test_cells_are_the_product_with_different_keys():
    resolved = replace(TINY, methods=({"name": "fine_tune"},)).resolved()
    cells = resolved.cells()
    assert len(cells) == len({cell.key for cell in cells}) == 3 * 2
    assert len({cell.original_key for cell in cells}) == 2


def test_key_depends_on_what_determines_the_result_and_on_nothing_else():
    def keys(experiment):
        return [cell.key for cell in experiment.resolved().cells()]

    same = keys(TINY)
    assert keys(replace(TINY, name="other", title="t", about="a", keep="originals")) == same
    assert keys(replace(TINY, metrics=({"name": "time"},))) == same
    assert keys(replace(TINY, seeds=3))[: len(same)] == same
    for change in (
        {"data": {"name": "digits", "validation": 0.2}},
        {"model": {"name": "mlp", "hidden": [9]}},
        {"train": Recipe(epochs=21)},
        {"scenarios": ({"name": "random", "fraction": 0.2},)},
        {"engine": replace(TINY.engine, threads=2)},
    ):
        assert not set(keys(replace(TINY, **change))) & set(same), change


def test_a_pruner_is_one_case_more_and_leaves_the_dense_cells_as_they_are():
    listed = ({"name": "magnitude", "sparsity": [0.5, 0.9]}, {"name": "magnitude", "rewind": 1})
    pruned = replace(TINY, pruners=listed).resolved()
    assert [table["sparsity"] for table in pruned.pruners] == [0.5, 0.9, 0.95]
    cells, dense = pruned.cells(), TINY.resolved().cells()
    assert len(cells) == len({cell.key for cell in cells}) == 4 * len(dense)
    assert {cell.key for cell in cells if cell.pruner is None} == {cell.key for cell in dense}
    assert {cell.dense.key for cell in cells} == {cell.key for cell in dense}
    assert len({cell.original_key for cell in cells}) == 4 * 2
    sparse = next(cell for cell in cells if cell.pruner)
    assert sparse.described["pruner"] == pruned.pruners[0]
    assert sparse.split_axes == sparse.dense.split_axes
    assert "pruner" not in sparse.dense.described


def test_some_metrics_are_measured_only_when_they_are_named():
    asked_for = [n for n in names("metrics") if getattr(find("metrics", n), "on_request", False)]
    assert not {metric["name"] for metric in TINY.resolved().metrics} & set(asked_for)
    for name in asked_for:
        asked = replace(TINY, metrics=({"name": name},)).resolved()
        assert [metric["name"] for metric in asked.metrics] == [name]


def test_a_folder_stands_for_the_experiments_in_it(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(BASE)
    assert members(str(tmp_path)) == [str(tmp_path / "a.toml"), str(tmp_path / "b.toml")]
    assert members("digits") == ["digits"]
    folders = {name.split("/")[0] for name in experiments() if "/" in name}
    for folder in folders:
        assert members(folder) == [n for n in experiments() if n.startswith(f"{folder}/")]
        assert read(members(folder)[0]).name == members(folder)[0]


def test_key_depends_on_the_contents_of_the_file_of_ids(tmp_path):
    path = written(tmp_path, BASE + '[[scenarios]]\nname = "items"\nfile = "ids.txt"\n')
    (tmp_path / "ids.txt").write_text("1\n2\n")
    before = [cell.key for cell in read(path).cells()]
    (tmp_path / "ids.txt").write_text("1\n3\n")
    assert before != [cell.key for cell in read(path).cells()]


def test_all_methods_forget_the_same_items():
    from oblivio.bench.cell import split_of
    from oblivio.data.source import load

    resolved = replace(TINY, methods=({"name": "fine_tune"},)).resolved()
    source = load(resolved.data)
    by_seed = {}
    for cell in resolved.cells():
        by_seed.setdefault(cell.seed, set()).add(split_of(cell, source).digest)
    assert [len(digests) for digests in by_seed.values()] == [1, 1]
    assert by_seed[0] != by_seed[1]


def test_resolved_experiment_survives_the_file(tmp_path):
    resolved = replace(TINY, methods=({"name": "gradient_ascent"},)).resolved()
    again = read(written(tmp_path, as_toml(resolved)))
    assert [cell.key for cell in again.cells()] == [cell.key for cell in resolved.cells()]


@pytest.mark.parametrize("name", sorted(experiments()))
def test_every_experiment_that_comes_with_oblivio_resolves(name):
    assert read(name).cells()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "seedz = 3", "Did you mean seeds"),
        (BASE + 'seeds = "three"', "seeds"),
        (BASE + "seeds = 0", "seeds"),
        (BASE + "seeds = [1, 1]", "different"),
        (BASE + "scenarios = []", "scenarios is empty"),
        (BASE + '[[methods]]\nname = "fine_tun"', "Did you mean fine_tune"),
        (BASE + '[[methods]]\nname = "fine_tune"\nrecipe = { epoch = 3 }', "Did you mean epochs"),
        (BASE + "[[methods]]\nepochs = 3", "needs a name"),
        (BASE + 'metrics = ["acuracy"]', "Did you mean accuracy"),
        (BASE + "train = { lr = -1.0 }", "above 0"),
        (BASE + "engine = { threads = 0 }", "1 or more"),
        (BASE + '[[scenarios]]\nname = "random"\nfraction = 2.0', "between 0 and 1"),
        ('data = "digits"\nmodel = { name = "mlp" }', "table"),
        ("data = {", "not a TOML file"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as error:
        read(written(tmp_path, text))
    assert "case.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_experiment_names_the_near_ones():
    with pytest.raises(ValueError, match="Did you mean digits"):
        read("digit")


@pytest.mark.parametrize(
    ("same", "originals", "splits"),
    [((), 3, 3), (("split",), 3, 1), (("training",), 1, 3), (("training", "split"), 1, 1)],
)
def test_training_split_and_unlearning_have_seeds_of_their_own(same, originals, splits):
    from oblivio.bench.cell import split_of
    from oblivio.data.source import load

    resolved = replace(TINY, seeds=3, same=same).resolved()
    cells = [c for c in resolved.cells() if c.method["name"] == "original"]
    source = load(resolved.data)
    assert [cell.described["seed"] for cell in cells] == [0, 1, 2]
    assert len({cell.key for cell in cells}) == 3
    assert len({cell.original_key for cell in cells}) == originals
    assert len({split_of(cell, source).digest for cell in cells}) == splits


def test_where_nothing_differs_there_is_one_cell():
    resolved = replace(TINY, seeds=3, same=("training", "split", "unlearning")).resolved()
    assert len(resolved.cells()) == len(replace(TINY, seeds=1).resolved().cells())


def test_an_unknown_chance_is_refused(tmp_path):
    path = written(tmp_path, 'same = ["luck"]\n' + BASE)
    with pytest.raises(ValueError, match="same"):
        read(path)
