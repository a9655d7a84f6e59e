"""The fast membership attack against the plain one, and against what can be known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oblivio.core import Outputs, Run, Split, Trial, predict
from oblivio.data.arrays import Arrays
from oblivio.metrics._attack import attack_rate
from oblivio.metrics.membership import Membership, features, modified_entropy
from oracles_membership import plain_modified_entropy, plain_svc_rate, plain_svc_values

Three = tuple[Tensor, Tensor, Tensor]


# --- Worlds -------------------------------------------------------------------------------------


def confidences(*parts: tuple[float, float, float]) -> Callable[[np.random.Generator, int], Tensor]:
    """Sigmoids of a mixture of Gaussians, (weight, mean, deviation) each."""

    def draw(random: np.random.Generator, n: int) -> Tensor:
        counts = random.multinomial(n, [weight for weight, _, _ in parts])
        x = [random.normal(m, s, k) for (_, m, s), k in zip(parts, counts, strict=True)]
        return torch.from_numpy(np.concatenate(x)).sigmoid()

    return draw


def beta(a: float, b: float) -> Callable[[np.random.Generator, int], Tensor]:
    return lambda random, n: torch.from_numpy(random.beta(a, b, n))


def piled(share: float, rest: float) -> Callable[[np.random.Generator, int], Tensor]:
    """Exact ties at 1, as a bfloat16 model gives them, beside other values."""

    def draw(random: np.random.Generator, n: int) -> Tensor:
        return torch.from_numpy(np.where(random.random(n) < share, 1.0, random.beta(rest, 1, n)))

    return draw


def exponential(scale: float) -> Callable[[np.random.Generator, int], Tensor]:
    return lambda random, n: torch.from_numpy(random.exponential(scale, n))


WORLDS = {
    "accurate": (
        confidences((1, 9, 2)),
        confidences((0.93, 7, 3), (0.07, -2, 2)),
        confidences((0.95, 7, 3), (0.05, -2, 2)),
    ),
    "overfitted": (
        confidences((1, 12, 2)),
        confidences((0.75, 6, 4), (0.25, -3, 3)),
        confidences((0.8, 7, 3), (0.2, -2, 2)),
    ),
    "badly fitted": (confidences((1, 1.2, 2)), confidences((1, 0.9, 2)), confidences((1, 1, 2))),
    "class-wise": (
        confidences((1, 9, 2)),
        confidences((0.93, 7, 3), (0.07, -2, 2)),
        confidences((1, -4, 3)),
    ),
    "beta": (beta(5, 1), beta(3, 1), beta(4, 1)),
    "piled at both ends": (beta(0.5, 0.1), beta(0.5, 0.2), beta(0.5, 0.15)),
    "ties at one": (piled(0.9, 5), piled(0.7, 2), piled(0.8, 3)),
    "alike": (beta(3, 1), beta(3, 1), beta(3, 1)),
    "entropies": (exponential(0.05), exponential(0.2), exponential(0.12)),
    "wide": (exponential(0.5), exponential(3), exponential(1)),
}


def world(name: str, n: int, targets: int, seed: int = 0) -> Three:
    random = np.random.default_rng(seed)
    member, nonmember, target = WORLDS[name]
    return member(random, n), nonmember(random, n), target(random, targets)


def vectors(n: int, classes: int, margin: float, noise: float, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    logits = noise * torch.randn(n, classes, generator=draw, dtype=torch.float64)
    logits[torch.arange(n), torch.arange(n) % classes] += margin
    return logits.softmax(1)


def trial_of(forget: Outputs, retain: Outputs, test: Outputs, model: nn.Module | None = None):
    """A trial whose model passes on its inputs: the logits are the data."""
    start, parts = 0, []
    for logits, labels in (forget, retain, test):
        ids = torch.arange(start, start + len(labels))
        parts.append(Arrays(logits, labels, ids))
        start += len(labels)
    model = model or nn.Identity()
    return Trial(model, model, Split(parts[0], parts[1]), parts[2])


def guesses(n: int, classes: int, margin: float, seed: int, noise: float = 1.5) -> Outputs:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    logits = noise * torch.randn(n, classes, generator=draw)
    logits[torch.arange(n), labels] += margin
    return Outputs(logits, labels)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trial_of(guesses(300, 5, 4, 0), guesses(2000, 5, 5, 1), guesses(800, 5, 3, 2))


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.on("cpu", seed=3)


# --- The attack, against the plain one ----------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_agrees_with_the_plain_classifier(name: str) -> None:
    three = world(name, 1000, 4000)
    # One in 4,000 targets is 0.025 points; the plain one itself is uncertain to about two of them.
    assert attack_rate(*three) == pytest.approx(plain_svc_rate(*three), abs=0.08)
    assert attack_rate(*three) == pytest.approx(plain_svc_rate(*three, tol=1e-7), abs=0.001)


@pytest.mark.parametrize("name", WORLDS)
def test_runs_change_little(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    three = world(name, 10_000, 6000)
    merged = attack_rate(*three)
    monkeypatch.setattr("oblivio.metrics._attack.RUNS", 10**9)
    assert merged == pytest.approx(attack_rate(*three), abs=0.05)


@pytest.mark.parametrize(("classes", "within"), [(3, 0.05), (10, 0.05), (100, 0.1)])
@pytest.mark.parametrize("margin", [1.5, 8.0])
def test_agrees_on_whole_vectors(classes: int, within: float, margin: float) -> None:
    three = (
        vectors(800, classes, margin + 1, 1.5, 0),
        vectors(800, classes, margin, 2, 1),
        vectors(4000, classes, margin + 0.5, 1.8, 2),
    )
    assert attack_rate(*three) == pytest.approx(plain_svc_rate(*three, tol=1e-5), abs=within)


def test_grid_changes_vectors_little(monkeypatch: pytest.MonkeyPatch) -> None:
    three = (vectors(6000, 10, 8, 1.5, 0), vectors(6000, 10, 6, 2, 1), vectors(4000, 10, 7, 2, 2))
    merged = attack_rate(*three)
    monkeypatch.setattr("oblivio.metrics._attack.RUNS", 10**9)
    assert merged == pytest.approx(attack_rate(*three), abs=0.05)


sizes = st.integers(1, 40)


@st.composite
def few_points(draw: st.DrawFn) -> tuple[Three, float]:
    """A handful of points of one feature or some, with ties, narrow and wide, and a penalty."""
    k = draw(st.sampled_from([1, 1, 2, 4]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, ties = draw(st.floats(0.05, 5)), draw(st.booleans())

    def some(n: int) -> Tensor:
        x = scale * random.beta(draw(st.floats(0.3, 5)), 1, (n, k))
        return torch.from_numpy(np.round(x, 1) if ties else x)

    return (some(draw(sizes)), some(draw(sizes)), some(100)), draw(st.floats(0.1, 10))


@settings(max_examples=100, deadline=None)
@given(few_points())
def test_agrees_wherever_the_plain_one_is_certain(case: tuple[Three, float]) -> None:
    three, penalty = case
    values = plain_svc_values(*three, penalty=penalty, tol=1e-7)
    rate = attack_rate(*three, penalty=penalty)
    least, most = (100 * float((values < level).mean()) for level in (-0.01, 0.01))
    assert least - 1e-9 <= rate <= most + 1e-9


def test_ties_merge_exactly() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 30, (2, 40))
    values = np.sort(random.beta(3, 1, (2, 40)))
    members, nonmembers = (
        torch.from_numpy(np.repeat(v, c)) for v, c in zip(values, counts, strict=True)
    )
    targets = torch.from_numpy(random.beta(3, 1, 5000))
    plain = plain_svc_rate(members, nonmembers, targets, tol=1e-9)
    assert attack_rate(members, nonmembers, targets) == pytest.approx(plain, abs=1e-9)


def test_repeating_all_points_is_a_larger_penalty() -> None:
    members, nonmembers, targets = world("beta", 300, 3000)
    tripled = attack_rate(members.repeat(3), nonmembers.repeat(3), targets, penalty=2.0)
    assert tripled == attack_rate(members, nonmembers, targets, penalty=6.0)


def test_does_not_go_in_circles() -> None:
    """A pile at 1 and a small one near 0: with seed 393, Mehrotra's own steps never end."""
    for seed in range(340, 400):
        random = np.random.default_rng(seed)
        n, m = random.integers(1, 300, 2)
        members = np.append(np.ones(n * 30), random.random(3))
        nonmembers = np.append(np.ones(m), random.random(m) * 10 ** random.uniform(-6, -2))
        targets = torch.tensor([0.0, 1.0])
        assert attack_rate(torch.from_numpy(members), torch.from_numpy(nonmembers), targets) >= 0


# --- The attack, against what is known ----------------------------------------------------------


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5, 2.0])
def test_finds_the_bayes_optimal_threshold(shift: float) -> None:
    """Members N(1, 1), non-members N(−1, 1): the best threshold is 0."""
    random = np.random.default_rng(0)
    members, nonmembers, targets = (
        torch.from_numpy(random.normal(mean, 1, 20_000)) for mean in (1, -1, shift)
    )
    nonmember_share = 50 * math.erfc(shift / math.sqrt(2))
    assert attack_rate(members, nonmembers, targets) == pytest.approx(nonmember_share, abs=1)


def test_finds_two_thresholds() -> None:
    """Members N(0, 1), non-members N(0, 4): members lie where |x| < √(8/3 · log 2)."""
    random = np.random.default_rng(0)
    members, nonmembers, targets = (
        torch.from_numpy(random.normal(0, deviation, 20_000)) for deviation in (1, 2, 1)
    )
    nonmember_share = 100 * math.erfc(math.sqrt(8 / 3 * math.log(2)) / math.sqrt(2))
    assert attack_rate(members, nonmembers, targets) == pytest.approx(nonmember_share, abs=3)


def test_nothing_to_tell_apart_is_a_tie_and_ties_are_members() -> None:
    x = world("beta", 500, 100)[0]
    assert attack_rate(x, x, x) == 0
    assert attack_rate(torch.ones(9), torch.ones(9), torch.rand(20)) == 0


def test_the_majority_wins_where_nothing_can_be_told_apart() -> None:
    assert attack_rate(torch.ones(9), torch.ones(10), torch.ones(20)) == 100
    assert attack_rate(torch.ones(10), torch.ones(9), torch.ones(20)) == 0


def test_alike_members_and_targets_are_called_alike() -> None:
    """Targets drawn as the members are get the attack's error on members, and so on."""
    members, nonmembers, _ = world("overfitted", 5000, 1)
    fresh_members, fresh_nonmembers, _ = world("overfitted", 5000, 1, seed=1)
    for old, new in ((members, fresh_members), (nonmembers, fresh_nonmembers)):
        seen, unseen = (attack_rate(members, nonmembers, x) for x in (old, new))
        assert seen == pytest.approx(unseen, abs=3)
    false, true = (attack_rate(members, nonmembers, x) for x in (members, nonmembers))
    assert true - false > 30


@pytest.mark.parametrize("name", WORLDS)
def test_order_plays_no_part(name: str) -> None:
    three = world(name, 5000, 1000)
    draw = torch.Generator().manual_seed(0)
    shuffled = [x[torch.randperm(len(x), generator=draw)] for x in three]
    assert attack_rate(shuffled[0], shuffled[1], shuffled[2]) == attack_rate(*three)


def test_a_row_of_one_number_is_that_number() -> None:
    three = world("accurate", 300, 100)
    rows = [x[:, None].float().double() for x in three]
    assert attack_rate(rows[0], rows[1], rows[2]) == attack_rate(*(x.float() for x in three))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.empty(0), "not be empty"),
        (torch.zeros(2, 2, 2), "shape is \\(2, 2, 2\\)"),
        (torch.tensor([0.5, math.nan]), "NaN or infinity"),
        (torch.zeros(4, 2), "the same features"),
    ],
)
def test_refuses(bad: Tensor, said: str) -> None:
    good = torch.linspace(0, 1, 5)
    for three in ((bad, good, good), (good, bad, good), (good, good, bad)):
        with pytest.raises(ValueError, match=said):
            attack_rate(*three)


# --- Features -----------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(2, 8), st.floats(0, 60), st.integers(0, 1000))
def test_modified_entropy_is_the_loop(n: int, classes: int, margin: float, seed: int) -> None:
    logits, labels = guesses(n, classes, margin, seed)
    p = logits.double().softmax(1)
    computed = modified_entropy(p, labels)
    assert computed.tolist() == pytest.approx(plain_modified_entropy(p, labels), abs=1e-9)
    assert bool((computed >= 0).all())


def test_modified_entropy_looks_at_labels() -> None:
    logits, labels = guesses(100, 5, 2, 0)
    p = logits.double().softmax(1)
    right, wrong = modified_entropy(p, labels), modified_entropy(p, labels.roll(1))
    assert float(wrong.mean()) > 2 * float(right.mean())
    same = torch.full((5, 5), 0.2, dtype=torch.float64)
    assert float(modified_entropy(same, torch.arange(5)).std()) < 1e-12


def test_modified_entropy_is_finite_at_certainty() -> None:
    p = torch.eye(3, dtype=torch.float64)
    right, wrong = (
        modified_entropy(p, torch.arange(3)),
        modified_entropy(p, torch.tensor([1, 2, 0])),
    )
    assert right.tolist() == [0, 0, 0]
    assert wrong.tolist() == pytest.approx([-2 * math.log(1e-12)] * 3)


def test_features_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0], [1.0, 1.0 + math.log(3)]])
    seen = features(Outputs(logits, torch.tensor([0, 0])))
    e = math.exp(2)
    assert seen["efficacy"].tolist() == pytest.approx([e / (1 + e), 0.25])
    assert seen["correctness"].tolist() == [1, 0]
    assert float(seen["entropy"][1]) == pytest.approx(math.log(4) - 0.75 * math.log(3))
    assert seen["probability"].sum(1).tolist() == pytest.approx([1, 1])
    assert {x.dtype for x in seen.values()} == {torch.float64}


# --- The metric ---------------------------------------------------------------------------------


def test_five_rates_within_bounds(trial: Trial, run: Run) -> None:
    rates = Membership()(trial, run)
    assert set(rates) == set(Membership.scores)
    assert all(0 <= rate <= 100 for rate in rates.values())
    assert [n for n, s in Membership.scores.items() if s.headline] == ["mia_efficacy"]
    assert {(s.unit, s.better) for s in Membership.scores.values()} == {("%", "retrain")}


def test_rates_are_the_plain_ones(run: Run) -> None:
    """As many members as test examples: here all of D_r, so that no sample is drawn."""
    forget, retain, test = guesses(400, 4, 4, 0), guesses(600, 4, 5, 1), guesses(600, 4, 3, 2)
    rates = Membership()(trial_of(forget, retain, test), run)
    members, nonmembers, targets = (features(part) for part in (retain, test, forget))
    for name in members:
        plain = plain_svc_rate(members[name], nonmembers[name], targets[name], tol=1e-6)
        assert rates[f"mia_{name}"] == pytest.approx(plain, abs=1e-6), name


def test_same_seed_same_rates_other_seed_other_sample(trial: Trial, run: Run) -> None:
    assert Membership()(trial, run) == Membership()(trial, run)
    assert Membership()(trial, run) != Membership()(trial, Run.on("cpu", seed=4))


def test_leaves_the_random_state(trial: Trial, run: Run) -> None:
    state = torch.get_rng_state()
    Membership()(trial, run)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("retained", "tested"), [(100, 400), (400, 100)])
def test_members_and_nonmembers_are_as_many(
    retained: int, tested: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def record(members: Tensor, nonmembers: Tensor, *, penalty: float) -> Callable[[Tensor], float]:
        sizes.append((len(members), len(nonmembers)))
        return lambda _: penalty

    monkeypatch.setattr("oblivio.metrics.membership.attack", record)
    parts = guesses(50, 5, 4, 0), guesses(retained, 5, 5, 1), guesses(tested, 5, 3, 2)
    rates = Membership(penalty=7.0)(trial_of(*parts), run)
    assert {rate for name, rate in rates.items() if name != "mia_power"} == {7}
    assert sizes == [(100, 100)] * 5


def test_batch_size_plays_no_part(run: Run) -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 5)
    parts = guesses(300, 5, 4, 0), guesses(900, 5, 5, 1), guesses(500, 5, 3, 2)
    one, other = trial_of(*parts, model), trial_of(*parts, model)
    other.__dict__.update(
        on_forget=predict(model, other.split.forget, batch_size=7),
        on_retain=predict(model, other.split.retain, batch_size=7),
        on_unseen=predict(model, other.unseen, batch_size=7),
    )
    assert Membership()(one, run) == pytest.approx(Membership()(other, run), abs=0.01)


def test_a_forgotten_class_is_no_nonmember(run: Run) -> None:
    """A model that has lost class 0 gives its examples away as unseen."""

    def of(labels: Tensor, margin: float, seed: int) -> Outputs:
        draw = torch.Generator().manual_seed(seed)
        logits = torch.randn(len(labels), 3, generator=draw)
        logits[torch.arange(len(labels)), labels] += torch.where(labels == 0, -5.0, margin)
        return Outputs(logits, labels)

    forget = of(torch.zeros(100, dtype=torch.int64), 0, 0)
    retain, test = of(torch.arange(600) % 2 + 1, 6, 1), of(torch.arange(600) % 3, 4, 2)
    trial = trial_of(forget, retain, test)
    assert len(trial.on_unseen.labels) == 400
    assert Membership()(trial, run)["mia_efficacy"] > 95

    only_forgotten = trial_of(forget, retain, of(torch.zeros(50, dtype=torch.int64), 0, 3))
    with pytest.raises(ValueError, match=r"All 50 test examples .* no non-members"):
        Membership()(only_forgotten, run)


def test_correctness_is_the_error_rate_where_members_are_right(run: Run) -> None:
    forget, retain, test = guesses(400, 4, 2, 0), guesses(600, 4, 50, 1), guesses(600, 4, 2, 2)
    rates = Membership()(trial_of(forget, retain, test), run)
    wrong = 100 * float((forget.logits.argmax(1) != forget.labels).double().mean())
    assert rates["mia_correctness"] == pytest.approx(wrong)


def test_penalty_is_checked() -> None:
    with pytest.raises(ValueError, match=r"penalty = 0\.0 must be above 0"):
        Membership(penalty=0.0)


@pytest.mark.parametrize(("margin", "least", "most"), [(5, 45, 55), (0, 60, 100)])
def test_power_is_what_the_plain_attack_tells_right(
    run: Run, margin: float, least: float, most: float
) -> None:
    """A coin, near enough, where members and test data are alike; more where they are not."""
    forget, retain, test = guesses(300, 4, 4, 0), guesses(600, 4, 5, 1), guesses(600, 4, margin, 2)
    power = Membership()(trial_of(forget, retain, test), run)["mia_power"]
    members, nonmembers = (features(part)["efficacy"] for part in (retain, test))
    found = plain_svc_rate(members, nonmembers, nonmembers, tol=1e-6)
    missed = plain_svc_rate(members, nonmembers, members, tol=1e-6)
    assert power == pytest.approx((100 - missed + found) / 2, abs=1e-6)
    assert least < power < most
