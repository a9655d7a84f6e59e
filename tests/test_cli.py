"""The command line as a user meets it."""

import re
from dataclasses import replace

import pytest
from safetensors.torch import load, save_file
from typer.testing import CliRunner

import oblivio
from oblivio import cli
from oblivio.bench import run as bench
from oblivio.bench import spec
from oblivio.bench.store import Store
from oblivio.catalogue import FAMILIES, names
from oblivio.curvature.cache import find
from oblivio.models.mlp import MLP

TINY = """
data = { name = "digits" }
model = { name = "mlp", hidden = [8] }
train = { epochs = 2, lr = 0.05, batch_size = 64 }
seeds = 2
"""


@pytest.fixture
def oblivio_says(capsys, monkeypatch):
    """Call the program as the shell does; gives exit status, output and errors."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["oblivio", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "120")
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_version():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.output.strip() == f"oblivio {oblivio.__version__}"


def test_help_names_every_command():
    result = CliRunner().invoke(cli.app, ["--help"])
    assert all(word in result.output for word in ("run", "report", "fisher", "list"))


@pytest.mark.parametrize("family", [*FAMILIES, "experiments"])
def test_list_prints_a_line_for_every_name(oblivio_says, family):
    status, out, err = oblivio_says("list", family)
    assert status == 0, err
    wanted = names(family) if family in FAMILIES else ["digits", "mnist", "cifar10"]
    for name in wanted:
        assert re.search(rf"^{name} +\S", out, re.MULTILINE)
    assert len(out.strip().splitlines()) >= len(wanted)


def test_methods_of_both_kinds_are_listed_together_and_say_what_they_work_on(oblivio_says):
    both = oblivio_says("list", "methods")[1]
    for name, of in (("ssd", "classifiers"), ("fine_tune", "classifiers"), ("fine_tune", "GANs")):
        assert re.search(rf"^{name} +{of} +\S", both, re.MULTILINE)
    alone = oblivio_says("list", "gan")[1]
    assert "classifiers" not in alone
    assert re.search(r"^fine_tune +GANs +\S", alone, re.MULTILINE)
    everything = oblivio_says("list")[1]
    assert len(re.findall(r"^retrain +GANs", everything, re.MULTILINE)) == 1
    assert "GANs" not in oblivio_says("list", "scenarios")[1]


@pytest.mark.parametrize(
    "words", [("fisher", "x.safetensors"), ("cleanse", "x.safetensors", "--ids", "1")]
)
def test_what_works_on_classifiers_alone_says_so_of_a_gan(oblivio_says, words):
    command, weights, *more = words
    status, _, err = oblivio_says(command, weights, "gan-digits", *more)
    assert status == 2
    assert f"oblivio {command} works on classifiers" in err


def test_run_dry_run_again_and_report(oblivio_says, tiny):
    status, out, _ = oblivio_says("run", tiny, "--dry")
    assert status == 0
    assert "0 done, 4 left" in out
    assert not (tiny.parent / "runs").exists()

    status, out, _ = oblivio_says("run", tiny, "--jobs", 1)
    assert status == 0
    assert "retrain" in out
    folder = tiny.parent / "runs" / "tiny"
    assert {"experiment.toml", "records", "models", "report.html"} == {
        p.name for p in folder.iterdir()
    }

    status, out, _ = oblivio_says("run", tiny)
    assert status == 0
    assert "Nothing to do" in out
    assert "4 done, 0 left" in oblivio_says("run", tiny, "--dry")[1]

    (folder / "report.html").unlink()
    status, out, _ = oblivio_says("report", folder)
    assert status == 0
    assert (folder / "report.html").is_file()


def test_report_leaves_records_of_other_settings_out(oblivio_says, tiny):
    oblivio_says("run", tiny, "--jobs", 1)
    tiny.write_text(TINY.replace("epochs = 2", "epochs = 1"))
    oblivio_says("run", tiny, "--jobs", 1)
    status, out, _ = oblivio_says("report", tiny.parent / "runs" / "tiny")
    assert status == 0
    assert "4 records of other settings" in out


def test_report_needs_neither_the_device_nor_the_users_code(oblivio_says, tiny):
    oblivio_says("run", tiny, "--jobs", 1)
    settings = tiny.parent / "runs" / "tiny" / "experiment.toml"
    text = settings.read_text().replace('device = "cpu"', 'device = "cuda"')
    settings.write_text(text.replace('name = "mlp"', 'name = "gone:network"'))
    status, out, err = oblivio_says("report", settings.parent)
    assert status == 0, err
    assert "retrain" in out


def test_a_folder_of_experiments_is_a_suite(oblivio_says, tiny):
    suite = tiny.parent / "suite"
    suite.mkdir()
    for name in ("one", "two"):
        (suite / f"{name}.toml").write_text(TINY.replace("seeds = 2", "seeds = 1"))
    status, _, err = oblivio_says("run", suite, "--jobs", 1)
    assert status == 0, err
    folder = tiny.parent / "runs" / "suite"
    assert {path.name for path in folder.iterdir()} == {"one", "two", "models"}
    for name in ("one", "two"):
        (folder / name / "report.html").unlink()
    assert oblivio_says("report", folder)[0] == 0
    assert (folder / "two" / "report.html").is_file()


def test_a_failed_cell_is_exit_status_1(oblivio_says, tiny):
    mad = '\n[[methods]]\nname = "fine_tune"\nrecipe = { lr = 1e30 }\n'
    tiny.write_text(TINY + mad)
    status, out, _ = oblivio_says("run", tiny, "--jobs", 1)
    assert status == 1
    assert "learning rate" in out


@pytest.fixture
def trained(oblivio_says, tiny):
    """The file of a trained original."""
    tiny.write_text(TINY.replace("seeds = 2", "seeds = 1"))
    oblivio_says("run", tiny, "--jobs", 1)
    return tiny.parent / "runs" / "tiny" / "models" / f"{spec.read(tiny).cells()[0].original_key}"


def test_fisher_keeps_a_diagonal_beside_the_weights(oblivio_says, tiny, trained):
    weights = trained.with_suffix(".safetensors")
    status, out, err = oblivio_says("fisher", weights, tiny)
    assert status == 0, err
    file = trained.with_suffix(".fisher-data.safetensors")
    assert file.is_file()
    assert f"{file} is written: 0.0 MB, 1437 examples" in out
    assert re.search(r"layer +weights +share of weights +share of information", out)
    shares = re.findall(r"(\d) +[\d,]+ +([\d.]+) % +([\d.]+) %", out)
    assert len(shares) == 2
    for column in (1, 2):
        assert sum(float(row[column]) for row in shares) == pytest.approx(100, abs=0.11)

    before = file.stat().st_mtime_ns
    status, out, _ = oblivio_says("fisher", weights, tiny)
    assert status == 0
    assert "is there already" in out
    assert file.stat().st_mtime_ns == before
    assert oblivio_says("fisher", weights, tiny, "--kind", "model")[0] == 0
    assert trained.with_suffix(".fisher-model.safetensors").is_file()

    # The next request of the experiment finds it, as it stands beside its original.
    store = Store(tiny.parent / "runs" / "tiny")
    source, run = bench.prepare(spec.read(tiny).cells()[0])
    run = replace(run, beside=weights)
    model = run.origin.fresh()
    store.read_model(trained.name, model)
    assert find(model, [source.train], run, "data") is not None


def test_fisher_replaces_what_does_not_fit_and_says_so(oblivio_says, tiny, trained):
    weights = trained.with_suffix(".safetensors")
    file = trained.with_suffix(".fisher-data.safetensors")
    oblivio_says("fisher", weights, tiny)
    good = file.read_bytes()
    file.write_bytes(good[:-9])
    status, out, err = oblivio_says("fisher", weights, tiny)
    assert status == 0
    assert "it is replaced" in err
    assert "is written" in out
    assert load(file.read_bytes()).keys() == load(good).keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fisher", "nowhere.safetensors", "tiny.toml"], "no checkpoint nowhere.safetensors"),
        (["fisher", "tiny.toml", "tiny.toml"], "cannot be read"),
        (["fisher", "w.safetensors", "digitz"], "Did you mean digits"),
        (["fisher", "w.safetensors", "digits"], "does not fit the model"),
        (["fisher", "w.safetensors", "tiny.toml", "--kind", "date"], "Did you mean data"),
        (["fisher", "w.safetensors", "tiny.toml", "--device", "abacus"], "does not fit"),
        (["fisher", "w.safetensors", "tiny.toml", "--data", "nowhere"], "no folder of data sets"),
    ],
)
def test_wrong_use_of_fisher_is_one_sentence(oblivio_says, tiny, unchecked, words, said):
    save_file(MLP((8,))((1, 8, 8), 10).state_dict(), "w.safetensors")
    status, out, err = oblivio_says(*words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err + out
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "digitz"], "Did you mean digits"),
        (["run", "nowhere.toml"], "no experiment file"),
        (["list", "methodz"], "Did you mean methods"),
        (["report", "nowhere"], "no folder of results"),
        (["run", "tiny.toml", "--data", "nowhere"], "no folder of data sets"),
        (["run", "tiny.toml", "--device", "abacus"], "does not fit"),
        (["run", "tiny.toml", "--out", "tiny.toml/x"], "Cannot write to the folder"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_status_2(oblivio_says, tiny, words, said):
    status, out, err = oblivio_says(*words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err + out
    assert len(err.strip().splitlines()) == 1


BAD_DATA = """
import torch
def nan():
    x = torch.randn(60, 4)
    x[7, 2] = float("nan")
    return (x, torch.arange(60) % 2), (x, torch.arange(60) % 2)
def negative():
    return (torch.randn(60, 4), torch.arange(60) - 1), (torch.randn(6, 4), torch.arange(6))
def five():
    return (torch.randn(60, 4), torch.arange(60) % 5), (torch.randn(6, 4), torch.arange(6) % 5)
def two_logits():
    return torch.nn.Linear(4, 2)
def broken():
    raise RuntimeError("no network today")
"""


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ("bad_data:nan", "mlp", "NaN or infinity; the first has id 7"),
        ("bad_data:negative", "mlp", "classes count from 0"),
        ("bad_data:five", "bad_data:two_logits", "label 4, but the model knows 2 classes"),
        ("bad_data:none", "mlp", "Cannot import"),
    ],
)
def test_bad_data_is_one_sentence(oblivio_says, tmp_path, monkeypatch, data, model, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "bad_data", raising=False)
    (tmp_path / "bad_data.py").write_text(BAD_DATA)
    (tmp_path / "case.toml").write_text(
        f'data = {{ name = "{data}" }}\nmodel = {{ name = "{model}" }}'
    )
    status, _, err = oblivio_says("run", "case.toml")
    assert status == 2
    assert said in err


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("ids = [3, 3]", "given twice: 3"),
        ("ids = [99999]", "no examples with these ids: 99999"),
        ('file = "nowhere.csv"', "no file of ids"),
        ('file = "words.csv"', "line 2: 'seven' holds no id"),
        ("ids = []", "ids = [...] or as file"),
        ('file = "all.csv"', "all of the training data"),
    ],
)
def test_bad_forget_sets_are_one_sentence(oblivio_says, tiny, scenario, said):
    (tiny.parent / "words.csv").write_text("id\nseven\n")
    from oblivio.data.sets.digits import Digits

    everything = Digits()().train.ids.tolist()
    (tiny.parent / "all.csv").write_text("\n".join(map(str, everything)))
    tiny.write_text(TINY + f'\n[[scenarios]]\nname = "items"\n{scenario}\n')
    status, _, err = oblivio_says("run", tiny)
    assert status == 2
    assert said in err


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        ('name = "magnitude"\nsparsity = 95.0', "95 % is 0.95"),
        ('name = "magnitude"\nsparsity = 1.0', "from 0 to below 1"),
        ('name = "magnitude"\nsparsity = -0.1', "from 0 to below 1"),
        ('name = "magnitude"\nrewind = -1', "rewind = -1"),
        ('name = "magnitude"\nrewind = 8', "only 2 epochs"),
        ('name = "magnitud"', "Did you mean magnitude"),
    ],
)
def test_bad_pruners_are_one_sentence(oblivio_says, tiny, pruner, said):
    tiny.write_text(TINY + f"\n[[pruners]]\n{pruner}\n")
    status, _, err = oblivio_says("run", tiny)
    assert status == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
