"""Where the noisy images come from."""

import torch

from tests.trueface.erasing.build import a_problem, few, small
from trueface.diffusion.sampling import ddim_sample
from trueface.erasing.options import Options
from trueface.erasing.paths import batches, sampled_paths
from trueface.erasing.problem import ErasingProblem, rows


def problem_of(**options: object) -> ErasingProblem:
    return a_problem(few(Options(), **options))


def test_the_points_are_those_that_the_teachers_ddim_sampling_passes_through() -> None:
    teacher, problem = small(), problem_of(guidance=2.0)
    paths = sampled_paths(teacher, 0, 4, problem, problem.generator("paths"))
    noise = torch.randn(4, 1, 4, 4, generator=problem.generator("paths"))
    seen: list[tuple[int, torch.Tensor]] = []
    with torch.no_grad():
        ends = ddim_sample(
            teacher,
            noise,
            rows(teacher, 0, 4),
            steps=3,
            guidance=2.0,
            through=lambda t, point: seen.append((t, point.clone())),
        )
    assert paths.times.tolist() == [t for t, _ in seen] == [1000, 667, 333]
    assert torch.equal(paths.points, torch.stack([point for _, point in seen]))
    assert torch.equal(paths.images, ends)
    assert not paths.points.requires_grad


def test_a_batch_holds_points_of_the_paths_with_their_times() -> None:
    teacher, problem = small(), problem_of(trajectory="concept")
    paths = sampled_paths(teacher, 1, 4, problem, problem.generator("paths"))
    noisy, t = next(batches(teacher, teacher, problem))
    assert noisy.shape == (8, 1, 4, 4)
    for point, time in zip(noisy, t.tolist(), strict=True):
        at = paths.times.tolist().index(time)
        assert any(torch.equal(point, other) for other in paths.points[at])


def test_paths_of_the_anchor_are_not_those_of_the_concept() -> None:
    teacher = small()
    anchor, _ = next(batches(teacher, teacher, problem_of(trajectory="anchor")))
    concept, _ = next(batches(teacher, teacher, problem_of(trajectory="concept")))
    assert not torch.equal(anchor, concept)


def test_own_paths_are_sampled_anew_and_follow_the_model() -> None:
    problem = problem_of(trajectory="own", refresh=1)
    model, same = small(), small()
    points, unchanged = batches(small(), model, problem), batches(small(), same, problem)
    assert torch.equal(next(points)[0], next(unchanged)[0])
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(next(points)[0], next(unchanged)[0])
